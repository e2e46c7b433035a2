"""Data modules of calcium recordings with cell types."""

from abc import abstractmethod
from typing import Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from blend_pl.data.base import NeuralDataModule
from blend_pl.data.calcium.batches import (
    CalciumBatch,
    CalciumLoader,
    RandomWindowSampler,
    SequentialWindowSampler,
    WindowBatchIndex,
    gather_windows,
)
from blend_pl.data.calcium.cells import TRAIN, require_disjoint_splits, split_cells
from blend_pl.data.calcium.population import CalciumSession, build_calcium_session
from blend_pl.data.calcium.reading import locate_bugeon_dataset, read_bugeon_recordings, read_nwb_recordings
from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.calcium.simulation import BugeonSimulation
from blend_pl.data.calcium.spec import CalciumNWBNames, CalciumSpec
from blend_pl.data.calcium.types import is_untyped
from blend_pl.data.digest import content_digest, record_digest
from blend_pl.data.loader import BatchSampler
from blend_pl.data.signature import Signature
from blend_pl.errors import ConfigError, DataError
from blend_pl.utils.checks import COUNT, check_range

LABEL_FIELDS = ("name", "notes")
"""Fields of recordings that describe them and are not part of their data."""


class CalciumDataModule(NeuralDataModule):
    """Base class of calcium data modules; subclasses implement `read`.

    Cells are divided into train, val and test cells, and the frames of each recording into *training time* (the first
    `spec.train_time`) and *validation time*. The network is trained on train cells in training time, and the checkpoint
    is selected on train cells in validation time. Val and test cells have no row in the embedding table;
    `all_cell_batches` returns their batches, to fit their embeddings.

    Args:
        spec: the data set.
        root: data folder.
        window: frames per window.
        n_windows: windows per training batch and process.
        n_cells: maximum number of cells per batch, all of one recording.
        n_steps: training batches per epoch.
        n_windows_eval: windows per batch outside of training.
    """

    phase = "held-out cells"
    """Name of the scored data in the results."""

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
        super().__init__(root)
        check_range(COUNT, window=window, n_windows=n_windows, n_cells=n_cells, n_steps=n_steps)
        check_range(COUNT, n_windows_eval=n_windows_eval)
        self.spec, self.window = spec, window
        self.n_windows, self.n_cells, self.n_steps = n_windows, n_cells, n_steps
        self.n_windows_eval = n_windows_eval
        self.sessions: list[CalciumSession] = []
        self.recording_digests: list[str] = []

    @abstractmethod
    def read(self) -> list[CalciumRecording]:
        """Reads the recordings.

        Raises:
            DataError: there is no recording, or one cannot be used.
        """

    def describe(self) -> str:
        """Describes the recordings in a line, for `repr`."""
        sessions = f"{len(self.sessions)} sessions, {self.signature}" if self.sessions else "not set up"
        return f"{self.spec.name}; {sessions}"

    def setup(self, stage: str) -> None:
        """Reads the recordings, divides cells and time, and fits the z-scores; safe across processes.

        Raises:
            DataError: a recording cannot be used, or its training or validation time is shorter than a window.
        """
        if self.sessions:
            return
        recordings = self.read()
        for recording in recordings:
            for note in recording.notes:
                rank_zero_info(note)
        self.cells = split_cells(recordings, self.spec.cells, self.spec.types)
        require_disjoint_splits(self.cells, recordings)
        self.recording_digests = [record_digest(recording, ignore=LABEL_FIELDS) for recording in recordings]
        self._log_untyped_cells()
        self.frame_ms = round(1000 * float(np.median(np.diff(recordings[0].times))))
        self.sessions = [
            build_calcium_session(
                recording, self.cells.rows_of_recording(recording), self.spec.train_time, self.spec.radius
            )
            for recording in recordings
        ]
        for session in self.sessions:
            n_val_frames = len(session.activity) - session.n_train_frames
            if min(session.n_train_frames, n_val_frames) < self.window:
                raise DataError(
                    f"{session.name} has {session.n_train_frames} frames of training time and "
                    f"{n_val_frames} of validation time, fewer than a window of "
                    f"{self.window}; lower data.window or change data.spec.train_time"
                )
            has_activity = session.valid.any(dim=1)
            n_train_valid = int(has_activity[: session.n_train_frames].sum())
            n_val_valid = int(has_activity[session.n_train_frames :].sum())
            if min(n_train_valid, n_val_valid) < self.window:
                raise DataError(
                    f"{session.name} has {n_train_valid} valid frames of training time and {n_val_valid} of validation "
                    f"time, fewer than a window of {self.window}, because the others are NaN or in invalid_times; "
                    "lower data.window, change data.spec.train_time, or leave this session out"
                )

    def _log_untyped_cells(self) -> None:
        labels = [label for label in self.cells.label if is_untyped(label, self.spec.types)]
        if labels:
            share = 100 * len(labels) / len(self.cells)
            rank_zero_info(
                f"{len(labels)} of {len(self.cells)} cells ({share:.0f} %) are of unknown type and in no score of cell "
                f"types: {', '.join(repr(str(label)) for label in sorted(set(labels)))}"
            )

    @property
    def signature(self) -> Signature:
        """Sizes and ids on which a model must agree; the units are the training cells."""
        train_cell_ids = tuple(self.cells.cell_id[self.cells.rows_in_split(TRAIN)].tolist())
        n_privileged = self.sessions[0].behavior.shape[1]
        return Signature(
            self.spec.name, self.frame_ms, self.window, 0, len(train_cell_ids), n_privileged, train_cell_ids
        )

    @property
    def digest(self) -> str:
        """Digest of the recordings, and of the division of their cells and time."""
        n_train_frames = [session.n_train_frames for session in self.sessions]
        return content_digest([self.recording_digests, self.cells.cell_id, self.cells.split, n_train_frames])

    @property
    def selection(self) -> str:
        """Describes how the checkpoint is selected, for the results."""
        n_windows = sum(
            len(range(first_start, last_start + 1, self.window))
            for first_start, last_start in self._start_ranges("val")
        )
        return f"reconstruction in validation time ({n_windows} windows)"

    @property
    def eval_has_behavior(self) -> bool:
        """Whether any recording has behavior, which a teacher needs as input."""
        return any(bool(session.behavior_valid.any()) for session in self.sessions)

    def train_dataloader(self) -> CalciumLoader:
        """Returns random windows in training time of random train cells."""
        seed, rank, world_size = self.seed_and_rank()
        sampler = RandomWindowSampler(
            self._start_ranges("train"),
            self._cell_columns(TRAIN),
            self.n_steps,
            self.n_windows,
            self.n_cells,
            seed,
            rank,
            world_size,
        )
        return self._make_loader(sampler)

    def val_dataloader(self) -> CalciumLoader:
        """Returns all windows in validation time of all train cells."""
        _, rank, world_size = self.seed_and_rank()
        return self._make_loader(self._sequential_sampler("val", rank, world_size))

    def test_dataloader(self) -> CalciumLoader:
        """Returns the batches of `val_dataloader`; `IdentityEvaluation` scores held-out cells."""
        return self.val_dataloader()

    def predict_dataloader(self) -> CalciumLoader:
        """Raises an error, because there are no rates to predict.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"predict writes rates of spikes, but {self.spec.name} is calcium; the embeddings of its cells are in "
            "embeddings.h5 of the run, and `test` fits them again"
        )

    def calibration_dataloader(self) -> CalciumLoader:
        """Returns training time of one recording: the same cells in every batch, the same batches on every rank."""
        sampler = self._sequential_sampler("train")
        first_session_batches = [
            batch_index
            for batch_index in sampler.batch_indices
            if batch_index.session == sampler.batch_indices[0].session
        ]
        sampler.batch_indices = [
            batch_index
            for batch_index in first_session_batches
            if torch.equal(batch_index.cells, first_session_batches[0].cells)
        ]
        return self._make_loader(sampler)

    def all_cell_batches(self, subset: Literal["train", "val"], device: torch.device) -> list[list[CalciumBatch]]:
        """Gathers batches of all train, val and test cells, with rows of `cells` as their `embedding_index`.

        Args:
            subset: training or validation time.
            device: device of the batches.

        Returns:
            For each chunk of cells of one recording, the batches of all its windows: `n_windows` per batch in training
            time, `n_windows_eval` in validation time.
        """
        cell_columns = [torch.arange(len(session.cell_index)) for session in self.sessions]
        n_windows = self.n_windows if subset == "train" else self.n_windows_eval
        sampler = SequentialWindowSampler(
            self._start_ranges(subset), cell_columns, self.window, n_windows, self.n_cells
        )
        sessions = [session.to(device) for session in self.sessions]
        embedding_index = torch.arange(len(self.cells), device=device)
        batches_by_cells: dict[tuple[int, int], list[CalciumBatch]] = {}
        for batch_index in sampler:
            batch = gather_windows(sessions[batch_index.session], batch_index, self.window, embedding_index)
            batches_by_cells.setdefault((batch_index.session, int(batch_index.cells[0])), []).append(batch)
        return list(batches_by_cells.values())

    def _start_ranges(self, subset: Literal["train", "val"]) -> list[tuple[int, int]]:
        """Returns the (first, last) start frame of a window for each recording."""
        if subset == "train":
            return [(0, session.n_train_frames - self.window) for session in self.sessions]
        return [(session.n_train_frames, len(session.activity) - self.window) for session in self.sessions]

    def _cell_columns(self, split: str) -> list[Tensor]:
        in_split = torch.from_numpy(self.cells.split == split)
        return [in_split[session.cell_index].nonzero()[:, 0] for session in self.sessions]

    def _sequential_sampler(
        self, subset: Literal["train", "val"], rank: int = 0, world_size: int = 1
    ) -> SequentialWindowSampler:
        cell_columns = self._cell_columns(TRAIN)
        return SequentialWindowSampler(
            self._start_ranges(subset), cell_columns, self.window, self.n_windows_eval, self.n_cells, rank, world_size
        )

    def _make_loader(self, sampler: BatchSampler[WindowBatchIndex]) -> CalciumLoader:
        embedding_index = torch.full((len(self.cells),), -1)
        train_rows = torch.from_numpy(self.cells.rows_in_split(TRAIN))
        embedding_index[train_rows] = torch.arange(len(train_rows))
        return CalciumLoader(
            [session.to(self.device) for session in self.sessions], sampler, self.window, embedding_index
        )


class BugeonDataModule(CalciumDataModule):
    """Recordings of the published tree of Bugeon et al. (2022), or of a simulated tree with the same layout.

    Args:
        spec: the data set.
        root: data folder; the tree is searched below it, and downloaded or simulated into it.
        source: "files" reads the published tree; "simulated" first writes a tree of `simulation`.
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
        simulation: BugeonSimulation = BugeonSimulation(),  # noqa: B008
        window: int = 200,
        n_windows: int = 2,
        n_cells: int = 512,
        n_steps: int = 100,
        n_windows_eval: int = 8,
    ) -> None:
        super().__init__(spec, root, window, n_windows, n_cells, n_steps, n_windows_eval)
        self.source, self.simulation = source, simulation

    def prepare_data(self) -> None:
        """Simulates the tree, or downloads a missing one if the spec has an archive.

        Raises:
            DataError: the tree cannot be downloaded or written.
        """
        if not self.sessions and (self.source == "simulated" or self.spec.archive is not None):
            locate_bugeon_dataset(self.spec, self.root, self.source, self.simulation)

    def read(self) -> list[CalciumRecording]:
        """Reads the runs of the spec from the published or the simulated tree."""
        return read_bugeon_recordings(self.spec, self.root, self.source, self.simulation)


class CalciumNWBDataModule(CalciumDataModule):
    """Custom calcium recordings, one NWB file each, with a cell type for every ROI.

    Args:
        spec: the data set; `recordings` are glob patterns of files below `root`, `behavior` names of time series, and
            `mice` subject ids (empty for all).
        root: data folder.
        names: names of series and columns in the files.
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
        names: CalciumNWBNames = CalciumNWBNames(),  # noqa: B008
        window: int = 200,
        n_windows: int = 2,
        n_cells: int = 512,
        n_steps: int = 100,
        n_windows_eval: int = 8,
    ) -> None:
        super().__init__(spec, root, window, n_windows, n_cells, n_steps, n_windows_eval)
        self.names = names
        if spec.state != (names.state is not None):
            raise ConfigError(
                f"data.spec.state is {str(spec.state).lower()} and data.names.state is {names.state}; set "
                "data.names.state to a series of states 0, 1 and 2, or set data.spec.state to false"
            )

    def read(self) -> list[CalciumRecording]:
        """Reads the NWB files that match the patterns and mice of the spec, ordered by path."""
        return read_nwb_recordings(self.spec, self.root, self.names)
