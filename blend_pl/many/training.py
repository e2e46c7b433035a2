"""From command lines of `fit` to runs that were trained at once."""

import hashlib
import inspect
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers import CSVLogger

from blend_pl.callbacks import Cost, Distillation, LastCheckpoint, Multitask, NLBEvaluation
from blend_pl.callbacks.cost import parameters_of
from blend_pl.cli import Prepared, prepare
from blend_pl.data.module import NLBDataModule
from blend_pl.errors import BlendError, DataError, Stopped
from blend_pl.files import atomic_file, unwritable
from blend_pl.many.crowd import Crowd, CrowdData, obstacle
from blend_pl.many.member import KINDS, Member
from blend_pl.many.selection import Selection
from blend_pl.runs import BEST, CHECKPOINTS, LAST, MONITOR
from blend_pl.systems.checkpoint import WholeCheckpoints

FOLDER, TRAINED = "many", "trained.json"
OF_EACH = ("logger", "callbacks", "default_root_dir")
"""Settings of the trainer that every run has for itself."""
ALONE = (
    *("fast_dev_run", "overfit_batches", "reload_dataloaders_every_n_epochs", "barebones"),
    *("min_epochs", "min_steps", "max_time", "val_check_interval"),
)
"""Settings of the trainer that, unless they are left as they are, say when one model stops or is scored."""
HEEDED = {
    "checkpoint": (ModelCheckpoint, ("monitor", "mode", "dirpath", "filename", "verbose", "enable_version_counter")),
    "early_stopping": (EarlyStopping, ("monitor", "mode", "patience", "min_delta", "verbose", "log_rank_zero_only")),
}
"""What `Selection` knows of the settings of Lightning's callbacks, or need not know."""
SCORES = {"val/loss", MONITOR}
"""What a `Crowd` can tell."""
PASSIVE = (ProgressBar, ModelSummary, NLBEvaluation, EarlyStopping, ModelCheckpoint, Cost, Distillation, Multitask)
"""Callbacks that a `Crowd` does without or takes the part of."""


@dataclass
class Entry:
    """A run that may be trained with others.

    Attributes:
        arguments: of `fit`.
        cli: made from them.
        claims: holds the run's folder.
    """

    arguments: list[str]
    cli: Prepared
    claims: ExitStack

    @property
    def setting(self) -> str:
        """Equal for runs on the same data by the same budget."""
        settings = self.cli.settings
        trainer = {name: value for name, value in settings["trainer"].items() if name not in OF_EACH}
        return json.dumps([settings["data"], trainer], sort_keys=True)

    @property
    def stackable(self) -> bool:
        """Whether this kind of run can be trained with others at all."""
        cli = self.cli
        plain = [value for name, value in cli.settings["trainer"].items() if name not in OF_EACH]
        return (
            type(cli.model) in KINDS
            and isinstance(cli.datamodule, NLBDataModule)
            and cli.trainer.world_size == 1
            and all(isinstance(logger, CSVLogger) for logger in cli.trainer.loggers)
            and not any(isinstance(value, dict | list) for value in plain)
            and self._is_plain
            # A checkpoint that it goes on from: it was begun alone.
            and not cli.config["fit"].ckpt_path
        )

    @property
    def _is_plain(self) -> bool:
        """Whether all that its settings ask for is heeded by those who train several."""
        trainer, settings = self.cli.trainer, self.cli.settings
        left = [(settings["trainer"][name], defaults(L.Trainer)[name]) for name in ALONE]
        for part, (kind, heeded) in HEEDED.items():
            left += [(settings[part][name], value) for name, value in defaults(kind).items() if name not in heeded]
        return (
            all(value == default for value, default in left)
            and all(isinstance(callback, PASSIVE) for callback in trainer.callbacks)
            and len(trainer.early_stopping_callbacks) == 1
            and {callback.monitor for callback in trainer.early_stopping_callbacks} <= SCORES
            and trainer.checkpoint_callback.monitor in SCORES
            # The one that chooses, and the last.
            and len(trainer.checkpoint_callbacks) == 2
            # One whose gradients overflow would hold up all.
            and getattr(trainer.precision_plugin, "scaler", None) is None
        )

    def member(self) -> Member:
        """What trains."""
        callbacks = self.cli.trainer.callbacks
        stopping = next(callback for callback in callbacks if isinstance(callback, EarlyStopping))
        chosen = self.cli.trainer.checkpoint_callback
        return Member(
            system=self.cli.model,
            seed=self.cli.settings["seed_everything"],
            callbacks=[callback for callback in callbacks if isinstance(callback, Distillation | Multitask)],
            selection=Selection(
                (chosen.monitor, chosen.mode), (stopping.monitor, stopping.mode), stopping.patience, stopping.min_delta
            ),
            checkpoint=self.cli.run / CHECKPOINTS / BEST,
            loggers=self.cli.trainer.loggers,
        )


