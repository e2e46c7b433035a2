"""Translation of errors of libraries to errors that a user can correct."""

from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from blend_pl.errors import ConfigError, TrainingInterrupted, innermost_parser_error


@contextmanager
def user_errors(command: str) -> Iterator[None]:
    """Translates signals, errors of the parser and lack of GPU memory.

    Args:
        command: name of the command, for the message.

    Raises:
        ConfigError: an argument is invalid, or the GPU has too little memory.
        TrainingInterrupted: a signal was received.
    """
    try:
        with translate_oom():
            yield
    except SIGTERMException:
        raise TrainingInterrupted("ended by a signal; the same command resumes, `fit` with --resume true") from None
    except ArgumentError as error:
        raise ConfigError(f"{innermost_parser_error(str(error))}; see `python -m blend_pl {command} --help`") from error


@contextmanager
def translate_oom() -> Iterator[None]:
    """Translates lack of GPU memory.

    Raises:
        ConfigError: the GPU has too little memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # The rest are statistics of the allocator.
        reason = " ".join(str(error).partition(" GPU ")[0].split()).rstrip(".")
        raise ConfigError(
            f"{reason or 'out of memory'}: choose a smaller data.batch_size, with trainer.accumulate_grad_batches to "
            "compensate, a smaller data.eval_batch_size, or trainer.precision bf16-mixed; if other processes use the "
            "GPU, the same command with --resume true continues from the last checkpoint"
        ) from error
