"""Translation of errors of libraries to errors that a user can correct."""

from argparse import ArgumentError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException

from blend_pl.errors import ConfigError, TrainingInterrupted
from blend_pl.utils.suggestions import explain_parser_error, with_help

LIGHTNING_ADVICE = (
    ("No supported gpu backend", "set trainer.accelerator to auto or cpu, or run this where torch finds a GPU"),
    ("can not run on your system", "set trainer.accelerator to auto"),
    ("invalid accelerator name", "set trainer.accelerator to auto, cpu or gpu"),
    ("invalid strategy name", "set trainer.strategy to auto, ddp or another strategy of Lightning"),
    ("You requested gpu", "lower trainer.devices, or set it to auto"),
    ("is not a valid input", "set trainer.devices to auto or to a number of devices"),
    ("could not find the monitored key", "set checkpoint.monitor to one of these"),
    ("Early stopping conditioned on metric", "set early_stopping.monitor to one of these"),
    ("enable_checkpointing=False", "remove trainer.enable_checkpointing: the best checkpoint is scored"),
    ("precision=", "change trainer.precision"),
)
"""Parts of messages of Lightning, and what to do."""


@contextmanager
def user_errors(command: str, settings: Callable[[], Iterable[str]] = tuple) -> Iterator[None]:
    """Translates signals, errors of the parser and of Lightning, and lack of GPU memory.

    Args:
        command: name of the command, for the message.
        settings: returns the names of all settings, from which mistyped ones are corrected.

    Raises:
        ConfigError: an argument or a setting is invalid, or the GPU has too little memory.
        TrainingInterrupted: a signal was received.
    """
    try:
        with translate_oom():
            yield
    except SIGTERMException:
        raise TrainingInterrupted("ended by a signal; the same command resumes, `fit` with --resume true") from None
    except ArgumentError as error:
        explanation = explain_parser_error(str(error), settings())
        raise ConfigError(with_help(explanation, command)) from error
    except MisconfigurationException as error:
        raise ConfigError(explain_lightning_error(error)) from error
    except RuntimeError as error:
        # Lightning raises it for a monitor of early stopping that is not logged.
        if "Early stopping conditioned on metric" not in str(error):
            raise
        raise ConfigError(explain_lightning_error(error)) from error


def explain_lightning_error(error: Exception) -> str:
    """Returns an error of Lightning on one line, with advice."""
    text = " ".join(str(error).split()).rstrip(".!")
    advice = next((advice for part, advice in LIGHTNING_ADVICE if part in text), "change the settings of the trainer")
    return f"{text}; {advice}"


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