def defaults(kind: type) -> dict[str, Any]:
    """What a class is made with where nothing is said."""
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}


@contextmanager
def finished_or_not() -> Iterator[None]:
    """Goes on after a run that has nothing left to do, which would end the program."""
    try:
        yield
    except SystemExit as ended:
        if ended.code:
            raise


@contextmanager
def others_go_on(failures: list[BlendError]) -> Iterator[None]:
    """Keeps for later what ends one run; a signal ends all."""
    try:
        yield
    except Stopped:
        raise
    except BlendError as error:
        failures.append(error)


def train_stacked(runs: Sequence[list[str]], together: int, output: Path) -> tuple[list[list[str]], list[BlendError]]:
    """Trains those runs at once that can be.

    Args:
        runs: arguments of `fit`, each with `--resume true`.
        together: at most so many at once.
        output: folder of all runs.

    Returns:
        Arguments of those that are still to be trained alone, which may fail by themselves, and why others have failed.

    Raises:
        Stopped: a signal ended training.
    """
    failures: list[BlendError] = []
    with ExitStack() as held:
        entries, singles = [], []
        for arguments in runs:
            claims = held.enter_context(ExitStack())
            refused: list[BlendError] = []
            # Among those that are refused are doubles: by the time that they are trained alone they have finished.
            with others_go_on(refused), finished_or_not():
                entries.append(Entry(arguments, prepare(arguments, claims), claims))
            if refused:
                singles.append(arguments)
        trained = [entry for entry in entries if _noted(entry.cli.run) is not None]
        for entry in trained:
            with others_go_on(failures):
                entry.cli.datamodule.prepare_data()
                entry.cli.datamodule.setup("fit")
                conclude(entry.cli)
        entries = [entry for entry in entries if entry not in trained]
        singles += [entry.arguments for entry in entries if not entry.stackable]
        for group in _equal([entry for entry in entries if entry.stackable], lambda entry: entry.setting):
            alone, failed = _train_on_same_data(group, together, output)
            singles += [entry.arguments for entry in alone]
            failures += failed
    return singles, failures


def _equal(entries: Sequence[Any], key: Callable[[Any], str]) -> list[list[Any]]:
    return [list(group) for _, group in groupby(sorted(entries, key=key), key)]


def _train_on_same_data(entries: Sequence[Entry], together: int, output: Path) -> tuple[list[Entry], list[BlendError]]:
    """Trains entries with equal settings of data and trainer; returns those that have no like, and what failed."""
    data = entries[0].cli.datamodule
    failures: list[BlendError] = []
    refused: list[BlendError] = []
    built, singles = [], []
    with others_go_on(refused):
        data.prepare_data()
        data.setup("fit")
    if refused:
        return list(entries), failures
    for entry in entries:
        with others_go_on(refused):
            entry.cli.datamodule = entry.cli.trainer.datamodule = data
            member = entry.member()
            member.build(entry.cli.trainer)
            built.append((entry, member, member.architecture))
        if refused:
            # Alone, it says why.
            singles.append(entry)
            refused.clear()
    for group in _equal(built, lambda each: each[2]):
        crowds = [group[start : start + together] for start in range(0, len(group), together)]
        batch = next(iter(data.train_dataloader()))
        reason = obstacle([member for _, member, _ in group], batch) if len(group) > 1 else None
        if reason:
            print(f"{len(group)} models train one after another: {reason}")
        for crowd in crowds:
            if reason or len(crowd) == 1:
                singles += [entry for entry, _, _ in crowd]
            else:
                failures += _train([entry.cli for entry, _, _ in crowd], [member for _, member, _ in crowd], output)
    return singles, failures


