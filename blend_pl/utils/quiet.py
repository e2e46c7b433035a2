"""Filters of messages of libraries that need no action by the user."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch.accelerators.cuda",
)
"""Loggers of Lightning with messages of `LOG_MESSAGES`."""

LOG_MESSAGES = (
    r"💡 Tip: ",
    r"(GPU|TPU|HPU|IPU) available: ",
    r"LOCAL_RANK: \d+ - CUDA_VISIBLE_DEVICES",
    r"Seed set to ",
    r"Loading `train_dataloader` to estimate",
    r"`Trainer\.fit` stopped: ",
    r"Restoring states from the checkpoint path",
    r"Restored all states from the checkpoint",
    r"Loaded model weights from the checkpoint",
    r"Using (16bit|bfloat16) (native )?Automatic Mixed Precision",
    r"You are using a CUDA device .* that has Tensor Cores",
    r"Trainer already configured with model summary",
)
"""Starts of log messages about what Lightning does, which repeat the settings or the progress line."""

WARNINGS = (
    (r".*does not have many workers", r"lightning\.pytorch"),
    (r".*isinstance\(treespec, LeafSpec\)", r"lightning\.pytorch"),
    (r".*TypedStorage is deprecated", r"(torch|lightning)"),
    (r".*sync_dist=True", r"lightning\.pytorch"),
    (r"Checkpoint directory .* exists and is not empty", r"lightning\.pytorch"),
    (r"The number of training batches .* is smaller than the logging interval", r"lightning\.pytorch"),
    (r"Trying to infer the `batch_size`", r"lightning\.pytorch"),
    (r"The dirpath has changed from", r"lightning\.pytorch"),
    (r"Attribute '\w+' removed from hparams", r"lightning\.pytorch"),
)
"""Pairs (message, module) of warnings that data modules in memory, or Lightning itself, cause."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hides the messages of `LOG_MESSAGES` and `WARNINGS`, but no others and none from other modules."""
    pattern = re.compile("|".join(LOG_MESSAGES))

    def is_relevant(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or not pattern.match(record.getMessage())

    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(is_relevant)
    try:
        with warnings.catch_warnings():
            for message, module in WARNINGS:
                warnings.filterwarnings("ignore", message=message, module=module)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_relevant)
