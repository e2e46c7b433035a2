"""NWB files in Zarr (folders), which pynwb converts to HDF5 for reading."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from blend_pl.errors import DataError

_MARKERS = (".zgroup", ".zmetadata", "zarr.json")

log = logging.getLogger(__name__)


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder with a Zarr hierarchy."""
    return any((path / marker).is_file() for marker in _MARKERS)


@contextmanager
def zarr_as_hdf5(path: Path) -> Iterator[Path]:
    """Converts a Zarr folder to a temporary HDF5 file with pynwb and hdmf-zarr, and yields its path.

    Raises:
        DataError: hdmf-zarr or pynwb is not installed, or they cannot read the folder.
    """
    try:
        from hdmf_zarr.nwb import NWBZarrIO
        from pynwb import NWBHDF5IO
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path} is an NWB file in Zarr, and {error.name} is not installed; run pip install hdmf-zarr, or convert "
            "the file to HDF5"
        ) from error
    with TemporaryDirectory() as folder:
        converted = Path(folder) / f"{path.stem}.nwb"
        log.info("%s is in Zarr; converting it to HDF5 in %s", path, folder)
        try:
            with NWBZarrIO(str(path), mode="r") as source, NWBHDF5IO(str(converted), mode="w") as target:
                target.export(src_io=source, write_args={"link_data": False})
        except Exception as error:  # Any exception: those of hdmf-zarr depend on the part that is damaged.
            lines = str(error).splitlines() or [type(error).__name__]
            raise DataError(f"cannot read {path} ({lines[0]}); it is damaged or incomplete: fetch it again") from error
        yield converted
