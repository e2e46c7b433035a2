"""Tables of NWB files as columns of numpy arrays, with the index vectors of their ragged columns."""

import h5py
import numpy as np

from blend_pl.data.io.nwb_links import broken_links, distinct_groups, paths_ending_with
from blend_pl.errors import DataError

Columns = dict[str, np.ndarray]
"""Columns of a table by name, (rows,) or for numbers (rows, values), strings decoded."""


def read_trials(file: h5py.File, name: str | None = None, required: bool = False) -> Columns | None:
    """Reads the columns of the trials table, except ragged ones.

    Args:
        file: the open file.
        name: path of the table of intervals that are the trials, or enough of its end to make it unique; None for
            `intervals/trials`.
        required: whether the only other table of intervals is taken for the trials table that a file lacks.

    Returns:
        The columns; None without a table.

    Raises:
        DataError: there is no table of that name, or several tables could be it; columns have different numbers of
            rows; a start or stop is not one time per trial.
    """
    table = file.get("intervals/trials")
    if name is None and (isinstance(table, h5py.Group) or not required):
        return _read_intervals(table) if isinstance(table, h5py.Group) else None
    broken = [link for link in broken_links(file) if link.startswith("intervals")] if name is None else []
    if broken:
        raise DataError(f"{file.filename} links to trials that are not there ({broken[0]}); put the linked file there")
    tables = _interval_tables(file)
    matches = tables if name is None else [(group, [path]) for group, path in paths_ending_with(name, tables)]
    if len(matches) == 1:
        return _read_intervals(matches[0][0])
    available = " or ".join(paths[0] for _, paths in tables) or "none, for the file has no table of intervals"
    if name is not None:
        problem = "several tables" if matches else "no table"
        raise DataError(f"{file.filename} has {problem} of intervals {name!r}; set trials to {available}")
    if matches:
        raise DataError(f"{file.filename} has no trials table but other tables of intervals; set trials to {available}")
    return None


def trial_bounds(trials: Columns | None) -> np.ndarray:
    """Returns the finite starts and stops of trials, s; empty without a table or times in it."""
    bounds = [(trials or {}).get(name, np.empty(0)) for name in ("start_time", "stop_time")]
    times = np.concatenate([bound.astype(np.float64).reshape(-1) for bound in bounds if bound.dtype.kind in "iuf"])
    finite: np.ndarray = times[np.isfinite(times)]
    return finite


def largest_interval_table(file: h5py.File) -> str | None:
    """Returns the path of the table with the most intervals; None without a table of intervals."""
    sizes = {paths[0]: len(group["start_time"]) for group, paths in _interval_tables(file)}
    return max(sizes, key=lambda path: sizes[path], default=None)


def _interval_tables(file: h5py.File) -> list[tuple[h5py.Group, list[str]]]:
    tables = distinct_groups(file, lambda group: {"start_time", "stop_time"} <= set(group))
    return [(group, paths) for group, paths in tables if not paths[0].endswith("invalid_times")]


def _read_intervals(table: h5py.Group) -> Columns:
    """Reads a table of trials and checks that each has one start and one stop."""
    columns = read_columns(table)
    for name in ("start_time", "stop_time"):
        if name in columns and columns[name].ndim != 1:
            raise DataError(
                f"the trials table of {table.file.filename} has {name} of shape {columns[name].shape}, and one time "
                "per trial is needed; repair the table"
            )
    return columns


def read_invalid_times(file: h5py.File) -> np.ndarray:
    """Returns the (rows, 2) starts and ends of `intervals/invalid_times` in s, no rows without the table.

    Raises:
        DataError: a row has no start and end, or ends before it starts.
    """
    table = file.get("intervals/invalid_times")
    columns = read_columns(table) if isinstance(table, h5py.Group) else {}
    bounds = [columns.get(name, np.empty(0)) for name in ("start_time", "stop_time")]
    if not isinstance(table, h5py.Group) or ("id" in table and not len(table["id"])):
        return np.empty((0, 2))
    if len(bounds[0]) != len(bounds[1]) or any(column.dtype.kind not in "iuf" for column in bounds):
        raise DataError(f"{file.filename} has invalid_times without start_time and stop_time (s); repair the table")
    rows = np.stack(bounds, axis=1).astype(np.float64)
    invalid = np.flatnonzero(~(rows[:, 0] <= rows[:, 1]))
    if len(invalid):
        start, stop = rows[invalid[0]]
        raise DataError(
            f"{file.filename} has invalid_times from {start:g} to {stop:g} s (row {invalid[0]}); write a start and a "
            "later end, infinite if it is open"
        )
    return rows


def require_column(columns: Columns, name: str, setting: str, table_label: str) -> np.ndarray:
    """Returns a column that a setting names.

    Args:
        columns: the table.
        name: name of the column.
        setting: name of the setting, for the error message.
        table_label: table and file, for the error message.

    Raises:
        DataError: no such column, the message lists the existing ones; or it has several values per row.
    """
    column = require_columns(columns, name, setting, table_label)
    if column.ndim > 1:
        raise DataError(
            f"{table_label} has {column.shape[1]} values per row in column {name!r}; set {setting} to a column with one"
        )
    return column


