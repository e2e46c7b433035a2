"""Behaviour that is one value a trial: numbers, and categories as one channel for each value they take."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.data.nlb.trial_values import trial_values


class TrialBehavior:
    """The trial-level channels of a session.

    A linear map on one-hot channels is an embedding: whatever takes behaviour in takes categories in.

    Args:
        behavior: names the columns; None for none.
        trials: the trials table that holds training and validation trials.
        rows: their rows, which decide what values a category takes.
        table_label: the table and file, for errors.

    Raises:
        DataError: a column is missing or, for numbers, holds none.
    """

    def __init__(self, behavior: BehaviorSpec | None, trials: Columns, rows: np.ndarray, table_label: str) -> None:
        self._numeric_columns = behavior.trial_columns if behavior else []
        categories = behavior.categories if behavior else []
        self._levels: dict[str, np.ndarray] = {}
        for name in categories:
            values = require_column(trials, name, "behavior.categories", table_label)[rows]
            self._levels[name] = np.unique(values[values == values])
        trial_values(trials, self._numeric_columns, "behavior.trial_columns", rows, table_label)

    def encode(self, trials: Columns, rows: np.ndarray, table_label: str) -> np.ndarray:
        """(n, K) float64 channels of the given rows: numbers first, then categories, each by sorted value.

        NaN where the table has no such column, as a test file, or no value, and for values that were not seen before.
        """
        missing = np.full((len(rows), 1), np.nan)
        channels = [np.empty((len(rows), 0))]
        for name in self._numeric_columns:
            has_column = name in trials
            channels.append(
                trial_values(trials, [name], "behavior.trial_columns", rows, table_label) if has_column else missing
            )
        for name, levels in self._levels.items():
            one_hot = (trials[name][rows][:, None] == levels) if name in trials else np.zeros((len(rows), len(levels)))
            one_hot = one_hot.astype(np.float64)
            one_hot[one_hot.sum(1) == 0] = np.nan
            channels.append(one_hot)
        return np.concatenate(channels, axis=1)
