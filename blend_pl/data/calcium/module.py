"""Calcium recordings with cell types as LightningDataModules: read or simulated, divided, served as batches."""

from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor

from blend_pl.data.calcium.archive import fetch
from blend_pl.data.calcium.batches import Cut, EveryWindow, PopulationBatch, PopulationBatches, RandomWindows, gather
from blend_pl.data.calcium.cells import TRAIN, gather_cells, require_disjoint
from blend_pl.data.calcium.population import Population, prepare
from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.calcium.simulation import TreeSimulation, write_tree
from blend_pl.data.calcium.spec import CalciumSpec
from blend_pl.data.calcium.tree import read_tree
from blend_pl.data.io.generated import folder_of, settings_of
from blend_pl.data.loader import Plan
from blend_pl.data.nlb.session import Signature
from blend_pl.errors import ConfigError, DataError


class CalciumDataModule(L.LightningDataModule):
    """Base class: a subclass says where recordings come from, this class divides and serves them.

    Cells are divided into train, val and test, time into training and validation time. The network is trained on train
    cells in training time, and the checkpoint is chosen on train cells in validation time. Cells of the other sides
    have no row in its table of embeddings; `every_cell` serves them to whoever fits theirs.

    Args:
        spec: what the data set is made of.
        root: data folder.
        window: frames of a window.
        n_windows: windows a training batch, per process.
        n_cells: cells a batch, at most; all of one recording.
        n_steps: training batches an epoch.
        n_windows_eval: windows a batch when nothing is trained.
    """

    phase = "held-out cells"
    """What is scored, for the record."""

    def __init__(
        self,
        spec: CalciumSpec,
        root: str = "data",
        window: int = 200,
        n_windows: int = 2,
        n_cells: int = 512,
        n_steps: int = 100,
        n_windows_eval: int = 8,
    ) -> None:
        super().__init__()
        self.spec, self.root, self.window = spec, Path(root), window
        self.n_windows, self.n_cells, self.n_steps = n_windows, n_cells, n_steps
        self.n_windows_eval = n_windows_eval
        self.populations: list[Population] = []

    def read(self) -> list[CalciumRecording]:
        """The recordings.

        Raises:
            DataError: there are none, or one cannot be used.
        """
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Reads the recordings, divides cells and time, and fits the z-scores; safe in many processes at once.

        Raises:
            DataError: a recording cannot be used, or is shorter than two windows.
        """
        if self.populations:
            return
        recordings = self.read()
        self.cells = gather_cells(recordings, self.spec.cells, self.spec.types)
        require_disjoint(self.cells, recordings)
        self.frame_ms = round(1000 * float(np.median(np.diff(recordings[0].times))))
        self.populations = [
            prepare(recording, self.cells.rows(recording), self.spec.train_time, self.spec.radius)
            for recording in recordings
        ]
        for population in self.populations:
            short = min(population.train_frames, len(population.activity) - population.train_frames)
            if short < self.window:
                raise DataError(
                    f"{population.name} has {population.train_frames} frames of training time and "
                    f"{len(population.activity) - population.train_frames} after them, a window {self.window}; lower "
                    "data.window or change data.spec.train_time"
                )

    @property
    def signature(self) -> Signature:
        """What a model must agree with to run on these recordings: its units are the training cells."""
        trained = tuple(self.cells.cell[self.cells.on(TRAIN)].tolist())
        n_privileged = self.populations[0].behavior.shape[1]
        return Signature(self.spec.name, self.frame_ms, self.window, 0, len(trained), n_privileged, trained)

    @property
    def selection(self) -> str:
        """How the checkpoint is chosen, for the record."""
        n = sum(len(range(first, last + 1, self.window)) for first, last in self._spans("val"))
        return f"reconstruction in validation time ({n} windows)"

    @property
    def reports_behavior(self) -> bool:
        """Whether there is behaviour, which a teacher must see."""
        return any(bool(population.behavior_valid.any()) for population in self.populations)

    def train_dataloader(self) -> PopulationBatches:
        """Random windows of training time x random train cells."""
        seed, rank, world_size = self._chance()
        plan = RandomWindows(
            self._spans("train"),
            self._columns(TRAIN),
            self.n_steps,
            self.n_windows,
            self.n_cells,
            seed,
            rank,
            world_size,
        )
        return self._batches(plan)

    def val_dataloader(self) -> PopulationBatches:
        """All train cells in validation time."""
        _, rank, world_size = self._chance()
        return self._batches(self._every("val", rank, world_size))

    def test_dataloader(self) -> PopulationBatches:
        """What `val_dataloader` serves; the cells that are scored are the evaluation callback's matter."""
        return self.val_dataloader()

    def predict_dataloader(self) -> PopulationBatches:
        """Nothing: there are no rates to predict.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"predict writes rates of spikes, and {self.spec.name} is calcium; the embeddings of its cells are in "
            "embeddings.h5 of the run, and `test` fits them again"
        )

    def calibration_dataloader(self) -> PopulationBatches:
        """Training time of one recording, the same cells in every batch, the same on every rank."""
        plan = self._every("train")
        of_first = [cut for cut in plan.cuts if cut.recording == plan.cuts[0].recording]
        plan.cuts = [cut for cut in of_first if torch.equal(cut.cells, of_first[0].cells)]
        return self._batches(plan)

    def every_cell(self, part: Literal["train", "val"], device: torch.device) -> list[list[PopulationBatch]]:
        """All cells of all sides; a batch's `neurons` are rows of `cells`.

        Args:
            part: training or validation time.
            device: where the batches shall lie.

        Returns:
            For each set of cells of one recording, the batches of all windows: of training time as many a batch as in
            training.
        """
        columns = [torch.arange(len(population.cell)) for population in self.populations]
        n_windows = self.n_windows if part == "train" else self.n_windows_eval
        plan = EveryWindow(self._spans(part), columns, self.window, n_windows, self.n_cells)
        populations = [population.to(device) for population in self.populations]
        table = torch.arange(len(self.cells), device=device)
        blocks: dict[tuple[int, int], list[PopulationBatch]] = {}
        for cut in plan:
            batch = gather(populations[cut.recording], cut, self.window, table)
            blocks.setdefault((cut.recording, int(cut.cells[0])), []).append(batch)
        return list(blocks.values())

    def _spans(self, part: Literal["train", "val"]) -> list[tuple[int, int]]:
        """First and last frame at which a window of each recording may start."""
        if part == "train":
            return [(0, p.train_frames - self.window) for p in self.populations]
        return [(p.train_frames, len(p.activity) - self.window) for p in self.populations]

    def _columns(self, side: str) -> list[Tensor]:
        wanted = torch.from_numpy(self.cells.side == side)
        return [wanted[population.cell].nonzero()[:, 0] for population in self.populations]

    def _every(self, part: Literal["train", "val"], rank: int = 0, world_size: int = 1) -> EveryWindow:
        columns = self._columns(TRAIN)
        return EveryWindow(self._spans(part), columns, self.window, self.n_windows_eval, self.n_cells, rank, world_size)

    def _chance(self) -> tuple[int, int, int]:
        """Seed, rank and number of processes."""
        if self.trainer is None:
            return 0, 0, 1
        seed = self.trainer.strategy.broadcast(torch.initial_seed())
        return seed, self.trainer.global_rank, self.trainer.world_size

    def _batches(self, plan: Plan[Cut]) -> PopulationBatches:
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        table = torch.full((len(self.cells),), -1)
        trained = torch.from_numpy(self.cells.on(TRAIN))
        table[trained] = torch.arange(len(trained))
        return PopulationBatches([p.to(device) for p in self.populations], plan, self.window, table)


class BugeonDataModule(CalciumDataModule):
    """The published tree of Bugeon et al. (2022), or a simulated tree of the same layout.

    Args:
        spec: what the data set is made of.
        root: data folder; the tree is searched in it, and downloaded or simulated into it.
        source: "files" reads the published tree; "simulated" writes a tree of `simulation` first and reads that.
        simulation: parameters of the simulated tree.
        window: see `CalciumDataModule`.
        n_windows: see `CalciumDataModule`.
        n_cells: see `CalciumDataModule`.
        n_steps: see `CalciumDataModule`.
        n_windows_eval: see `CalciumDataModule`.
    """

    def __init__(
        self,
        spec: CalciumSpec,
        root: str = "data",
        source: Literal["files", "simulated"] = "files",
        simulation: TreeSimulation = TreeSimulation(),  # noqa: B008
        window: int = 200,
        n_windows: int = 2,
        n_cells: int = 512,
        n_steps: int = 100,
        n_windows_eval: int = 8,
    ) -> None:
        super().__init__(spec, root, window, n_windows, n_cells, n_steps, n_windows_eval)
        self.source, self.simulation = source, simulation

    def read(self) -> list[CalciumRecording]:
        """The runs that the spec names, of the published or the simulated tree."""
        if self.source == "files":
            return read_tree(self.spec, fetch(self.spec, self.root))
        folder = folder_of(self.root, settings_of(self.simulation), "tree-")
        write_tree(self.simulation, folder)
        return read_tree(self.spec, folder)
