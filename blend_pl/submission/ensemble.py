"""Ensembles of runs on one session, which predict the mean of their rates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc import locate

import torch
from torch import Tensor

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import ConfigError, DataError, TeacherError
from blend_pl.prediction import load_datamodule, predict_run
from blend_pl.runs.digest import other_data_message
from blend_pl.runs.folder import CHECKPOINT_DIR, find_runs
from blend_pl.runs.results import RESULTS_FILE, Results
from blend_pl.submission.consistency import UnrecordedSession
from blend_pl.submission.layout import SessionSplits
from blend_pl.systems.checkpoint import load_system


@dataclass(frozen=True)
class SubmittedRun:
    """A finished run to submit.

    Attributes:
        path: run folder.
        session: name of the session.
        bin_ms: bin width.
        phase: reported trials, val or test.
        simulated: whether the session is simulated.
        selected_checkpoint: file name of the selected checkpoint.
        is_teacher: whether the model is a teacher.
    """

    path: Path
    session: str
    bin_ms: int
    phase: str
    simulated: bool
    selected_checkpoint: str
    is_teacher: bool

    @classmethod
    def from_run_dir(cls, run_dir: Path) -> "SubmittedRun":
        """Reads the results of a run.

        Raises:
            ConfigError: the run is a baseline without a network.
            DataError: the results are damaged or incomplete.
        """
        results = Results.read(run_dir)
        if results.checkpoint is None:
            raise ConfigError(f"{run_dir} is a baseline without a checkpoint; name runs of networks")
        if results.bin_ms is None:
            raise DataError(f"{run_dir / RESULTS_FILE} lacks a bin width; name runs on sessions of NLB'21")
        system_class = locate(results.system_class_path)
        return cls(
            path=run_dir,
            session=results.session,
            bin_ms=results.bin_ms,
            phase=results.phase,
            simulated=results.is_simulated,
            selected_checkpoint=Path(results.checkpoint).name,
            is_teacher=getattr(system_class, "requires_privileged", False),
        )


@dataclass(frozen=True)
class SubmissionEnsemble:
    """One or more runs of one session, bin width and phase."""

    runs: tuple[SubmittedRun, ...]

    @property
    def session(self) -> str:
        return self.runs[0].session

    @property
    def bin_ms(self) -> int:
        return self.runs[0].bin_ms

    def load_splits(self) -> SessionSplits:
        """Loads the session of the first run.

        Raises:
            DataError: the recording is damaged.
            MissingFileError: the recording is missing.
        """
        datamodule = load_datamodule(self.runs[0].path)
        datamodule.setup("test")
        message = other_data_message(self.runs[0].path, Results.read(self.runs[0].path).digest, datamodule.digest)
        if message is not None:
            print(f"note: {message}")
        return SessionSplits(datamodule.subsets["train"], datamodule.subsets["eval"])

    def describe_unrecorded(self, group: str) -> UnrecordedSession:
        """Returns what the first run says of its session, for a session whose recording is missing.

        Raises:
            TeacherError: the checkpoint is damaged.
        """
        run = self.runs[0]
        checkpoint = run.path / CHECKPOINT_DIR / run.selected_checkpoint
        signature = load_system(checkpoint).signature if checkpoint.is_file() else None
        return UnrecordedSession(group, self.bin_ms, signature=signature)

    def data_root(self) -> Path:
        """Returns the data folder of the first run."""
        return load_datamodule(self.runs[0].path).root

    def predictions(
        self, checkpoint: str | None
    ) -> Iterator[tuple[SubmittedRun, SessionSplits, tuple[Tensor, Tensor]]]:
        """Yields each run with its session and rates, (train trials, T', N) and (evaluation trials, T', N).

        Args:
            checkpoint: file name of the checkpoint; None for the selected one.

        Raises:
            DataError: a recording is missing or damaged, or runs were trained on different data.
            TeacherError: a checkpoint is missing or damaged.
        """
        first_splits: SessionSplits | None = None
        for submitted_run in self.runs:
            prediction = predict_run(submitted_run.path, checkpoint or submitted_run.selected_checkpoint)
            if prediction.other_data is not None:
                print(f"note: {prediction.other_data}")
            splits = SessionSplits(prediction.train, prediction.session)
            if first_splits is None:
                first_splits = splits
            elif not (
                _has_same_trials(first_splits.train, splits.train)
                and _has_same_trials(first_splits.evaluation, splits.evaluation)
            ):
                raise DataError(
                    f"{submitted_run.path} and {self.runs[0].path} have different data under the name {self.session}, "
                    "so their rates cannot be averaged; submit them separately"
                )
            yield submitted_run, first_splits, (prediction.train_rates, prediction.rates)


class MeanRates:
    """Mean over runs, accumulated in float64."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []
        self.n_runs = 0

    def update(self, rates: Sequence[Tensor]) -> None:
        """Adds the rates of one run; shapes must be equal in all runs."""
        run_rates = [tensor.double() for tensor in rates]
        self.sums = [a + b for a, b in zip(self.sums, run_rates, strict=True)] if self.sums else run_rates
        self.n_runs += 1

    def compute(self) -> list[Tensor]:
        """Returns the means as float32."""
        return [(rate_sum / self.n_runs).float() for rate_sum in self.sums]


def group_runs(folders: Sequence[Path]) -> list[SubmissionEnsemble]:
    """Groups runs of the same session and bin width into ensembles.

    Args:
        folders: runs, experiments (folders of runs) or folders of experiments.

    Raises:
        ConfigError: a folder is a checkpoint or a baseline without a network, or the runs have different phases.
        DataError: a folder holds no finished run, or results are damaged.
        TeacherError: a run is a teacher.
    """
    for folder in folders:
        if folder.suffix == ".ckpt":
            raise ConfigError(f"{folder} is a checkpoint; name the run folder and add --checkpoint {folder.name}")
    submitted_runs = [SubmittedRun.from_run_dir(run_dir) for run_dir in find_runs(folders)]
    for submitted_run in submitted_runs:
        if submitted_run.is_teacher:
            raise TeacherError(
                f"{submitted_run.path} is a teacher, which sees the data it is scored on; submit its students"
            )
    path_by_phase = {submitted_run.phase: submitted_run.path for submitted_run in submitted_runs}
    if len(path_by_phase) > 1:
        phase_list = ", ".join(f"{path} is of phase {phase}" for phase, path in path_by_phase.items())
        raise ConfigError(f"{phase_list}; a file holds one phase, so submit them separately")
    groups: dict[tuple[str, int], list[SubmittedRun]] = {}
    for submitted_run in submitted_runs:
        groups.setdefault((submitted_run.session, submitted_run.bin_ms), []).append(submitted_run)
    return [SubmissionEnsemble(tuple(group)) for group in groups.values()]


def _has_same_trials(first: SessionTensors, second: SessionTensors) -> bool:
    """Whether two sessions hold the same spikes, trials, units and bins."""
    names = ("spikes", "observed", "trial_id", "unit_id")
    sizes = ("n_heldin", "n_forward", "bin_ms")
    return all(getattr(first, size) == getattr(second, size) for size in sizes) and all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in names
    )
