"""Numeric columns of the trials table: behavior, produced intervals and outliers."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_columns
from blend_pl.errors import DataError


def trial_values(trials: Columns, names: list[str], setting: str, rows: np.ndarray, table_label: str) -> np.ndarray:
    """Reads numeric columns.

    Args:
        trials: the trials table.
        names: names of K columns.
        setting: setting that names them, for error messages.
        rows: (n,) rows of the table.
        table_label: table and file, for error messages.

    Returns:
        (n, values) float64, a channel for each value of a column; NaN where missing.

    Raises:
        DataError: a column is missing or not numeric.
    """
    values = [np.empty((len(rows), 0))]
    for name in names:
        column = require_columns(trials, name, setting, table_label)
        if column.dtype.kind not in "biuf":
            raise DataError(
                f"{table_label} has {column.dtype} in column {name!r}; {setting} must name columns of numbers"
            )
        values.append(column[rows].reshape(len(rows), -1).astype(np.float64))
    return np.concatenate(values, axis=1)


def non_outliers(trials: Columns, outlier_column: str | None, rows: np.ndarray, table_label: str) -> np.ndarray:
    """Returns (n,) bool, True for trials that `outlier_column` does not mark; True for all if it is None.

    Raises:
        DataError: the column is missing or not numeric.
    """
    if outlier_column is None:
        return np.ones(len(rows), dtype=bool)
    return np.asarray(trial_values(trials, [outlier_column], "outlier_column", rows, table_label)[:, 0] == 0)
