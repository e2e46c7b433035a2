"""A `fit` up to where training begins."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from blend_pl.cli.trainer import BlendCLI
from blend_pl.utils.exceptions import user_errors


class BuiltExperiment(BlendCLI):
    """All that a `fit` consists of, for one who trains several at once."""

    def before_fit(self) -> None:
        # What W&B is told of is a training: it would begin one run for all that are made here.
        self.init_run_dir()

    def fit(self, **_: Any) -> None:
        """In the place of the trainer's."""

    def after_fit(self) -> None:
        """Nothing has been trained yet."""


def build_experiment(arguments: Sequence[str], locks: ExitStack) -> BuiltExperiment:
    """Makes all that a `fit` consists of; see `run_trainer`.

    Args:
        arguments: of `fit`, which itself is left out.
        locks: keeps the run's folder for this process until it is closed.
    """
    with user_errors("fit"):
        return BuiltExperiment(["fit", *arguments], locks)
