"""Filters of messages of libraries."""

import logging
import warnings

import pytest

from blend_pl.utils.quiet import LOGGERS, quiet_libraries


class Recorder(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def recorder() -> Recorder:
    recorder, logger = Recorder(), logging.getLogger(LOGGERS[0])
    logger.addHandler(recorder)
    yield recorder
    logger.removeHandler(recorder)


def test_advertisements_are_hidden_and_other_messages_remain(recorder: Recorder) -> None:
    logger = logging.getLogger(LOGGERS[0])
    logger.setLevel(logging.INFO)
    with quiet_libraries():
        for message in (
            "💡 Tip: install x",
            "GPU available: False, used: False",
            "the network is not compiled: no GPU",
        ):
            logger.info(message)
        logger.warning("GPU available: False, used: False")
    logger.info("💡 Tip: install x")
    assert recorder.messages == [
        "the network is not compiled: no GPU",
        "GPU available: False, used: False",
        "💡 Tip: install x",
    ]


def warn_from(module: str, message: str) -> None:
    warnings.warn_explicit(message, UserWarning, f"{module}.py", 1, module=module)


def test_only_listed_warnings_of_libraries_are_hidden() -> None:
    message = "The 'train_dataloader' does not have many workers which may be a bottleneck."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_libraries():
            warn_from("lightning.pytorch.trainer", message)
            warn_from("my_project.data", message)
            warn_from("lightning.pytorch.trainer", "GPU available but not used.")
    assert [str(warning.message) for warning in caught] == [message, "GPU available but not used."]
