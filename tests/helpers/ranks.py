"""Metrics of several ranks in one process, with a replacement of the gathering in torchmetrics."""

import torch
from torch import Tensor
from torchmetrics import Metric


def compute_synced(ranks: list[Metric]) -> Tensor:
    """Returns `ranks[0].compute()` as if each metric of the list were on a separate rank."""
    names = iter(ranks[0].metric_state)

    def gather(state: Tensor, group: object = None) -> list[Tensor]:
        name = next(names)
        assert torch.equal(state, getattr(ranks[0], name))
        return [getattr(rank, name) for rank in ranks]

    ranks[0].dist_sync_fn = gather
    ranks[0].distributed_available_fn = lambda: True
    return ranks[0].compute()


def deal(n_items: int, seed: int, n_ranks: int, n_batches: int) -> list[list[Tensor]]:
    """Divides a permutation of 0 .. n_items - 1 into `n_batches` batches, possibly empty, for each of `n_ranks`."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_items, generator=generator)
    batch_of = torch.randint(n_ranks * n_batches, (n_items,), generator=generator)
    return [[order[batch_of == rank * n_batches + batch] for batch in range(n_batches)] for rank in range(n_ranks)]
