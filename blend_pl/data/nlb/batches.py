"""Sampling of trials, and batches gathered from the session's tensors without workers or collation."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.loader import BatchLoader
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.standardize import Standardizer
from blend_pl.utils.device import to_device_async

TrialBatchIndex = tuple[Tensor, Tensor, int]
"""Trials of this rank, their positions in the global batch, and the size of the global batch."""


class TrialSampler:
    """Divides trials into global batches and each batch over the ranks; every trial occurs once per epoch.

    Args:
        n_trials: number of trials.
        batch_size: trials per batch and rank.
        shuffle: whether to draw a new order in each epoch; it depends only on `seed` and the epoch.
        seed: the run's seed, equal on all ranks.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self, n_trials: int, batch_size: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.n_trials, self.shuffle, self.seed = n_trials, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        starts = list(range(0, n_trials, batch_size * world_size))
        # Without a trial for every rank in the last global batch, ranks would wait for one another forever.
        if len(starts) > 1 and n_trials - starts[-1] < world_size:
            starts.pop()
        self.batch_bounds = [*starts, n_trials]

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which determines the order; called by Lightning."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.batch_bounds) - 1

    def __iter__(self) -> Iterator[TrialBatchIndex]:
        order = torch.arange(self.n_trials)
        if self.shuffle:
            order = torch.from_numpy(np.random.default_rng((self.seed, self.epoch)).permutation(self.n_trials))
        for start, stop in zip(self.batch_bounds[:-1], self.batch_bounds[1:], strict=True):
            global_rows = torch.arange(stop - start)[self.rank :: self.world_size]
            yield order[start:stop][global_rows], global_rows, stop - start


class TrialLoader(BatchLoader[TrialBatchIndex, Batch]):
    """Iterates over a session's trials as `Batch`es on the session's device.

    Args:
        session: tensors of the trials.
        standardizer: z-score of the privileged series.
        sampler: orders and divides the trials; Lightning sets its epoch.
    """

    def __init__(self, session: SessionTensors, standardizer: Standardizer[Tensor], sampler: TrialSampler) -> None:
        super().__init__(sampler)
        self.session, self.standardizer = session, standardizer.to(session.spikes.device)

    def gather(self, batch_index: TrialBatchIndex) -> Batch:
        session = self.session
        index, global_rows = (to_device_async(indices, session.spikes.device) for indices in batch_index[:2])
        target = session.spikes[index].float()
        behavior = session.behavior[index]
        valid = behavior.isfinite()
        return Batch(
            observed=target[:, : session.n_observed, : session.n_heldin],
            target=target,
            target_valid=session.valid_mask(index),
            index=index,
            global_rows=global_rows,
            global_size=batch_index[2],
            privileged=torch.where(valid, self.standardizer.transform(behavior), 0.0),
            privileged_valid=valid,
        )
