"""Data module of several sessions of spikes and LFP."""

from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info

from blend_pl.data.base import NeuralDataModule
from blend_pl.data.digest import content_digest, record_digest
from blend_pl.data.lfp.batches import (
    BalancedSessionSampler,
    LFPSession,
    SegmentBatchIndex,
    SegmentLoader,
    SequentialSegmentSampler,
)
from blend_pl.data.lfp.reading import fetch_sessions, read_sessions
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.simulation import LFPSimulation
from blend_pl.data.lfp.spec import LFPSpec
from blend_pl.data.loader import BatchSampler
from blend_pl.data.signature import MultiSessionSignature
from blend_pl.errors import ConfigError, DataError
from blend_pl.utils.checks import COUNT, NON_NEGATIVE, check_range

HELD_IN, ALL = "held_in", "all"
LABEL_FIELDS = ("name", "notes")
"""Fields of recordings that describe them and are not part of their data."""


class MultiSessionDataModule(NeuralDataModule):
    """Recordings of several layouts, or simulated ones; a subclass can override `read`.

    Models are not trained on held-out sessions but evaluated on them. The segments of every session are divided into
    train (for a model, or for a readout only), val (for the selection of the checkpoint) and test.

    Args:
        spec: the set of sessions.
        root: data folder; files are searched below it, and downloaded or simulated into it.
        source: "files" reads recordings; "simulated" first writes those of `simulation`.
        simulation: parameters of the simulated set.
        held_out: names of the held-out sessions.
        train_on: "held_in" for all sessions except `held_out`, "all", or names of sessions.
        length: bins per segment.
        split: "random" or "blocks", see `blend_pl.data.lfp.segments.split_segments`.
        split_seed: seed of the split, the same in every run.
        batch_size: segments per training batch and process.
        eval_batch_size: segments per batch outside of training.
        cache_dir: cache folder of the recordings; None for `root`/cache.
    """

    phase = "test segments"
    """Name of the scored data in the results."""

    def __init__(
        self,
        spec: LFPSpec,
        root: str = "data",
        source: Literal["files", "simulated"] = "files",
        simulation: LFPSimulation = LFPSimulation(),  # noqa: B008
        held_out: list[str] = [],  # noqa: B006
        train_on: str | list[str] = HELD_IN,
        length: int = 500,
        split: Literal["random", "blocks"] = "random",
        split_seed: int = 42,
        batch_size: int = 32,
        eval_batch_size: int = 32,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(root)
        check_range(COUNT, length=length, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_range(NON_NEGATIVE, split_seed=split_seed)
        self.spec = spec
        self.source, self.simulation = source, simulation
        self.cache_dir = Path(cache_dir) if cache_dir else None
        self.held_out, self.train_on = held_out, train_on
        self.length, self.split, self.split_seed = length, split, split_seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.sessions: dict[str, LFPSession] = {}
        self.recording_digests: dict[str, str] = {}

    def read(self) -> list[CrossModalRecording]:
        """Reads the recordings of the spec.

        Raises:
            DataError: a recording is missing or cannot be used.
        """
        return read_sessions(self.spec, self.root, self.source, self.simulation, self.cache_dir)

    def prepare_data(self) -> None:
        """Simulates the sessions, or downloads missing ones if the spec has an archive.

        Raises:
            DataError: a file cannot be downloaded or written.
        """
        if not self.sessions:
            fetch_sessions(self.spec, self.root, self.source, self.simulation)

    def describe(self) -> str:
        """Describes the sessions in a line, for `repr`."""
        names = ", ".join(self.training_sessions) if self.sessions else ""
        sessions = f"{len(self.sessions)} sessions, training on {names}" if names else "not set up"
        return f"{self.spec.name}; {sessions}"

    def setup(self, stage: str) -> None:
        """Reads the recordings, splits them into segments and fits the z-scores; safe across processes.

        Raises:
            ConfigError: a session of `held_out` or `train_on` does not exist, or there is no session to train on.
            DataError: a recording cannot be used.
        """
        if self.sessions:
            return
        recordings = self.read()
        names = [recording.name for recording in recordings]
        if len(set(names)) < len(names):
            raise DataError(f"two recordings have the same name, among {', '.join(names)}; rename one")
        for recording in recordings:
            for note in recording.notes:
                rank_zero_info(note)
        bin_widths = {recording.bin_ms for recording in recordings}
        if len(bin_widths) > 1:
            raise DataError(
                f"recordings have bins of {', '.join(map(str, sorted(bin_widths)))} ms; use the same bin width for all"
            )
        train_names = self.train_on if isinstance(self.train_on, list) else []
        for name in (*self.held_out, *train_names):
            if name not in names:
                raise ConfigError(
                    f"there is no session {name}, only {', '.join(names)}; correct data.held_out or train_on"
                )
        if isinstance(self.train_on, str) and self.train_on not in (HELD_IN, ALL):
            raise ConfigError(f'data.train_on is "{self.train_on}"; write "held_in", "all" or a list of sessions')
        self.bin_ms = recordings[0].bin_ms
        self.sessions = {
            r.name: LFPSession.from_recording(r, self.length, self.split, self.split_seed) for r in recordings
        }
        self.recording_digests = {r.name: record_digest(r, ignore=LABEL_FIELDS) for r in recordings}
        if not self.training_sessions:
            raise ConfigError("every session is held out; remove some from data.held_out")

    @property
    def training_sessions(self) -> list[str]:
        """Names of the sessions to train on."""
        if isinstance(self.train_on, list):
            return self.train_on
        return [name for name in self.sessions if self.train_on == ALL or name not in self.held_out]

    @property
    def evaluation_sessions(self) -> list[str]:
        """Names of the sessions to evaluate on: the training sessions and the held-out sessions."""
        return [name for name in self.sessions if name in self.training_sessions or name in self.held_out]

    @property
    def signature(self) -> MultiSessionSignature:
        """Sizes and ids on which a model must agree: those of the training sessions."""
        sessions = [self.sessions[name] for name in self.training_sessions]
        n_behavior = sessions[0].behavior.shape[1]
        session_infos = [session.info for session in sessions]
        return MultiSessionSignature.from_sessions(self.spec.name, self.bin_ms, self.length, session_infos, n_behavior)

    @property
    def digest(self) -> str:
        """Digest of the recordings that are evaluated, trained or held out, and of their division into segments."""
        evaluated = {
            name: [self.recording_digests[name], *vars(self.sessions[name].segments).values()]
            for name in self.evaluation_sessions
        }
        return content_digest(evaluated)

    @property
    def selection(self) -> str:
        """Describes how the checkpoint is selected, for the results."""
        return f"the objective on validation segments ({self.split})"

    @property
    def eval_has_behavior(self) -> bool:
        """Whether any session has behavior to decode."""
        return any(bool(session.behavior.isfinite().any()) for session in self.sessions.values())

    def train_dataloader(self) -> SegmentLoader:
        """Returns training segments, equally many of every training session."""
        seed, rank, world_size = self.seed_and_rank()
        starts = [self.sessions[name].segment_starts("train") for name in self.training_sessions]
        return self._build_loader(
            self.training_sessions, BalancedSessionSampler(starts, self.batch_size, seed, rank, world_size)
        )

    def val_dataloader(self) -> SegmentLoader:
        """Returns the validation segments of the training sessions."""
        _, rank, world_size = self.seed_and_rank()
        return self._sequential_loader(self.training_sessions, "val", rank, world_size)

    def test_dataloader(self) -> SegmentLoader:
        """Returns the batches of `val_dataloader`; the evaluation callback loads the test segments."""
        return self.val_dataloader()

    def predict_dataloader(self) -> SegmentLoader:
        """Raises an error, because there are no rates of trials to predict.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("predict writes rates of trials, but these recordings have none; `test` decodes velocity")

    def calibration_dataloader(self) -> SegmentLoader:
        """Returns the training segments in order, the same on every rank."""
        return self._sequential_loader(self.training_sessions, "train")

    def segment_dataloader(self, name: str, subset: str) -> SegmentLoader:
        """Returns all segments of a session's split in order, the same on every rank."""
        return self._sequential_loader([name], subset)

    def _sequential_loader(self, names: list[str], subset: str, rank: int = 0, world_size: int = 1) -> SegmentLoader:
        starts = [self.sessions[name].segment_starts(subset) for name in names]
        return self._build_loader(names, SequentialSegmentSampler(starts, self.eval_batch_size, rank, world_size))

    def _build_loader(self, names: list[str], sampler: BatchSampler[SegmentBatchIndex]) -> SegmentLoader:
        sessions = [self.sessions[name].to(self.device) for name in names]
        n_channels, n_units = (
            max(getattr(session, signal).shape[1] for session in self.sessions.values()) for signal in ("lfp", "spikes")
        )
        return SegmentLoader(sessions, sampler, self.length, n_channels, n_units)
