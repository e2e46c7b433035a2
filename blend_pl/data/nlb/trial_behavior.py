"""Behavior with one value per trial: numbers, and one-hot channels of categories."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.data.nlb.trial_values import trial_values
from blend_pl.errors import DataError

_MIN_TRIALS = 10
"""Smallest number of trials that shows that a column has no categories."""


class TrialBehavior:
    """Channels of a session that are constant over a trial.

    Args:
        behavior: names the columns; None for none.
        trials: trials table with training and validation trials.
        rows: rows of these trials, which determine the values of each category.
        table_label: table and file, for error messages.

    Raises:
        DataError: a column is missing or should be numeric and is not, or categories have another value in each trial.
    """

    def __init__(self, behavior: BehaviorSpec | None, trials: Columns, rows: np.ndarray, table_label: str) -> None:
        self._numeric_columns = behavior.trial_columns if behavior else []
        categories = behavior.categories if behavior else []
        self._levels: dict[str, np.ndarray] = {}
        for name in categories:
            values = require_column(trials, name, "behavior.categories", table_label)[rows]
            values = values[values == values]
            self._levels[name] = np.unique(values)
            if len(self._levels[name]) == len(values) >= _MIN_TRIALS:
                raise DataError(
                    f"{table_label} has another value of {name!r} in each of {len(values)} trials, which are no "
                    "categories; name a column of numbers in behavior.trial_columns instead, or leave it out"
                )
        self._n_values = {
            name: trial_values(trials, [name], "behavior.trial_columns", rows, table_label).shape[1]
            for name in self._numeric_columns
        }

    def encode(self, trials: Columns, rows: np.ndarray, table_label: str) -> np.ndarray:
        """Returns (n, K) float64 channels of the given rows: numbers first, then categories, each by sorted value.

        Channels are NaN if the column or the value is missing, and for categories that no row of `__init__` has.
        """
        channels = [np.empty((len(rows), 0))]
        for name in self._numeric_columns:
            channels.append(
                trial_values(trials, [name], "behavior.trial_columns", rows, table_label)
                if name in trials
                else np.full((len(rows), self._n_values[name]), np.nan)
            )
        for name, levels in self._levels.items():
            one_hot = (trials[name][rows][:, None] == levels) if name in trials else np.zeros((len(rows), len(levels)))
            one_hot = one_hot.astype(np.float64)
            one_hot[one_hot.sum(1) == 0] = np.nan
            channels.append(one_hot)
        return np.concatenate(channels, axis=1)
