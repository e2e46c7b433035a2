"""From command lines of `fit` to runs that were trained at once."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger

from blend_pl.callbacks import Cost, Distillation, LastCheckpoint, Multitask
from blend_pl.cli import Prepared, prepare
from blend_pl.data.module import NLBDataModule
from blend_pl.errors import DataError, Stopped
from blend_pl.files import unwritable
from blend_pl.many.crowd import Crowd, CrowdData, obstacle
from blend_pl.many.member import KINDS, Member
from blend_pl.many.selection import Selection
from blend_pl.runs import BEST, CHECKPOINTS, LAST
from blend_pl.systems.checkpoint import WholeCheckpoints

FOLDER = "many"
OF_EACH = ("logger", "callbacks", "default_root_dir")
"""Settings of the trainer that every run has for itself."""


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
            # It was begun alone.
            and not (cli.run / CHECKPOINTS / LAST).exists()
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


@contextmanager
def finished_or_not() -> Iterator[None]:
    """Goes on after a run that has nothing left to do, which would end the program."""
    try:
        yield
    except SystemExit as ended:
        if ended.code:
            raise


def train_stacked(runs: Sequence[list[str]], together: int, output: Path) -> list[list[str]]:
    """Trains those runs at once that can be.

    Args:
        runs: arguments of `fit`, each with `--resume true`.
        together: at most so many at once.
        output: folder of all runs.

    Returns:
        Arguments of those that are still to be trained alone.

    Raises:
        BlendError: as `fit`.
    """
    alone = []
    with ExitStack() as held:
        entries = []
        for arguments in runs:
            claims = held.enter_context(ExitStack())
            with finished_or_not():
                entries.append(Entry(arguments, prepare(arguments, claims), claims))
        singles = [entry for entry in entries if not entry.stackable]
        for group in _equal([entry for entry in entries if entry.stackable], lambda entry: entry.setting):
            singles += _train_on_same_data(group, together, output)
        for entry in singles:
            alone.append(entry.arguments)
    return alone


def _equal(entries: Sequence[Any], key: Callable[[Any], str]) -> list[list[Any]]:
    return [list(group) for _, group in groupby(sorted(entries, key=key), key)]


def _train_on_same_data(entries: Sequence[Entry], together: int, output: Path) -> list[Entry]:
    """Trains entries with equal settings of data and trainer; returns those that have no like."""
    data = entries[0].cli.datamodule
    data.prepare_data()
    data.setup("fit")
    built = []
    for entry in entries:
        entry.cli.datamodule = entry.cli.trainer.datamodule = data
        member = entry.member()
        member.build(entry.cli.trainer)
        built.append((entry, member, member.architecture))
    singles = []
    batch = next(iter(data.train_dataloader()))
    for group in _equal(built, lambda each: each[2]):
        crowds = [group[start : start + together] for start in range(0, len(group), together)]
        reason = obstacle([member for _, member, _ in group], batch) if len(group) > 1 else None
        if reason:
            print(f"{len(group)} models train one after another: {reason}")
        for crowd in crowds:
            if reason or len(crowd) == 1:
                singles += [entry for entry, _, _ in crowd]
            else:
                _train([entry.cli for entry, _, _ in crowd], [member for _, member, _ in crowd], output)
    return singles


def _train(runs: Sequence[Prepared], members: Sequence[Member], output: Path) -> None:
    identity = hashlib.sha256(" ".join(str(run.run) for run in runs).encode()).hexdigest()[:8]
    folder = output / FOLDER / identity
    settings = {name: value for name, value in runs[0].settings["trainer"].items() if name not in OF_EACH}
    cost, last = Cost(), LastCheckpoint(folder / CHECKPOINTS)
    trainer = L.Trainer(**{**settings, "devices": 1}, logger=False, callbacks=[cost, last], default_root_dir=folder)
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
    failed = []
    for run, member in zip(runs, members, strict=True):
        if not member.checkpoint.exists():
            failed.append(run.run)
            continue
        run.conclude(member.checkpoint, member.selection.epoch, member.selection.best, _share(cost, len(members)))
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    if failed:
        raise DataError(f"no score of {', '.join(map(str, failed))} was ever a number; lower the learning rate")


def _share(cost: Cost, members: int) -> dict[str, float | int] | None:
    """What one of several cost; the memory is that of all."""
    whole = cost.summary()
    if whole is None:
        return None
    return {
        **whole,
        "parameters": whole["parameters"] // members,
        "seconds_per_step": whole["seconds_per_step"] / members,
        "members": members,
    }
