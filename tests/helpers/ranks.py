"""Several ranks in one process: torchmetrics' own synchronisation with the gathering played by hand."""

import torch
from torch import Tensor
from torchmetrics import Metric


def compute_synced(ranks: list[Metric]) -> Tensor:
    """What `ranks[0].compute()` returns when every metric of the list lives on its own rank."""
    names = iter(ranks[0].metric_state)

    def gather(state: Tensor, group: object = None) -> list[Tensor]:
        name = next(names)
        assert torch.equal(state, getattr(ranks[0], name))
        return [getattr(rank, name) for rank in ranks]

    ranks[0].dist_sync_fn = gather
    ranks[0].distributed_available_fn = lambda: True
    return ranks[0].compute()


def deal(n_items: int, seed: int, n_ranks: int, n_batches: int) -> list[list[Tensor]]:
    """All of 0 .. n_items - 1 in random order, as `n_batches` batches (some perhaps empty) for each of `n_ranks`."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_items, generator=generator)
    place = torch.randint(n_ranks * n_batches, (n_items,), generator=generator)
    return [[order[place == rank * n_batches + batch] for batch in range(n_batches)] for rank in range(n_ranks)]
