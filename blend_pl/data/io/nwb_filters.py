"""Compression filters of HDF5 datasets: those of hdf5plugin are loaded where it is installed."""

from importlib.util import find_spec

import h5py

_PLUGIN_FILTERS = {
    305: "LZO",
    307: "Bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "Zfp",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "SPERR",
}
"""Names of filters by their number in the registry of The HDF Group."""


def missing_filters(file: h5py.File) -> list[str]:
    """Returns the names of the compression filters that the datasets of a file need and that are not installed.

    If there are such filters, hdf5plugin is imported, which installs most of them.
    """
    codes = _filter_codes(file)
    if not all(map(h5py.h5z.filter_avail, codes)) and find_spec("hdf5plugin") is not None:
        import hdf5plugin

        hdf5plugin.register(force=False)
    return [
        _PLUGIN_FILTERS.get(code, f"HDF5 filter {code}") for code in sorted(codes) if not h5py.h5z.filter_avail(code)
    ]


def _filter_codes(file: h5py.File) -> set[int]:
    codes: set[int] = set()

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is not None:
            properties = item.id.get_create_plist()
            codes.update(properties.get_filter(index)[0] for index in range(properties.get_nfilters()))

    file.visititems(visit)
    return codes
