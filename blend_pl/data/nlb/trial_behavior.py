"""Behaviour that is one value a trial: numbers, and categories as one channel for each value they take."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require
from blend_pl.data.nlb.spec import Behavior
from blend_pl.data.nlb.trial_values import trial_values


class TrialBehavior:
    """The trial-level channels of a session.

    A linear map on one-hot channels is an embedding: whatever takes behaviour in takes categories in.

    Args:
        behavior: names the columns; None for none.
        trials: the trials table that holds training and validation trials.
        rows: their rows, which decide what values a category takes.
        where: the table and file, for errors.

    Raises:
        DataError: a column is missing or, for numbers, holds none.
    """

    def __init__(self, behavior: Behavior | None, trials: Columns, rows: np.ndarray, where: str) -> None:
        self._names = behavior.trial_columns if behavior else []
        categories = behavior.categories if behavior else []
        self._levels: dict[str, np.ndarray] = {}
        for name in categories:
            values = require(trials, name, "behavior.categories", where)[rows]
            self._levels[name] = np.unique(values[values == values])
        trial_values(trials, self._names, "behavior.trial_columns", rows, where)

    def of(self, trials: Columns, rows: np.ndarray, where: str) -> np.ndarray:
        """(n, K) float64 channels of the given rows: numbers first, then categories, each by sorted value.

        NaN where the table has no such column, as a test file, or no value, and for values that were not seen before.
        """
        unknown = np.full((len(rows), 1), np.nan)
        channels = [np.empty((len(rows), 0))]
        for name in self._names:
            known = name in trials
            channels.append(trial_values(trials, [name], "behavior.trial_columns", rows, where) if known else unknown)
        for name, levels in self._levels.items():
            one_hot = (trials[name][rows][:, None] == levels) if name in trials else np.zeros((len(rows), len(levels)))
            one_hot = one_hot.astype(np.float64)
            one_hot[one_hot.sum(1) == 0] = np.nan
            channels.append(one_hot)
        return np.concatenate(channels, axis=1)