def require_columns(columns: Columns, name: str, setting: str, table_label: str) -> np.ndarray:
    """Returns a column that a setting names, which may have several values per row; see `require_column`."""
    if name not in columns:
        raise DataError(
            f"{table_label} has no column {name!r}; set {setting} to one it has: {', '.join(columns) or 'none'}"
        )
    return columns[name]


def read_columns(table: h5py.Group) -> Columns:
    """Reads the columns of a table, except its ids, ragged columns, and columns of references or of several strings.

    Raises:
        DataError: the columns have different numbers of rows.
    """
    columns = {}
    for name, dataset in table.items():
        is_plain = isinstance(dataset, h5py.Dataset) and dataset.ndim in (1, 2)
        if not is_plain or name == "id" or name.endswith("_index") or f"{name}_index" in table:
            continue
        if h5py.check_string_dtype(dataset.dtype) and dataset.ndim == 1:
            columns[name] = dataset.asstr()[()].astype(str)
        elif dataset.dtype.kind in "biuf":
            columns[name] = dataset[()]
    ids = table.get("id")
    n_rows = {name: len(column) for name, column in columns.items()}
    if isinstance(ids, h5py.Dataset) and ids.ndim == 1:
        n_rows = {"id": len(ids)} | n_rows
    first = next(iter(n_rows), "")
    for name, length in n_rows.items():
        if length != n_rows[first]:
            raise DataError(
                f"{table_label(table)} has {n_rows[first]} rows in column {first} and {length} in column {name}; "
                "repair the table"
            )
    return columns


def table_label(table: h5py.Group) -> str:
    """Returns the path of a table in its file and the file, for error messages."""
    return f"{str(table.name).removeprefix('/')} of {table.file.filename}"


def read_numbers(table: h5py.Group, name: str, n_columns: int | None = None) -> np.ndarray:
    """Reads a column of real numbers.

    Args:
        table: the table.
        name: name of the column.
        n_columns: number of values per row of a two-dimensional column; None for a one-dimensional one.

    Returns:
        (rows,) or (rows, n_columns) in the type of the file.

    Raises:
        DataError: the column is not numeric or has another shape.
    """
    dataset = table[name]
    dtype = dataset.dtype if isinstance(dataset, h5py.Dataset) else None
    shape = dataset.shape if isinstance(dataset, h5py.Dataset) else None
    is_expected_shape = shape is not None and shape[1:] == (() if n_columns is None else (n_columns,)) and shape != ()
    if dtype is None or dtype.kind not in "iuf" or not is_expected_shape:
        kind = "a group" if dtype is None else f"{_describe_dtype(dtype)} of shape {shape}"
        needed = "one-dimensional array" if n_columns is None else f"(rows, {n_columns}) array"
        raise DataError(f"{name} in {table_label(table)} is {kind}; a {needed} of numbers is needed: repair the table")
    values: np.ndarray = dataset[()]
    return values


def read_row_stops(table: h5py.Group, name: str, n_values: int) -> np.ndarray:
    """Reads the index vector of a ragged column.

    Args:
        table: the table.
        name: name of the ragged column.
        n_values: number of values in the column, of all rows together.

    Returns:
        (rows,) int64 end of each row in the column.

    Raises:
        DataError: the vector does not divide the values into rows: it is missing, is not integer, belongs to another
            column, runs backwards, or ends before or beyond the last value.
    """
    index_name = f"{name}_index"
    label = f"{index_name} in {table_label(table)}"
    if index_name not in table:
        raise DataError(f"{table_label(table)} has {name} without {index_name}; add the index vector")
    stops = read_numbers(table, index_name)
    if stops.dtype.kind not in "iu":
        raise DataError(f"{label} is {stops.dtype}; an index vector is of integers: repair the table")
    target = table[index_name].attrs.get("target")
    if isinstance(target, h5py.Reference) and target and table.file[target] != table[name]:
        raise DataError(
            f"{label} is the index of {table.file[target].name.removeprefix('/')}, not of {name}; repair the table"
        )
    if "id" in table and len(stops) != len(table["id"]):
        raise DataError(f"{label} has {len(stops)} rows and id has {len(table['id'])}; repair the table")
    ends = stops.astype(np.int64)
    wrapped = (
        f"; {stops.dtype} cannot count {n_values} values: write it as int64"
        if n_values > np.iinfo(stops.dtype).max
        else "; repair the table"
    )
    backwards = np.flatnonzero(np.diff(ends, prepend=0) < 0)
    if len(backwards):
        row = int(backwards[0])
        previous = ends[row - 1] if row else 0
        raise DataError(f"{label} runs backwards (row {row} ends at {ends[row]}, after {previous}){wrapped}")
    last = int(ends[-1]) if len(ends) else 0
    if last != n_values:
        relation = "beyond" if last > n_values else "before"
        raise DataError(f"{label} ends at {last}, {relation} the {n_values} values of {name}{wrapped}")
    return ends


def _describe_dtype(dtype: np.dtype) -> str:
    if h5py.check_string_dtype(dtype):
        return "text"
    if dtype.kind == "V":
        return "a compound type"
    return "of objects" if dtype.kind == "O" else str(dtype)
