"""Files that hold the content of a recording: itself, the files that it links to, or those of its Zarr folder."""

from pathlib import Path

import h5py

from blend_pl.data.io.nwb_links import external_files
from blend_pl.data.io.nwb_zarr import is_zarr
from blend_pl.data.io.remote import RemoteFile


def content_files(path: Path | RemoteFile) -> list[Path | RemoteFile]:
    """Returns the path of a recording and of the files that its external links lead to, or the files of a Zarr folder.

    A file at an address, one that is not HDF5 and one that is damaged are returned alone.
    """
    if isinstance(path, RemoteFile):
        return [path]
    if is_zarr(path):
        return [*sorted(file for file in path.rglob("*") if file.is_file())]
    if not h5py.is_hdf5(path):
        return [path]
    try:
        with h5py.File(path, "r") as file:
            return [path, *(Path(name) for name in external_files(file))]
    except (OSError, RuntimeError, ValueError, KeyError):
        return [path]
