"""Folds of cross-validation: contiguous blocks of a session's trials, one of which is scored."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import ConfigError, DataError


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation.

    Attributes:
        number: number of the scored block, 1 to `count`.
        count: number of blocks.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Fold":
        """Returns the fold that is written as "k/K".

        Raises:
            ConfigError: the text is no fold, or k is not among 1 to K.

        Example:
            >>> Fold.parse("2/5")
            Fold(number=2, count=5)
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise ConfigError(f"data.fold is {text!r}; write the number of the fold and of all folds, as in 2/5")
        fold = cls(int(match[1]), int(match[2]))
        if fold.count < 2:
            raise ConfigError(f"data.fold is {text}; there must be at least two folds, as in 1/2")
        if not 1 <= fold.number <= fold.count:
            raise ConfigError(f"data.fold is {text}; the folds are 1/{fold.count} to {fold.count}/{fold.count}")
        return fold


@dataclass(frozen=True)
class FoldTrials:
    """The trials of one fold.

    Attributes:
        train: training trials.
        scored: trials of the scored block.
        n_left_out: trials of other blocks that share bins with the scored block, which are in neither part.
    """

    train: SessionTensors
    scored: SessionTensors
    n_left_out: int


def divide_fold(session: SessionTensors, fold: Fold) -> FoldTrials:
    """Divides trials into the training trials and the scored trials of a fold, without shared bins.

    The trials, in the order of the recording, are divided into contiguous blocks of equal numbers of trials. Every
    trial is in the scored block of exactly one fold. Training trials that share observed or forward bins with the
    scored block are left out.

    Args:
        session: all trials of the recording that may be used for training.
        fold: the fold.

    Raises:
        ConfigError: there are more folds than trials.
        DataError: no training trial is left.
    """
    n_trials = len(session)
    if fold.count > n_trials:
        raise ConfigError(f"data.fold is {fold}, and there are {n_trials} trials; choose at most {n_trials} folds")
    order = session.start_bin.argsort(stable=True)
    borders = [round(number * n_trials / fold.count) for number in (fold.number - 1, fold.number)]
    is_scored = torch.zeros(n_trials, dtype=torch.bool)
    is_scored[order[borders[0] : borders[1]]] = True
    is_shared = _overlaps(session, is_scored) & ~is_scored
    is_train = ~is_scored & ~is_shared
    if not is_train.any():
        raise DataError(
            f"all trials outside of the scored block of data.fold {fold} share bins with it; choose fewer folds, or "
            "shorten data.spec.window.stop_ms"
        )
    return FoldTrials(session.select(is_train), session.select(is_scored), int(is_shared.sum()))


def describe_fold(fold: Fold, trials: FoldTrials) -> str:
    """Returns a remark on the trials that a fold leaves out; empty if there are none."""
    if not trials.n_left_out:
        return ""
    n_total = len(trials.train) + len(trials.scored) + trials.n_left_out
    return (
        f"{trials.n_left_out} of {n_total} trials share bins with the scored block of fold {fold} and are not used "
        "for training"
    )


def _overlaps(session: SessionTensors, is_scored: Tensor) -> Tensor:
    """Returns the (trials,) bool mask of trials that share a recorded bin with a scored trial."""
    start, stop = session.recorded_spans(session.n_observed + session.n_forward)
    scored_start, order = start[is_scored].sort()
    latest_stop = stop[is_scored][order].cummax(0).values
    # The scored trials that start before this trial ends; one of them ends after this trial starts.
    n_before = torch.searchsorted(scored_start, stop)
    return (n_before > 0) & (latest_stop[(n_before - 1).clamp_min(0)] > start)
