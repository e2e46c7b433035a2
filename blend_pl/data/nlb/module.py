"""Data module of one session in the format of NLB'21."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from blend_pl.data.base import NeuralDataModule
from blend_pl.data.digest import content_digest
from blend_pl.data.io.generated import simulation_folder
from blend_pl.data.io.remote import RemoteFile
from blend_pl.data.loader import ChainedLoader
from blend_pl.data.nlb.archive import locate_files
from blend_pl.data.nlb.arrays import ArraySession, forward_bins, session_from_arrays
from blend_pl.data.nlb.batches import TrialLoader, TrialSampler
from blend_pl.data.nlb.behavior_checks import check_training_behavior
from blend_pl.data.nlb.folds import Fold, describe_fold, divide_fold
from blend_pl.data.nlb.holdout import divide_training_trials
from blend_pl.data.nlb.named_spec import load_spec
from blend_pl.data.nlb.reading import check_spec, read_session, read_test_file
from blend_pl.data.nlb.session import (
    CachedSessions,
    SessionTensors,
    cached_sessions,
    concatenate_trials,
    session_digest,
    session_signature,
)
from blend_pl.data.nlb.simulated_rates import simulated_rates
from blend_pl.data.nlb.simulation.files import TEST_FILE, TRAIN_FILE, write_session
from blend_pl.data.nlb.simulation.ground_truth import simulation_fingerprint
from blend_pl.data.nlb.simulation.new_trials import draw_new_rates
from blend_pl.data.nlb.simulation.parameters import NLBSimulation
from blend_pl.data.nlb.spec import SessionFiles, SessionSpec
from blend_pl.data.nlb.timeseries import bin_time_series, is_time_series
from blend_pl.data.nlb.unit_groups import regroup_units, rotated_units, units_above
from blend_pl.data.signature import Signature
from blend_pl.data.standardize import Standardizer
from blend_pl.errors import ConfigError, DataError
from blend_pl.utils.checks import COUNT, OPEN_FRACTION, check_range
from blend_pl.utils.digests import join_digests

if TYPE_CHECKING:
    SpecOrName = SessionSpec | str
else:
    # The parser reports errors in members of a union without the mistyped key, and resolves names before.
    SpecOrName = SessionSpec


class NLBDataModule(NeuralDataModule):
    """Data module of one session: a benchmark set or a recording of the user.

    After `setup`, `subsets` contains "fit" (trials used for gradients), "selection" (trials that select the
    checkpoint), "train" (all trials on which decoders may be fitted) and "eval" (trials whose scores are reported).

    Args:
        spec: describes the session, or names a set in configs/data/, e.g. "mc_maze".
        root: data folder; files are searched below it, and downloaded or simulated into it.
        bin_ms: bin width, 5 or 20 in the benchmark.
        phase: "val" trains on train and evaluates on val; "test" trains on train and val and predicts test, without
            its held-out neurons and behavior.
        source: "files" reads recordings; "simulated" writes a session of `simulation` first and reads that.
        simulation: parameters of the simulated session.
        batch_size: trials a training batch, per process.
        eval_batch_size: trials a batch outside of training.
        selection_split: trials that select the checkpoint: "train_holdout", a fixed part of the training trials, or
            "val", the reported trials themselves, as in other implementations.
        holdout: fraction of the training trials that selects the checkpoint; see `divide_training_trials`.
        cache_dir: folder of binned tensors; None for `root`/cache.
        fold: "k/K", e.g. "2/5", scores block k of K contiguous blocks of the train and val trials together, and trains
            on the others; see `divide_fold`. None for the splits of the session.
    """

    phase: Literal["val", "test"]

    def __init__(
        self,
        spec: SpecOrName,
        root: str = "data",
        bin_ms: int = 5,
        phase: Literal["val", "test"] = "val",
        source: Literal["files", "simulated"] = "files",
        simulation: NLBSimulation = NLBSimulation(),  # noqa: B008
        batch_size: int = 64,
        eval_batch_size: int = 256,
        selection_split: Literal["train_holdout", "val"] = "train_holdout",
        holdout: float = 0.2,
        cache_dir: str | None = None,
        fold: str | None = None,
    ) -> None:
        super().__init__(root)
        check_range(COUNT, bin_ms=bin_ms, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_range(OPEN_FRACTION, holdout=holdout)
        self.spec = load_spec(spec) if isinstance(spec, str) else spec
        check_spec(self.spec, bin_ms)
        self.bin_ms, self.phase = bin_ms, phase
        self.source, self.simulation = source, simulation
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.selection_split, self.holdout = selection_split, holdout
        self.fold = None if fold is None else Fold.parse(fold)
        self.cache_dir = Path(cache_dir) if cache_dir else self.root / "cache"
        self.subsets: dict[str, SessionTensors] = {}
        self.split_digests: dict[str, str] = {}
        self.device_cache: dict[tuple[str, torch.device], SessionTensors] = {}
        self.arrays: ArraySession | None = None
        if phase == "test" and selection_split == "val":
            raise ConfigError("phase test trains on the val trials too; set data.selection_split to train_holdout")
        if self.spec.held_out.by_fold and fold is None:
            raise ConfigError("held_out.by_fold holds out other units in each fold; set data.fold, as in 1/5")
        if phase == "test" and fold is not None:
            raise ConfigError(f"data.fold is {fold}, but folds score train and val trials; set data.phase to val")

    @classmethod
    def from_arrays(
        cls,
        spikes: Any,
        behavior: Any = None,
        *,
        bin_ms: int,
        trials: Any = None,
        window_ms: int | tuple[int, int] | None = None,
        forward_ms: int = 0,
        lag_ms: int = 0,
        trial_behavior: Any = None,
        held_out: Any = 0.25,
        min_rate_hz: float = 0.0,
        split: Any = (0.7, 0.15),
        conditions: Any = None,
        smoothing_ms: int = 50,
        unit_id: Any = None,
        rates: Any = None,
        name: str = "arrays",
        seed: int = 0,
        phase: Literal["val", "test"] = "val",
        batch_size: int = 64,
        eval_batch_size: int = 256,
        selection_split: Literal["train_holdout", "val"] = "train_holdout",
        holdout: float = 0.2,
        fold: str | None = None,
    ) -> Self:
        """Returns the data module of arrays or time series in memory; no file is read or written.

        Arrays are numpy arrays or tensors of trials. Trials of unequal length are given as a list of one array per
        trial, and padded. Padding and NaN counts are unobserved: neither input, nor target, nor scored.

        Spike times are those of a pynapple.TsGroup, or of a temporaldata.Data or its `spikes`. They are cut into
        `trials` and binned as those of an NWB file; behavior is then a time series, which is resampled to the bins.

        Args:
            spikes: (trials, bins, units) counts, NaN where a unit was not observed; or spike times.
            behavior: (trials, bins, D), NaN where missing; or a pynapple.Tsd or TsdFrame, a temporaldata time series,
                or the path of one in `spikes`, e.g. "cursor.vel". None for no behavior.
            bin_ms: bin width.
            trials: trials of spike times: a pynapple.IntervalSet or temporaldata.Interval, (trials, 2) starts and ends,
                or (trials,) starts, in s; None for `spikes.trials` of a temporaldata.Data.
            window_ms: trials of spike times: their length, or start and stop relative to the starts in `trials`; None
                to use the ends in `trials`.
            forward_ms: length of the forward prediction: the last bins of arrays, or the bins after `window_ms`.
            lag_ms: delay of behavioral time series relative to the spikes.
            trial_behavior: behavior with one value per trial: (trials, K) numbers, (trials,) strings, or a mapping of
                names to (trials,) numbers or strings; each value of strings is a channel, 1 in its trials.
            held_out: held-out units: None, a fraction drawn with `seed`, indices, a bool mask, or "by_fold" for another
                part of the units, divided with `seed`, in each fold.
            min_rate_hz: see `SessionSpec`.
            split: fractions of training and validation trials, drawn with `seed`; the others are test trials. Or one
                label per trial: train, val, test or none.
            conditions: one label per trial, for PSTH scores; None or NaN for a trial without condition. Bins are scored
                that all trials of a condition have.
            smoothing_ms: standard deviation of the Gaussian kernel of the PSTHs.
            unit_id: (units,) different integers; None for 0, 1, ..., or the keys of a TsGroup.
            rates: (trials, bins, units) expected counts per bin that generated the spikes, if they are known.
            name: name of the session.
            seed: seed of the draws of held-out units and splits.
            phase: see `NLBDataModule`.
            batch_size: see `NLBDataModule`.
            eval_batch_size: see `NLBDataModule`.
            selection_split: see `NLBDataModule`.
            holdout: see `NLBDataModule`.
            fold: see `NLBDataModule`.

        Raises:
            ConfigError: settings contradict one another or the arrays.
            DataError: shapes or values of an array cannot be used.

        Example:
            >>> import numpy as np
            >>> from blend_pl.data import NLBDataModule
            >>> rng = np.random.default_rng(0)
            >>> spikes, velocity = rng.poisson(0.5, (40, 30, 12)), rng.normal(size=(40, 30, 2))
            >>> data = NLBDataModule.from_arrays(spikes, velocity, bin_ms=20, held_out=[0, 5, 7])
            >>> data.setup("fit")
            >>> data.signature.n_heldin, data.signature.n_units
            (9, 12)
            >>> next(iter(data.val_dataloader())).observed.shape
            torch.Size([6, 30, 9])
        """
        start_ms, start_bin = 0, None
        forward_bins(bin_ms, forward_ms)
        if is_time_series(spikes):
            if rates is not None:
                raise ConfigError("rates belong to arrays of counts, and spikes are spike times; leave rates out")
            binned = bin_time_series(spikes, behavior, trials, window_ms, bin_ms, forward_ms, lag_ms)
            spikes, behavior, start_ms, start_bin = binned.spikes, binned.behavior, binned.start_ms, binned.start_bin
            unit_id = binned.unit_id if unit_id is None else unit_id
        elif is_time_series(behavior):
            raise ConfigError("behavior is a time series, and spikes are arrays; pass both as one kind")
        elif trials is not None or window_ms is not None or lag_ms:
            raise ConfigError(
                "trials, window_ms and lag_ms belong to spike times; the first axis of arrays are their trials"
            )
        session = session_from_arrays(
            spikes,
            behavior,
            bin_ms=bin_ms,
            name=name,
            start_ms=start_ms,
            lag_ms=lag_ms,
            forward_ms=forward_ms,
            trial_behavior=trial_behavior,
            held_out=held_out,
            split=split,
            conditions=conditions,
            smoothing_ms=smoothing_ms,
            unit_id=unit_id,
            rates=rates,
            seed=seed,
            start_bin=start_bin,
        )
        module = cls(
            replace(session.spec, min_rate_hz=min_rate_hz),
            bin_ms=bin_ms,
            phase=phase,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            selection_split=selection_split,
            holdout=holdout,
            fold=fold,
        )
        module.arrays = session
        return module

    def describe(self) -> str:
        """Describes the session in a line, for `repr`."""
        sizes = ", ".join(f"{len(session)} {name}" for name, session in self.subsets.items())
        trials = f"trials: {sizes}" if sizes else "not set up"
        fold = f", fold {self.fold}" if self.fold else ""
        return f"{self.spec.name}, bins of {self.bin_ms} ms, phase {self.phase}{fold}; {trials}"

    def prepare_data(self) -> None:
        """Simulates the session, or downloads missing files of a session with an archive.

        To predict the test trials, the test file alone is downloaded.

        Raises:
            DataError: a file cannot be downloaded or written.
        """
        if self.subsets or self.arrays is not None:
            return
        if self.source == "simulated":
            self._simulated_folder()
        elif self.spec.archive is not None:
            stage = self.trainer.state.fn if self.trainer is not None else None
            if self._needs_test_file_only(stage):
                self._locate_test_file()
            else:
                self._locate_recordings()

    def setup(self, stage: str) -> None:
        """Reads the session and divides its trials; safe in many processes at once.

        To predict the test trials, the test file alone is read.

        Raises:
            DataError: a file is missing or damaged, or a subset would be empty.
        """
        if self.subsets:
            return
        if self._needs_test_file_only(stage):
            self.subsets = {"eval": self._read_test_file()}
            return
        recorded = self._read_splits()
        splits = recorded.sessions
        eval_split = "val" if self.phase == "val" else "test"
        for name in ("train", eval_split):
            if name not in splits:
                raise DataError(f"{self.spec.name} has no {name} trials; check data.spec.split and data.phase")
        train, scored, used_splits = splits["train"], splits[eval_split], ["train", eval_split]
        remarks = [train.left_out]
        if self.phase == "test" and "val" in splits:
            train, used_splits = concatenate_trials(train, splits["val"]), ["train", "val", eval_split]
        if self.fold is not None:
            trials = divide_fold(concatenate_trials(train, scored), self.fold)
            train, scored = trials.train, trials.scored
            check_training_behavior(train, f"{self.spec.name}, fold {self.fold},", "data.spec.behavior")
            remarks.append(describe_fold(self.fold, trials))
        self.split_digests = {name: recorded.digests[name] for name in used_splits}
        self.subsets = {"fit": train, "selection": scored, "train": train, "eval": scored}
        if self.selection_split == "train_holdout":
            is_benchmark = self.spec.archive is not None and self.spec.split.column is not None
            fit, selected = divide_training_trials(train, self.holdout, is_benchmark)
            self.subsets |= {"fit": train.select(fit), "selection": train.select(selected)}
        remarks.append(self._regroup_units())
        for remark in filter(None, remarks):
            rank_zero_warn(remark)

    @property
    def signature(self) -> Signature:
        """Sizes and ids on which a model must agree to run on this session."""
        subsets = self.subsets
        return session_signature(self.spec.name, subsets["train"] if "train" in subsets else subsets["eval"])

    @property
    def digest(self) -> str | None:
        """Digest of the trials and of their division; see `NeuralDataModule.digest`.

        All folds of a recording have the first digits, up to a hyphen, in common.
        """
        if not self.split_digests:
            return None
        division: dict[str, Any] = {"trials": {subset: session.trial_id for subset, session in self.subsets.items()}}
        if self._chooses_units:
            division |= {"units": self.subsets["train"].unit_id, "n_heldin": self.subsets["train"].n_heldin}
        if self.fold is None:
            return content_digest({"splits": self.split_digests, **division})
        recording_digest = content_digest({"splits": self.split_digests, "folds": self.fold.count})
        return join_digests(recording_digest, content_digest({"fold": self.fold.number, **division}))

    @property
    def selection(self) -> str:
        """Describes how the checkpoint is selected, for the results; equal in all folds."""
        if self.fold is not None:
            share = f"{self.holdout:g} of the training trials" if self.selection_split == "train_holdout" else "scored"
            return f"{self.selection_split} ({share})"
        return f"{self.selection_split} ({len(self.subsets['selection'])} trials)"

    @property
    def eval_has_behavior(self) -> bool:
        """Whether the reported trials have behavior, which a teacher needs as input."""
        return bool(self.subsets["eval"].behavior.isfinite().any())

    def true_rates(self, subset: str) -> Tensor | None:
        """Returns the (trials, T', N) expected counts per bin that generated the spikes; None for real recordings."""
        if self.arrays is not None:
            return self.arrays.rates_of(self.subsets[subset])
        if self.source != "simulated":
            return None
        return simulated_rates(self._simulated_folder(), self.subsets[subset])

    def draw_new_rates(self, n_trials: int) -> Tensor | None:
        """Returns the (n_trials, T', N) expected counts of further trials of a simulated population, None otherwise."""
        if self.arrays is not None or self.source != "simulated":
            return None
        return draw_new_rates(self.simulation, n_trials, self.bin_ms)

    def train_dataloader(self) -> TrialLoader:
        return self._make_loader("fit", self.batch_size, shuffle=True)

    def val_dataloader(self) -> TrialLoader:
        return self._make_loader("selection", self.eval_batch_size)

    def test_dataloader(self) -> ChainedLoader:
        """Returns the loader of the trials on which decoders are fitted, then of the reported trials, both in order."""
        return ChainedLoader(*(self._make_loader(subset, self.eval_batch_size) for subset in ("train", "eval")))

    def predict_dataloader(self) -> TrialLoader:
        """Returns the loader of the reported trials."""
        return self._make_loader("eval", self.eval_batch_size)

    def calibration_dataloader(self) -> TrialLoader:
        """Returns the loader of all trials used for gradients, in recording order, the same on every rank."""
        return self._make_loader("fit", self.eval_batch_size, replicated=True)

    @property
    def _chooses_units(self) -> bool:
        """Whether the training trials or the fold decide which units are held in and held out."""
        return self.spec.held_out.by_fold or self.spec.min_rate_hz > 0

    def _regroup_units(self) -> str:
        """Chooses units by fold and by rate, and returns a remark on those that are left out; empty if there are none.

        Rates are those of the training trials, which include the trials that select the checkpoint.
        """
        if self.fold is not None and self.spec.held_out.by_fold:
            self._select_units(*rotated_units(self.subsets["train"].n_units, self.fold, self.spec.held_out.seed))
        if not self.spec.min_rate_hz:
            return ""
        n_units = self.subsets["train"].n_units
        self._select_units(*units_above(self.subsets["train"], self.spec.min_rate_hz))
        n_left_out = n_units - self.subsets["train"].n_units
        return (
            f"{n_left_out} of {n_units} units have fewer than {self.spec.min_rate_hz:g} spikes per second in the "
            "training trials and are left out (min_rate_hz)"
            if n_left_out
            else ""
        )

    def _select_units(self, held_in: Tensor, held_out: Tensor) -> None:
        self.subsets = {name: regroup_units(session, held_in, held_out) for name, session in self.subsets.items()}

    def _session_files(self) -> tuple[SessionFiles, Path]:
        if self.source == "files":
            return self.spec.files, self.root
        return SessionFiles(TRAIN_FILE, TEST_FILE), self._simulated_folder()

    def _simulated_folder(self) -> Path:
        folder = simulation_folder(self.root, simulation_fingerprint(self.simulation))
        write_session(self.simulation, folder)
        return folder

    def _needs_test_file_only(self, stage: str | None) -> bool:
        # Rates of units are those of the training trials.
        has_units = not self.spec.min_rate_hz
        return stage == "predict" and self.phase == "test" and self.spec.files.test is not None and has_units

    def _locate_recordings(self) -> tuple[Path | RemoteFile, Path | RemoteFile | None]:
        """Returns the train file, and the test file where the phase needs one."""
        files, root = self._session_files()
        if self.phase == "val":
            files = replace(files, test=None)
        return locate_files(files, root, self.spec.archive)

    def _locate_test_file(self) -> Path | RemoteFile:
        files, root = self._session_files()
        assert files.test is not None
        test_file, _ = locate_files(SessionFiles(files.test), root, self.spec.archive)
        return test_file

    def _read_splits(self) -> CachedSessions:
        if self.arrays is not None:
            sessions = self.arrays.splits()
            return CachedSessions(sessions, {split: session_digest(session) for split, session in sessions.items()})
        train_file, test_file = self._locate_recordings()
        recordings = [train_file] if test_file is None else [train_file, test_file]
        return self._cached_splits(
            recordings, self.phase, lambda: read_session(self.spec, train_file, test_file, self.bin_ms, self.phase)
        )

    def _read_test_file(self) -> SessionTensors:
        test_file = self._locate_test_file()
        recorded = self._cached_splits(
            [test_file], "test file", lambda: {"test": read_test_file(self.spec, test_file, self.bin_ms)}
        )
        return recorded.sessions["test"]

    def _cached_splits(
        self, recordings: list[Path | RemoteFile], cache_part: str, build: Callable[[], dict[str, SessionTensors]]
    ) -> CachedSessions:
        # Units are chosen from the tensors of all units.
        settings = {"spec": replace(self.spec, min_rate_hz=0.0), "bin_ms": self.bin_ms, "part": cache_part}
        return cached_sessions(self.cache_dir, recordings, settings, build)

    def _make_loader(
        self, subset: str, batch_size: int, shuffle: bool = False, replicated: bool = False
    ) -> TrialLoader:
        session, device = self.subsets[subset], self.device
        seed, rank, world_size = self.seed_and_rank()
        if replicated:
            rank, world_size = 0, 1
        sampler = TrialSampler(len(session), batch_size, shuffle, seed, rank, world_size)
        standardizer = Standardizer.fit(self.subsets.get("fit", session).behavior)
        # Models that train in one process share one copy per device.
        if (subset, device) not in self.device_cache:
            self.device_cache[subset, device] = session.to(device)
        return TrialLoader(self.device_cache[subset, device], standardizer, sampler)
