"""Numbers of the trials table: behaviour that is one value a trial, produced intervals, and which trials to trust."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.errors import DataError


def trial_values(trials: Columns, names: list[str], setting: str, rows: np.ndarray, table_label: str) -> np.ndarray:
    """Reads numeric columns.

    Args:
        trials: the trials table.
        names: K columns.
        setting: the setting that names them, for errors.
        rows: (n,) rows of the table.
        table_label: the table and file, for errors.

    Returns:
        (n, K) float64; NaN where the table has none.

    Raises:
        DataError: a column is missing or holds no numbers.
    """
    values = np.empty((len(rows), len(names)))
    for index, name in enumerate(names):
        column = require_column(trials, name, setting, table_label)
        if column.dtype.kind not in "biuf":
            raise DataError(
                f"{table_label} has {column.dtype} in column {name!r}; {setting} must name columns of numbers"
            )
        values[:, index] = column[rows]
    return values


def non_outliers(trials: Columns, outlier_column: str | None, rows: np.ndarray, table_label: str) -> np.ndarray:
    """(n,) bool, trials that the column `outlier_column` does not mark; all without it.

    Raises:
        DataError: the column is missing or holds no numbers.
    """
    if outlier_column is None:
        return np.ones(len(rows), dtype=bool)
    return trial_values(trials, [outlier_column], "outlier_column", rows, table_label)[:, 0] == 0
