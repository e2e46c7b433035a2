"""Errors of libraries, in words that say what to do."""

from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from blend_pl.errors import ConfigError, TrainingInterrupted, first_parser_error


@contextmanager
def user_errors(command: str) -> Iterator[None]:
    """Says what to do about whatever may end a command of the trainer.

    Args:
        command: its name.

    Raises:
        ConfigError: a bad argument, or a GPU with too little memory.
        Stopped: a signal.
    """
    try:
        with translate_oom():
            yield
    except SIGTERMException:
        raise TrainingInterrupted("ended by a signal; the same command, `fit` with --resume true, goes on") from None
    except ArgumentError as error:
        raise ConfigError(f"{first_parser_error(str(error))}; see `python -m blend_pl {command} --help`") from error


@contextmanager
def translate_oom() -> Iterator[None]:
    """Says what to do where a GPU's memory does not suffice.

    Raises:
        ConfigError: it does not.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # What follows are numbers of the allocator.
        reason = " ".join(str(error).partition(" GPU ")[0].split()).rstrip(".")
        raise ConfigError(
            f"{reason or 'out of memory'}: choose a smaller data.batch_size, with trainer.accumulate_grad_batches to "
            "make up for it, a smaller data.eval_batch_size, or trainer.precision bf16-mixed; if somebody else filled "
            "the GPU, the same command with --resume true goes on from the last checkpoint"
        ) from error
