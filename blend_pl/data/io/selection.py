"""Selection of the rows of a table by the values of a column: units, electrodes or ROIs."""

from dataclasses import dataclass, field

import h5py
import numpy as np

from blend_pl.errors import ConfigError, DataError

N_LISTED_VALUES = 12
"""Number of values of a column that an error lists."""


@dataclass(frozen=True)
class RowSelection:
    """Rows of a table with certain values in a column.

    Attributes:
        column: name of the column; if it has several values per row (suite2p's iscell), the first one is used.
        values: values of the rows to use: numbers, text, true or false.

    Example:
        >>> RowSelection("quality", ["good"]).mask(np.array(["good", "mua", "good"]), "units", "data.spec.units")
        array([ True, False,  True])
    """

    column: str
    values: list[bool | int | float | str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError(f"the selection by column {self.column} has no values; list those of the rows to use")

    def mask(self, column: np.ndarray, table: str, setting: str) -> np.ndarray:
        """Returns the (rows,) bool mask of the selected rows.

        Args:
            column: (rows,) or (rows, values) column of numbers, booleans or text.
            table: table and file, for the error message.
            setting: name of the selection's setting, for the error message.

        Raises:
            DataError: no row has one of the values; the message lists the values of the column.
        """
        column = column.reshape(len(column), -1)[:, 0] if column.size else column.reshape(-1)
        selected = np.zeros(len(column), dtype=bool)
        for value in self.values:
            selected |= _equals(column, value)
        if not selected.any():
            values, counts = np.unique(column, return_counts=True)
            listed = [f"{value} ({count} rows)" for value, count in zip(values, counts, strict=True)]
            more = [f"{len(listed) - N_LISTED_VALUES} more"] if len(listed) > N_LISTED_VALUES else []
            raise DataError(
                f"{table} has no row with {self.column} {' or '.join(map(str, self.values))}; set {setting}.values to "
                f"some of its values: {', '.join(listed[:N_LISTED_VALUES] + more) or 'none'}"
            )
        return selected


def read_selected_rows(table: h5py.Group, selection: RowSelection, setting: str) -> np.ndarray:
    """Returns the (rows,) bool mask of the rows of a table in a file.

    Args:
        table: group of the table.
        selection: the selection.
        setting: name of its setting, for error messages.

    Raises:
        DataError: the table has no such column of values, or no row has one of the values.
    """
    label = f"{table.name.removeprefix('/')} of {table.file.filename}"
    columns = selection_columns(table)
    if selection.column not in columns:
        raise DataError(
            f"{label} has no column {selection.column!r}; set {setting}.column to one it has: "
            f"{', '.join(columns) or 'none'}"
        )
    return selection.mask(read_selection_column(table, selection.column), label, setting)


def selection_columns(table: h5py.Group) -> list[str]:
    """Returns the names of the columns of a table that have a value for each row."""
    return [
        name
        for name, column in table.items()
        if isinstance(column, h5py.Dataset)
        and column.ndim in (1, 2)
        and (column.dtype.kind in "biuf" or h5py.check_string_dtype(column.dtype))
        and name != "id"
        and not name.endswith(("_index", "_elements"))
        and f"{name}_index" not in table
    ]


def read_selection_column(table: h5py.Group, name: str) -> np.ndarray:
    """Returns the values of a column; text as a dtype of kind U, and for an enumeration the texts of its elements."""
    column = table[name]
    values: np.ndarray = column.asstr()[()].astype(str) if h5py.check_string_dtype(column.dtype) else column[()]
    elements = column.attrs.get("elements")
    if isinstance(elements, h5py.Reference) and values.dtype.kind in "iu":
        texts: np.ndarray = table.file[elements].asstr()[()].astype(str)
        values = texts[values]
    return values


def _equals(column: np.ndarray, value: bool | int | float | str) -> np.ndarray:
    equal: np.ndarray
    if column.dtype.kind in "OSU":
        texts = column.astype(str)
        equal = np.char.lower(texts) == str(value).lower() if isinstance(value, bool) else texts == str(value)
        return equal
    try:
        number = float(value)
    except ValueError:
        return np.zeros(len(column), dtype=bool)
    equal = column.astype(np.float64) == number
    return equal
