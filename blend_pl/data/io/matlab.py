"""One interface to MATLAB structures in files of version 5 to 7 (scipy) and 7.3 (HDF5)."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from blend_pl.errors import DataError

READ_ERRORS = (OSError, ValueError, TypeError, EOFError, IndexError, NotImplementedError, MatReadError, zlib.error)
"""Exceptions that the readers raise for truncated files and for files in another format."""


class MatStruct(Protocol):
    """One element of a structure array."""

    def elements(self, field: str) -> list["MatStruct"]:
        """Returns a field's structure array, or an empty list if the field is empty or missing."""
        ...

    def matrix(self, field: str) -> np.ndarray | None:
        """Returns a field's matrix as displayed by MATLAB, (0, 0) if empty, or None if missing or not numeric."""
        ...


@contextmanager
def open_mat(path: Path) -> Iterator[MatStruct]:
    """Opens a file; its variables are the fields of the yielded structure.

    Raises:
        DataError: the file is missing, damaged or in another format.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; put it there or set data.root to its folder")
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                yield _HDF5Struct(file, dict(file.items()))
        else:
            yield _SciPyStruct(loadmat(path, struct_as_record=False, squeeze_me=False))
    except READ_ERRORS as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"cannot read {path} ({reason}); it is damaged or not a MATLAB file: fetch it again") from error


class _SciPyStruct:
    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def elements(self, field: str) -> list[MatStruct]:
        value = self._fields.get(field)
        if not isinstance(value, np.ndarray) or value.dtype != object:
            return []
        return [_SciPyStruct(vars(item)) for item in value.ravel(order="F") if hasattr(item, "_fieldnames")]

    def matrix(self, field: str) -> np.ndarray | None:
        value = self._fields.get(field)
        return value if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else None


class _HDF5Struct:
    def __init__(self, file: h5py.File, fields: dict[str, h5py.Group | h5py.Dataset]) -> None:
        self._file, self._fields = file, fields

    def elements(self, field: str) -> list[MatStruct]:
        value = self._fields.get(field)
        if not isinstance(value, h5py.Group) or not len(value):
            return []
        if not all(self._is_reference(item) for item in value.values()):
            return [_HDF5Struct(self._file, dict(value.items()))]
        # A structure array stores, for each field, one reference per element.
        columns = {name: item[()].reshape(-1) for name, item in value.items()}
        n_elements = min(len(column) for column in columns.values())
        return [
            _HDF5Struct(self._file, {name: self._file[column[k]] for name, column in columns.items()})
            for k in range(n_elements)
        ]

    def matrix(self, field: str) -> np.ndarray | None:
        value = self._fields.get(field)
        if not isinstance(value, h5py.Dataset) or value.dtype.kind not in "biuf":
            return None
        return np.empty((0, 0)) if value.attrs.get("MATLAB_empty", 0) else value[()].T

    @staticmethod
    def _is_reference(item: h5py.Group | h5py.Dataset) -> bool:
        # A cell array also consists of references, but has the attribute MATLAB_class.
        return isinstance(item, h5py.Dataset) and item.dtype == h5py.ref_dtype and "MATLAB_class" not in item.attrs