def _train(runs: Sequence[Prepared], members: Sequence[Member], output: Path) -> list[BlendError]:
    """Trains members and scores them; returns what some have failed by."""
    identity = hashlib.sha256(" ".join(str(run.run) for run in runs).encode()).hexdigest()[:8]
    folder = output / FOLDER / identity
    settings = {name: value for name, value in runs[0].settings["trainer"].items() if name not in OF_EACH}
    cost, last = Cost(), LastCheckpoint(folder / CHECKPOINTS)
    # Nobody is to choose a checkpoint by what an untrained model is worth.
    changes = {"num_sanity_val_steps": 0, "logger": False, "callbacks": [cost, last], "default_root_dir": folder}
    trainer = L.Trainer(**{**settings, **changes})
    trainer.strategy.checkpoint_io = WholeCheckpoints()
    begun = folder / CHECKPOINTS / LAST
    seeds = [member.seed for member in members]
    trainer.fit(
        Crowd(members),
        datamodule=CrowdData(runs[0].datamodule, seeds),
        ckpt_path=begun if begun.exists() else None,
        weights_only=True,
    )
    if last.stopped:
        raise Stopped(f"ended by a signal after epoch {trainer.current_epoch}; the same command goes on")
    failures: list[BlendError] = []
    for run, member in zip(runs, members, strict=True):
        with others_go_on(failures):
            note(run.run, member, _share(cost, member, len(members)))
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    for run in runs:
        if _noted(run.run) is not None:
            with others_go_on(failures):
                conclude(run)
    return failures


def note(run: Path, member: Member, cost: dict[str, float | int] | None) -> None:
    """Writes into a run's folder that it was trained, so that it is not trained again if its scoring is ended.

    Raises:
        DataError: it has failed, or the folder cannot be written.
    """
    selection = member.selection
    if selection.failure:
        raise DataError(f"{run}: {selection.failure}")
    if math.isnan(selection.best):
        raise DataError(f"{run}: no {selection.choosing[0]} was ever a number; lower the learning rate")
    content = {"epoch": selection.epoch, "selected": selection.best, "cost": cost, "written": _written(run)}
    try:
        with atomic_file(run / TRAINED) as path:
            path.write_text(json.dumps(content))
    except OSError as error:
        raise unwritable(run, error) from error


def conclude(run: Prepared) -> None:
    """Scores a run that was trained with others and writes its results."""
    noted = _noted(run.run)
    assert noted is not None
    run.conclude(run.run / CHECKPOINTS / BEST, noted["epoch"], noted["selected"], noted["cost"])
    (run.run / TRAINED).unlink()


def _noted(run: Path) -> dict[str, Any] | None:
    """What `note` wrote, if the checkpoint is still the one that it is of."""
    try:
        noted: dict[str, Any] = json.loads((run / TRAINED).read_text())
        return noted if noted["written"] == _written(run) else None
    except (OSError, ValueError, KeyError):
        return None


def _written(run: Path) -> int:
    """When the chosen checkpoint was written."""
    return (run / CHECKPOINTS / BEST).stat().st_mtime_ns


def _share(cost: Cost, member: Member, members: int) -> dict[str, float | int] | None:
    """What one of several cost; the memory is that of all."""
    whole = cost.summary()
    if whole is None:
        return None
    return {
        **whole,
        "parameters": parameters_of(member.system),
        "seconds_per_step": whole["seconds_per_step"] / members,
        "members": members,
    }
