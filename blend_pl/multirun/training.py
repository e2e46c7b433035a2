"""Stacked training of several runs of `fit`."""

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

from blend_pl.callbacks import LastCheckpoint, TrainingCost
from blend_pl.callbacks.training_cost import count_parameters
from blend_pl.errors import BlendError, ConfigError, TrainingInterrupted
from blend_pl.experiment import Experiment
from blend_pl.multirun.candidate import Candidate
from blend_pl.multirun.marker import finalize, read_marker, write_marker
from blend_pl.multirun.replica import Replica
from blend_pl.multirun.stacked_module import StackedDataModule, StackedModule
from blend_pl.multirun.stacked_step import stacking_unsupported_reason
from blend_pl.runs.folder import CHECKPOINT_DIR, LAST_CHECKPOINT
from blend_pl.systems.checkpoint import AtomicCheckpointIO
from blend_pl.utils.exceptions import translate_oom
from blend_pl.utils.files import write_error

STACKED_DIR = "multirun"
OLD_STACKED_DIR = "many"
"""Folder of resume checkpoints in version 0.1."""


@contextmanager
def collect_failures(failures: list[BlendError]) -> Iterator[None]:
    """Collects the error of one run, so that the others continue; a signal ends all runs."""
    try:
        yield
    except TrainingInterrupted:
        raise
    except BlendError as error:
        failures.append(error)


def train_stacked(
    fit_arguments: Sequence[list[str]], max_parallel: int, output: Path
) -> tuple[list[list[str]], list[BlendError]]:
    """Trains all runs that can be stacked.

    Args:
        fit_arguments: arguments of `fit` for each run, with `--resume true`.
        max_parallel: maximum number of runs that train at once.
        output: folder of all runs.

    Returns:
        Arguments of the runs that remain to be trained one after another, and the errors of failed runs.

    Raises:
        ConfigError: the output folder contains a resume checkpoint of version 0.1.
        TrainingInterrupted: a signal ended training.
    """
    _check_old_stacks(output)
    failures: list[BlendError] = []
    with ExitStack() as exit_stack:
        candidates, unstacked = [], []
        for arguments in fit_arguments:
            locks = exit_stack.enter_context(ExitStack())
            errors: list[BlendError] = []
            # The second of two equal runs is refused by the lock of the first, which has finished when it is retried.
            with collect_failures(errors):
                experiment = Experiment(arguments)
                if experiment.build(locks):
                    candidates.append(Candidate(arguments, experiment, locks))
            if errors:
                unstacked.append(arguments)
        trained = [candidate for candidate in candidates if read_marker(candidate.experiment.run_dir) is not None]
        for candidate in trained:
            with collect_failures(failures), translate_oom():
                candidate.experiment.datamodule.prepare_data()
                candidate.experiment.datamodule.setup("fit")
                finalize(candidate.experiment)
        candidates = [candidate for candidate in candidates if candidate not in trained]
        unstacked += [candidate.arguments for candidate in candidates if not candidate.is_stackable]
        for group in _group_by_key(
            [candidate for candidate in candidates if candidate.is_stackable], lambda candidate: candidate.group_key
        ):
            remaining, group_failures = _train_group(group, max_parallel, output)
            unstacked += [candidate.arguments for candidate in remaining]
            failures += group_failures
    return unstacked, failures


def _check_old_stacks(output: Path) -> None:
    """Raises ConfigError if a stack of version 0.1 was interrupted; its checkpoint cannot be resumed."""
    folder = output / OLD_STACKED_DIR
    # The names of these folders are eight hexadecimal digits; those of run folders are longer.
    if any(folder.glob(f"{'[0-9a-f]' * 8}/{CHECKPOINT_DIR}/{LAST_CHECKPOINT}")):
        raise ConfigError(
            f"{folder} contains interrupted stacked training of version 0.1, which this version cannot resume; finish "
            "it with version 0.1, or delete the folder to train those runs again"
        )


def _group_by_key(items: Sequence[Any], key: Callable[[Any], str]) -> list[list[Any]]:
    return [list(group) for _, group in groupby(sorted(items, key=key), key)]


def _train_group(
    candidates: Sequence[Candidate], max_parallel: int, output: Path
) -> tuple[list[Candidate], list[BlendError]]:
    """Trains candidates with equal data and trainer settings; returns those that cannot be stacked, and the errors."""
    datamodule = candidates[0].experiment.datamodule
    failures: list[BlendError] = []
    errors: list[BlendError] = []
    built, unstacked = [], []
    with collect_failures(errors):
        datamodule.prepare_data()
        datamodule.setup("fit")
    if errors:
        return list(candidates), failures
    for candidate in candidates:
        with collect_failures(errors):
            candidate.experiment.datamodule = candidate.experiment.trainer.datamodule = datamodule
            replica = candidate.make_replica()
            replica.build(candidate.experiment.trainer)
            built.append((candidate, replica, replica.architecture))
        if errors:
            # It raises the error again when it is trained on its own.
            unstacked.append(candidate)
            errors.clear()
    for group in _group_by_key(built, lambda item: item[2]):
        chunks = [group[start : start + max_parallel] for start in range(0, len(group), max_parallel)]
        batch = next(iter(datamodule.train_dataloader()))
        reason = stacking_unsupported_reason([replica for _, replica, _ in group], batch) if len(group) > 1 else None
        if reason:
            print(f"{len(group)} models train one after another: {reason}")
        for chunk in chunks:
            if reason:
                unstacked += [candidate for candidate, _, _ in chunk]
            else:
                remaining, chunk_failures = _train_halving_on_oom(
                    [(candidate, replica) for candidate, replica, _ in chunk], output
                )
                unstacked += remaining
                failures += chunk_failures
    return unstacked, failures


