"""Batches of calcium activity: windows of one recording x some of its cells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.calcium.population import Population
from blend_pl.data.loader import FixedPlan, Plan, PlannedBatches
from blend_pl.utils.device import sent


@dataclass(kw_only=True)
class PopulationBatch(Batch):
    """B windows of T frames of N cells; everything is observed and everything is a target.

    Attributes:
        neurons: (N,) int64, rows of the cells in the table of embeddings.
        surroundings: (B, T, N, 4) float, what each cell is surrounded by, without the cell itself.
    """

    neurons: Tensor
    surroundings: Tensor

    def inputs(self) -> tuple[Tensor, ...]:
        """Activity, rows of the cells, and surroundings."""
        return self.observed, self.neurons, self.surroundings


@dataclass(frozen=True)
class Cut:
    """Where one batch is cut from.

    Attributes:
        recording: which population.
        cells: (N,) int64 columns of its activity.
        starts: (B,) int64 first frames of this rank's windows.
        rows: (B,) int64 their positions among the windows of all ranks.
        global_size: number of windows of all ranks.
    """

    recording: int
    cells: Tensor
    starts: Tensor
    rows: Tensor
    global_size: int


class RandomWindows:
    """Random windows of a random recording, and a random sample of its cells, for each step.

    Args:
        spans: (first, last) frame at which a window of each recording may start.
        cells: columns of each recording that may be drawn.
        n_steps: batches an epoch.
        n_windows: windows a batch, per rank.
        n_cells: cells a batch, at most.
        seed: the run's seed, equal on all ranks.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        spans: Sequence[tuple[int, int]],
        cells: Sequence[Tensor],
        n_steps: int,
        n_windows: int,
        n_cells: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.spans, self.cells = spans, cells
        self.n_steps, self.n_windows, self.n_cells = n_steps, n_windows, n_cells
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[Cut]:
        rng = np.random.default_rng((self.seed, self.epoch))
        drawable = [number for number, cells in enumerate(self.cells) if len(cells)]
        size = self.n_windows * self.world_size
        rows = torch.arange(size)[self.rank :: self.world_size]
        for _ in range(self.n_steps):
            recording = int(rng.choice(drawable))
            first, last = self.spans[recording]
            starts = torch.from_numpy(rng.integers(first, last, size, endpoint=True))
            cells = self.cells[recording]
            chosen = torch.from_numpy(rng.permutation(len(cells))[: self.n_cells]).sort().values
            yield Cut(recording, cells[chosen], starts[rows], rows, size)


class EveryWindow(FixedPlan[Cut]):
    """Windows side by side through all recordings, and all cells, in order.

    Args:
        spans: (first, last) frame at which a window of each recording may start.
        cells: columns of each recording that are wanted.
        window: frames of a window.
        n_windows: windows a batch, per rank, at most.
        n_cells: cells a batch, at most.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        spans: Sequence[tuple[int, int]],
        cells: Sequence[Tensor],
        window: int,
        n_windows: int,
        n_cells: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        cuts = []
        for recording, (first, last) in enumerate(spans):
            for part in cells[recording].split(n_cells) if len(cells[recording]) else ():
                for starts in torch.arange(first, last + 1, window).split(n_windows * world_size):
                    rows = torch.arange(len(starts))[rank::world_size]
                    cuts.append(Cut(recording, part, starts[rows], rows, len(starts)))
        super().__init__(cuts)


class PopulationBatches(PlannedBatches[Cut, PopulationBatch]):
    """Iterates over `PopulationBatch`es on the device where the populations lie.

    Args:
        populations: the recordings.
        plan: which batches there are. Lightning sets its epoch.
        window: frames of a window.
        table: (C,) row of each cell of the data set in the table of embeddings.
    """

    def __init__(self, populations: Sequence[Population], plan: Plan[Cut], window: int, table: Tensor) -> None:
        super().__init__(plan)
        self.populations, self.window = populations, window
        self.table = table.to(populations[0].activity.device)

    def cut(self, cut: Cut) -> PopulationBatch:
        return gather(self.populations[cut.recording], cut, self.window, self.table)


def gather(population: Population, cut: Cut, window: int, table: Tensor) -> PopulationBatch:
    """Cuts one batch out of a recording."""
    device = population.activity.device
    starts, cells, rows = (sent(part, device) for part in (cut.starts, cut.cells, cut.rows))
    frames = starts[:, None] + torch.arange(window, device=device)
    block = frames[..., None], cells
    activity = population.activity[block]
    return PopulationBatch(
        observed=activity,
        target=activity,
        target_valid=population.valid[block],
        index=starts,
        rows=rows,
        global_size=cut.global_size,
        privileged=population.behavior[frames],
        privileged_valid=population.behavior_valid[frames],
        neurons=table[population.cell[cells]],
        surroundings=population.surroundings[block],
    )
