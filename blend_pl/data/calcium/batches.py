"""Batches of calcium activity: windows of some cells of one recording."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.calcium.population import CalciumSession
from blend_pl.data.loader import BatchLoader, BatchSampler, FixedBatchSampler
from blend_pl.utils.device import to_device_async


@dataclass(kw_only=True, repr=False)
class CalciumBatch(Batch):
    """B windows of T frames of N cells; the activity is both observed and the target.

    Attributes:
        embedding_index: (N,) int64, rows of the cells in the embedding table.
        population_context: (B, T, N, 4) float, statistics of the other cells and of the neighbors of each cell.
    """

    embedding_index: Tensor
    population_context: Tensor

    def inputs(self) -> tuple[Tensor, ...]:
        """Returns the activity, the embedding rows and the population context."""
        return self.observed, self.embedding_index, self.population_context


@dataclass(frozen=True)
class WindowBatchIndex:
    """Recording, cells and windows of one batch.

    Attributes:
        session: index of the recording.
        cells: (N,) int64 columns of its activity.
        starts: (B,) int64 first frames of the windows of this rank.
        global_rows: (B,) int64 positions of these windows among the windows of all ranks.
        global_size: number of windows of all ranks.
    """

    session: int
    cells: Tensor
    starts: Tensor
    global_rows: Tensor
    global_size: int


class RandomWindowSampler:
    """Draws random windows of a random recording and a random sample of its cells for each step.

    Args:
        start_ranges: (first, last) start frame of a window, for each recording.
        cells: columns to draw from, for each recording; recordings without any are skipped.
        n_steps: batches per epoch.
        n_windows: windows per batch and rank.
        n_cells: maximum number of cells per batch.
        seed: seed of the run, equal on all ranks.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        start_ranges: Sequence[tuple[int, int]],
        cells: Sequence[Tensor],
        n_steps: int,
        n_windows: int,
        n_cells: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.start_ranges, self.cells = start_ranges, cells
        self.n_steps, self.n_windows, self.n_cells = n_steps, n_windows, n_cells
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[WindowBatchIndex]:
        rng = np.random.default_rng((self.seed, self.epoch))
        nonempty_sessions = [session_number for session_number, cells in enumerate(self.cells) if len(cells)]
        global_size = self.n_windows * self.world_size
        rows = torch.arange(global_size)[self.rank :: self.world_size]
        for _ in range(self.n_steps):
            session = int(rng.choice(nonempty_sessions))
            first_start, last_start = self.start_ranges[session]
            starts = torch.from_numpy(rng.integers(first_start, last_start, global_size, endpoint=True))
            cells = self.cells[session]
            sampled_columns = torch.from_numpy(rng.permutation(len(cells))[: self.n_cells]).sort().values
            yield WindowBatchIndex(session, cells[sampled_columns], starts[rows], rows, global_size)


class SequentialWindowSampler(FixedBatchSampler[WindowBatchIndex]):
    """Goes through the adjacent windows of all cells of all recordings in order.

    Args:
        start_ranges: (first, last) start frame of a window, for each recording.
        cells: columns to include, for each recording.
        window: frames per window.
        n_windows: maximum number of windows per batch and rank.
        n_cells: maximum number of cells per batch.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        start_ranges: Sequence[tuple[int, int]],
        cells: Sequence[Tensor],
        window: int,
        n_windows: int,
        n_cells: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        batch_indices = []
        for session, (first_start, last_start) in enumerate(start_ranges):
            for cell_chunk in cells[session].split(n_cells) if len(cells[session]) else ():
                for starts in torch.arange(first_start, last_start + 1, window).split(n_windows * world_size):
                    rows = torch.arange(len(starts))[rank::world_size]
                    batch_indices.append(WindowBatchIndex(session, cell_chunk, starts[rows], rows, len(starts)))
        super().__init__(batch_indices)


class CalciumLoader(BatchLoader[WindowBatchIndex, CalciumBatch]):
    """Iterates over `CalciumBatch`es on the device of the sessions.

    Args:
        sessions: the recordings.
        sampler: yields the index of each batch. Lightning sets its epoch.
        window: frames per window.
        embedding_index: (C,) row of each cell of the data set in the embedding table.
    """

    def __init__(
        self,
        sessions: Sequence[CalciumSession],
        sampler: BatchSampler[WindowBatchIndex],
        window: int,
        embedding_index: Tensor,
    ) -> None:
        super().__init__(sampler)
        self.sessions, self.window = sessions, window
        self.embedding_index = embedding_index.to(sessions[0].activity.device)

    def gather(self, batch_index: WindowBatchIndex) -> CalciumBatch:
        return gather_windows(self.sessions[batch_index.session], batch_index, self.window, self.embedding_index)


def gather_windows(
    session: CalciumSession, batch_index: WindowBatchIndex, window: int, embedding_index: Tensor
) -> CalciumBatch:
    """Gathers one batch of a recording.

    Args:
        session: the recording.
        batch_index: windows and cells of the batch.
        window: frames per window.
        embedding_index: (C,) row of each cell of the data set in the embedding table, on the session's device.
    """
    device = session.activity.device
    starts, cells, rows = (
        to_device_async(values, device) for values in (batch_index.starts, batch_index.cells, batch_index.global_rows)
    )
    frames = starts[:, None] + torch.arange(window, device=device)
    window_entries = frames[..., None], cells
    activity = session.activity[window_entries]
    return CalciumBatch(
        observed=activity,
        target=activity,
        target_valid=session.valid[window_entries],
        index=starts,
        global_rows=rows,
        global_size=batch_index.global_size,
        privileged=session.behavior[frames],
        privileged_valid=session.behavior_valid[frames],
        embedding_index=embedding_index[session.cell_index[cells]],
        population_context=session.population_context[window_entries],
    )
