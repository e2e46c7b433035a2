"""Writer of NWB 2 files of simulated recordings, with h5py alone.

The files follow the schema of Neurodata Without Borders (Rübel et al., 2022) and do not contain a copy of the schema.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import h5py
import numpy as np

NWB_VERSION = "2.9.0"
_RECORDING_DATE = "2020-01-01T00:00:00+00:00"
"""Fixed, so that equal simulations give equal files."""
_REQUIRED_GROUPS = ("acquisition", "analysis", "general", "processing", "stimulus/presentation", "stimulus/templates")


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes:
        name: name in the file.
        description: meaning of the values.
        values: (rows, ...) values, strings as a dtype of kind U; of a ragged column those of all rows, concatenated.
        counts: (rows,) number of values in each row of a ragged column, otherwise None.
    """

    name: str
    description: str
    values: np.ndarray
    counts: np.ndarray | None = None


def create_nwb(path: Path, identifier: str, description: str, subject_id: str, subject_description: str) -> h5py.File:
    """Creates an NWB file of a simulated recording and returns it open, to be used in a `with` statement."""
    file = h5py.File(path, "w")
    file["identifier"], file["session_description"] = identifier, description
    file["session_start_time"] = file["timestamps_reference_time"] = _RECORDING_DATE
    file["file_create_date"] = np.array([_RECORDING_DATE], dtype=h5py.string_dtype())
    file.attrs["nwb_version"] = NWB_VERSION
    set_neurodata_type(file, "NWBFile")
    for name in _REQUIRED_GROUPS:
        file.create_group(name)
    subject = add_group(file["general"], "subject", "Subject")
    subject["subject_id"], subject["description"] = subject_id, subject_description
    return file


def set_neurodata_type(node: h5py.Group | h5py.Dataset, neurodata_type: str, namespace: str = "core") -> None:
    """Sets the attributes of a typed object: type, namespace, and an id that depends on file and name only."""
    node.attrs["neurodata_type"], node.attrs["namespace"] = neurodata_type, namespace
    node.attrs["object_id"] = str(uuid5(NAMESPACE_OID, f"{node.file['identifier'][()].decode()} {node.name}"))


def add_group(parent: h5py.Group, name: str, neurodata_type: str, **attributes: str) -> h5py.Group:
    """Creates a typed group with attributes and returns it."""
    group = parent.create_group(name)
    set_neurodata_type(group, neurodata_type)
    group.attrs.update(attributes)
    return group


def add_table(
    parent: h5py.Group,
    name: str,
    neurodata_type: str,
    description: str,
    ids: np.ndarray,
    columns: Sequence[TableColumn],
) -> h5py.Group:
    """Creates a table and returns its group.

    Args:
        parent: group of the table.
        name: name of the table.
        neurodata_type: type of the table, e.g. "Units".
        description: description of the table.
        ids: (rows,) ids.
        columns: the columns, in their order.
    """
    table = add_group(parent, name, neurodata_type, description=description)
    table.attrs["colnames"] = np.array([column.name for column in columns], dtype=h5py.string_dtype())
    set_neurodata_type(table.create_dataset("id", data=ids), "ElementIdentifiers", "hdmf-common")
    for column in columns:
        data = _add_column(table, column.name, "VectorData", column.description, column.values)
        if column.counts is not None:
            stops = np.cumsum(column.counts)
            # The smallest type that the last value fits in, as in files of pynwb.
            stops = stops.astype(np.min_scalar_type(stops[-1]))
            index_description = f"Index for VectorData '{column.name}'"
            index = _add_column(table, f"{column.name}_index", "VectorIndex", index_description, stops)
            index.attrs["target"] = data.ref
    return table


def _add_column(
    table: h5py.Group, name: str, neurodata_type: str, description: str, values: np.ndarray
) -> h5py.Dataset:
    dataset = table.create_dataset(
        name, data=values.astype(object) if values.dtype.kind == "U" else values, dtype=_storage_dtype(values)
    )
    set_neurodata_type(dataset, neurodata_type, "hdmf-common")
    dataset.attrs["description"] = description
    return dataset


def _storage_dtype(values: np.ndarray) -> np.dtype:
    return h5py.string_dtype() if values.dtype.kind == "U" else values.dtype


def add_time_series(
    parent: h5py.Group,
    name: str,
    data: np.ndarray,
    unit: str,
    times: np.ndarray | h5py.Group | float,
    neurodata_type: str = "TimeSeries",
    description: str = "no description",
    comments: str = "no comments",
    conversion: float = 1.0,
) -> h5py.Group:
    """Creates a time series and returns its group.

    Args:
        parent: group of the series.
        name: name of the series.
        data: (samples, ...) values.
        unit: unit of the values after their multiplication by `conversion`.
        times: (samples,) times in s; another series, to link to its times; or the sampling rate in Hz of a series that
            starts at 0 s.
        neurodata_type: type of the series.
        description: description of the series.
        comments: comments, e.g. names of the columns.
        conversion: factor from values to `unit`.
    """
    series = add_group(parent, name, neurodata_type, description=description, comments=comments)
    dataset = series.create_dataset("data", data=data)
    dataset.attrs.update({"conversion": conversion, "offset": 0.0, "resolution": -1.0, "unit": unit})
    if isinstance(times, h5py.Group):
        series["timestamps"] = h5py.SoftLink(f"{times.name}/timestamps")
    elif isinstance(times, np.ndarray):
        series["timestamps"] = times
        series["timestamps"].attrs.update({"interval": np.int32(1), "unit": "seconds"})
    else:
        series["starting_time"] = 0.0
        series["starting_time"].attrs.update({"rate": times, "unit": "seconds"})
    return series
