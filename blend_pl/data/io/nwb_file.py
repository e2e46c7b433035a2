"""Opening of NWB files, with errors that say why a file cannot be read."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import h5py

from blend_pl.data.io.nwb_filters import missing_filters
from blend_pl.data.io.nwb_links import describe_broken_links
from blend_pl.data.io.nwb_zarr import is_zarr, zarr_as_hdf5
from blend_pl.data.io.remote import RemoteFile
from blend_pl.errors import DataError


@contextmanager
def open_nwb(path: Path | RemoteFile) -> Iterator[h5py.File]:
    """Opens an NWB file for reading: an HDF5 file on disk or at an address, or a folder in Zarr.

    Raises:
        DataError: the file is missing, is not HDF5, is truncated or damaged, is locked or cannot be read by this user,
            or is compressed by a filter that is not installed; also raised while reading in the block.
    """
    if isinstance(path, RemoteFile):
        with path.open() as stream, _naming(path, repr(stream)), _open_hdf5(stream, path.url) as file:
            yield file
    elif is_zarr(path):
        with zarr_as_hdf5(path) as converted, _naming(path, str(converted)), _open_hdf5(converted, path) as file:
            yield file
    else:
        with _open_hdf5(path, path) as file:
            yield file


def read_subject_id(file: h5py.File, default: str) -> str:
    """Returns the subject id, or the default for a file without one."""
    subject = file.get("general/subject/subject_id")
    return (str(subject.asstr()[()]).strip() if isinstance(subject, h5py.Dataset) else "") or default


@contextmanager
def _naming(path: Path | RemoteFile, name: str) -> Iterator[None]:
    """Names a recording in errors, instead of the file that is read for it."""
    try:
        yield
    except DataError as error:
        raise DataError(str(error).replace(name, str(path))) from error


@contextmanager
def _open_hdf5(source: Path | BinaryIO, path: Path | str) -> Iterator[h5py.File]:
    filters: list[str] = []
    links = ""
    try:
        with h5py.File(source, "r") as file:
            filters = missing_filters(file)
            try:
                yield file
            except (KeyError, OSError, RuntimeError):
                links = describe_broken_links(file)
                raise
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; check the data root and the file pattern") from error
    except OSError as error:
        raise _read_error(path, error, filters, links) from error
    except Exception as error:
        if not _is_raised_by_h5py(error.__traceback__):
            raise
        raise _damaged(path, error, links) from error


def _read_error(path: Path | str, error: OSError, filters: list[str], links: str) -> DataError:
    if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
        return DataError(
            f"cannot read {path}: another program has it open for writing; close it there, or set "
            "HDF5_USE_FILE_LOCKING=FALSE if nothing writes to it"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return DataError(f"cannot read {path}: permission denied; correct its permissions (chmod u+r)")
    if error.errno == errno.EISDIR or Path(path).is_dir():
        return DataError(f"cannot read {path}: it is a folder; name an NWB file")
    if filters:
        return DataError(
            f"cannot read {path}: it is compressed with {' and '.join(filters)}, which is not installed; run pip "
            "install hdf5plugin"
        )
    return _damaged(path, error, links)


def _damaged(path: Path | str, error: Exception, links: str) -> DataError:
    if links:
        return DataError(f"cannot read a part of {path}{links}")
    lines = str(error).strip("'\"").splitlines()
    reason = lines[0] if lines else type(error).__name__
    return DataError(f"cannot read {path} ({reason}); it is damaged or incomplete: fetch it again")


def _is_raised_by_h5py(traceback: TracebackType | None) -> bool:
    """Whether the innermost frame of an exception is in h5py: reading failed, not the processing of what was read."""
    module = ""
    while traceback is not None:
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        traceback = traceback.tb_next
    return module.partition(".")[0] == "h5py"
