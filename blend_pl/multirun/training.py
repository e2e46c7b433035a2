"""From command lines of `fit` to runs that were trained at once."""

import copy
import gc
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import lightning as L
import torch

from blend_pl.callbacks import Cost, LastCheckpoint
from blend_pl.callbacks.training_cost import parameters_of
from blend_pl.errors import BlendError, Stopped
from blend_pl.multirun.build import prepare
from blend_pl.multirun.candidate import Entry
from blend_pl.multirun.marker import conclude, note, noted
from blend_pl.multirun.replica import Member
from blend_pl.multirun.stacked_module import Crowd, CrowdData
from blend_pl.multirun.stacked_step import obstacle
from blend_pl.runs.folder import CHECKPOINTS, LAST
from blend_pl.systems.checkpoint import WholeCheckpoints
from blend_pl.utils.exceptions import within_memory
from blend_pl.utils.files import unwritable

FOLDER = "many"


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
        trained = [entry for entry in entries if noted(entry.cli.run) is not None]
        for entry in trained:
            with others_go_on(failures), within_memory():
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
            if reason:
                singles += [entry for entry, _, _ in crowd]
            else:
                alone, failed = _train_what_fits([(entry, member) for entry, member, _ in crowd], output)
                singles += alone
                failures += failed
    return singles, failures


def _train_what_fits(crowd: Sequence[tuple[Entry, Member]], output: Path) -> tuple[list[Entry], list[BlendError]]:
    """Trains a crowd; one for which the memory does not suffice begins again as two halves.

    Returns:
        Who is left to be trained alone, and what some have failed by.
    """
    entries, members = [entry for entry, _ in crowd], [member for _, member in crowd]
    if len(crowd) == 1:
        return entries, []
    begun = [copy.deepcopy((member.system.state_dict(), member.selection.state_dict())) for member in members]
    try:
        return [], _train(entries, members, output)
    except torch.OutOfMemoryError:
        print(f"there is no memory for {len(crowd)} models at once; they begin again, half of them at a time")
    for member, (weights, selection) in zip(members, begun, strict=True):
        # It holds the whole crowd.
        member.system.trainer = None
        member.system.load_state_dict(weights)
        member.system.validation_loss.reset()
        member.selection.load_state_dict(selection)
    shutil.rmtree(_folder(entries, output), ignore_errors=True)
    # The error held on to what filled the memory.
    gc.collect()
    torch.cuda.empty_cache()
    half = len(crowd) // 2
    parts = [_train_what_fits(part, output) for part in (crowd[:half], crowd[half:])]
    return [entry for alone, _ in parts for entry in alone], [failure for _, failed in parts for failure in failed]


def _folder(entries: Sequence[Entry], output: Path) -> Path:
    """Where those who train together keep what they go on from."""
    runs = " ".join(str(entry.cli.run) for entry in entries)
    return output / FOLDER / hashlib.sha256(runs.encode()).hexdigest()[:8]


def _train(entries: Sequence[Entry], members: Sequence[Member], output: Path) -> list[BlendError]:
    """Trains members and scores them; returns what some have failed by."""
    runs, folder = [entry.cli for entry in entries], _folder(entries, output)
    cost, last = Cost(), LastCheckpoint(folder / CHECKPOINTS)
    # Nobody is to choose a checkpoint by what an untrained model is worth.
    changes = {"num_sanity_val_steps": 0, "logger": False, "callbacks": [cost, last], "default_root_dir": folder}
    trainer = L.Trainer(**{**entries[0].budget, **changes})
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
        if noted(run.run) is not None:
            with others_go_on(failures), within_memory():
                conclude(run)
    return failures


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
