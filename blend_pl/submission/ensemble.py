"""Runs of one session as one ensemble, whose rates are the mean of theirs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from torch import Tensor

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import ConfigError, DataError, TeacherError
from blend_pl.prediction import datamodule_of, predict
from blend_pl.runs.folder import find_runs
from blend_pl.runs.results import RESULTS, read_results
from blend_pl.submission.layout import Sessions
from blend_pl.systems import Teacher


@dataclass(frozen=True)
class Member:
    """A finished run.

    Attributes:
        path: its folder.
        session: name of its session.
        bin_ms: bin width.
        phase: the trials it reports, val or test.
        simulated: whether its session is simulated.
        selected: file name of the checkpoint that model selection chose.
        sees_behavior: whether it is a teacher.
    """

    path: Path
    session: str
    bin_ms: int
    phase: str
    simulated: bool
    selected: str
    sees_behavior: bool

    @classmethod
    def read(cls, run: Path) -> "Member":
        """Reads what a run says of itself.

        Raises:
            ConfigError: it is a plain baseline's.
            DataError: its results are damaged or lack something.
        """
        results: dict[str, Any] = read_results(run)
        try:
            if results["checkpoint"] is None:
                raise ConfigError(f"{run} is a plain baseline, of which no weights are kept; name runs of networks")
            data = results["config"]["data"]["init_args"]
            system = locate(results["config"]["model"]["class_path"])
            return cls(
                path=run,
                session=results["session"],
                bin_ms=int(data["bin_ms"]),
                phase=results["phase"],
                simulated=data.get("source") == "simulated",
                selected=Path(results["checkpoint"]).name,
                sees_behavior=isinstance(system, type) and issubclass(system, Teacher),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{run / RESULTS} lacks {error}; run that experiment again") from error


@dataclass(frozen=True)
class Ensemble:
    """Runs of one session, bin width and phase, at least one."""

    members: tuple[Member, ...]

    @property
    def session(self) -> str:
        return self.members[0].session

    @property
    def bin_ms(self) -> int:
        return self.members[0].bin_ms

    def sessions(self) -> Sessions:
        """The session of the first run.

        Raises:
            DataError: the recording is missing or damaged.
        """
        datamodule = datamodule_of(self.members[0].path)
        datamodule.setup("test")
        return Sessions(datamodule.parts["train"], datamodule.parts["eval"])

    def data_root(self) -> Path:
        """The data folder of the first run."""
        return datamodule_of(self.members[0].path).root

    def predictions(self, checkpoint: str | None) -> Iterator[tuple[Member, Sessions, tuple[Tensor, Tensor]]]:
        """Each run's session and rates, (train trials, T', N) and (evaluation trials, T', N).

        Args:
            checkpoint: file name of the weights; None for those that model selection chose.

        Raises:
            DataError: a recording is missing or damaged, or runs were trained on different data.
            TeacherError: a checkpoint is missing or damaged.
        """
        first: Sessions | None = None
        for member in self.members:
            prediction = predict(member.path, checkpoint or member.selected)
            sessions = Sessions(prediction.train, prediction.session)
            if first is None:
                first = sessions
            elif not (_same(first.train, sessions.train) and _same(first.evaluation, sessions.evaluation)):
                raise DataError(
                    f"{member.path} and {self.members[0].path} have different data under the name {self.session}, so "
                    "that their rates have no mean; submit them apart"
                )
            yield member, first, (prediction.train_rates, prediction.rates)


class MeanRates:
    """The mean over runs, summed in float64."""

    def __init__(self) -> None:
        self.total: list[Tensor] = []
        self.n = 0

    def add(self, rates: Sequence[Tensor]) -> None:
        """Takes the rates of one run: tensors that have the same shapes in all runs."""
        doubles = [part.double() for part in rates]
        self.total = [a + b for a, b in zip(self.total, doubles, strict=True)] if self.total else doubles
        self.n += 1

    def compute(self) -> list[Tensor]:
        """float32 means."""
        return [(total / self.n).float() for total in self.total]


def gather(folders: Sequence[Path]) -> list[Ensemble]:
    """Runs of the same session and bin width, each as one ensemble.

    Args:
        folders: runs, experiments (folders of runs) or folders of experiments.

    Raises:
        ConfigError: weights or a plain baseline instead of a run of a network, or runs of different phases.
        DataError: a folder holds no finished run, or results are damaged.
        TeacherError: a run is a teacher.
    """
    for folder in folders:
        if folder.suffix == ".ckpt":
            raise ConfigError(f"{folder} is a checkpoint; name the run's folder, and --checkpoint {folder.name}")
    members = [Member.read(run) for run in find_runs(folders)]
    for member in members:
        if member.sees_behavior:
            raise TeacherError(f"{member.path} is a teacher, which sees what it is scored on; submit its students")
    by_phase = {member.phase: member.path for member in members}
    if len(by_phase) > 1:
        several = ", ".join(f"{path} is of phase {phase}" for phase, path in by_phase.items())
        raise ConfigError(f"{several}; a file holds one phase, so submit them apart")
    groups: dict[tuple[str, int], list[Member]] = {}
    for member in members:
        groups.setdefault((member.session, member.bin_ms), []).append(member)
    return [Ensemble(tuple(group)) for group in groups.values()]


def _same(first: SessionTensors, second: SessionTensors) -> bool:
    """Whether two sessions hold the same spikes of the same trials and units, and score them in the same way."""
    names = ("spikes", "observed", "trial_id", "unit_id")
    sizes = ("n_heldin", "n_forward", "bin_ms")
    return all(getattr(first, size) == getattr(second, size) for size in sizes) and all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in names
    )