def _train_halving_on_oom(
    chunk: Sequence[tuple[Candidate, Replica]], output: Path
) -> tuple[list[Candidate], list[BlendError]]:
    """Trains a stack; if the memory does not suffice, restarts it in two halves.

    Returns:
        Candidates that remain to be trained one after another, and the errors of failed runs.
    """
    candidates, replicas = [candidate for candidate, _ in chunk], [replica for _, replica in chunk]
    if len(chunk) == 1:
        return candidates, []
    initial_states = [
        copy.deepcopy((replica.system.state_dict(), replica.selector.state_dict())) for replica in replicas
    ]
    try:
        return [], _train_stack(candidates, replicas, output)
    except torch.OutOfMemoryError:
        print(f"not enough memory for {len(chunk)} models at once; training is restarted in two halves")
    for replica, (weights, selector_state) in zip(replicas, initial_states, strict=True):
        # The trainer holds references to the whole stack.
        replica.system.trainer = None
        replica.system.load_state_dict(weights)
        replica.system.validation_loss.reset()
        replica.selector.load_state_dict(selector_state)
    shutil.rmtree(_stack_dir(candidates, output), ignore_errors=True)
    # The traceback of the error held references to the tensors.
    gc.collect()
    torch.cuda.empty_cache()
    middle = len(chunk) // 2
    half_results = [_train_halving_on_oom(half_chunk, output) for half_chunk in (chunk[:middle], chunk[middle:])]
    return [candidate for remaining, _ in half_results for candidate in remaining], [
        failure for _, half_failures in half_results for failure in half_failures
    ]


def _stack_dir(candidates: Sequence[Candidate], output: Path) -> Path:
    """Returns the folder of a stack's resume checkpoint, which is another one for other data."""
    run_dirs = " ".join(str(candidate.experiment.run_dir) for candidate in candidates)
    text = f"{run_dirs} {candidates[0].experiment.datamodule.digest}"
    return output / STACKED_DIR / hashlib.sha256(text.encode()).hexdigest()[:8]


def _train_stack(candidates: Sequence[Candidate], replicas: Sequence[Replica], output: Path) -> list[BlendError]:
    """Trains and evaluates a stack; returns the errors of failed runs."""
    experiments, folder = [candidate.experiment for candidate in candidates], _stack_dir(candidates, output)
    cost, last_callback = TrainingCost(), LastCheckpoint(folder / CHECKPOINT_DIR)
    # A sanity check would select a checkpoint of the untrained models.
    trainer_overrides = {
        "num_sanity_val_steps": 0,
        "logger": False,
        "callbacks": [cost, last_callback],
        "default_root_dir": folder,
    }
    trainer = L.Trainer(**{**candidates[0].trainer_settings, **trainer_overrides})
    trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    last_checkpoint = folder / CHECKPOINT_DIR / LAST_CHECKPOINT
    seeds = [replica.seed for replica in replicas]
    trainer.fit(
        StackedModule(replicas),
        datamodule=StackedDataModule(experiments[0].datamodule, seeds),
        ckpt_path=last_checkpoint if last_checkpoint.exists() else None,
        weights_only=True,
    )
    if last_callback.interrupted:
        raise TrainingInterrupted(
            f"a signal ended training after epoch {trainer.current_epoch}; run the same command again to resume it"
        )
    failures: list[BlendError] = []
    for experiment, replica in zip(experiments, replicas, strict=True):
        with collect_failures(failures):
            write_marker(experiment.run_dir, replica, _cost_per_replica(cost, replica, len(replicas)))
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise write_error(folder, error) from error
    for experiment in experiments:
        if read_marker(experiment.run_dir) is not None:
            with collect_failures(failures), translate_oom():
                finalize(experiment)
    return failures


def _cost_per_replica(cost: TrainingCost, replica: Replica, n_replicas: int) -> dict[str, float | int] | None:
    """Returns the cost of one replica; the memory is that of the whole stack."""
    total = cost.summary()
    if total is None:
        return None
    return {
        **total,
        "parameters": count_parameters(replica.system),
        "seconds_per_step": total["seconds_per_step"] / n_replicas,
        "members": n_replicas,
    }
