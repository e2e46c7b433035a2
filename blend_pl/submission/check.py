"""Validation of a submission file: keys, shapes, values and the unit of the rates."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from blend_pl.errors import DataError
from blend_pl.submission.layout import FORWARD_KEYS, TRAIN_KEYS, SessionSplits
from blend_pl.submission.rate_unit import find_unit_problem


def check_submission(path: Path, expected: Mapping[str, SessionSplits]) -> None:
    """Checks a submission against the arrays that its sessions require.

    Both forward arrays may be missing, and so may both training arrays of dmfc_rsg, which has no decoder.

    Rates are in spikes per bin, so that the mean of each array is that of the recorded counts, within a factor of 1.5;
    see `find_unit_problem`. Negative values are refused as log-rates.

    Args:
        path: the HDF5 file, written by any program.
        expected: session splits by group name.

    Raises:
        DataError: the file is not a valid submission; the message names the first fault and its location.
    """
    try:
        with h5py.File(path, "r") as file:
            check_open_submission(file, expected, path)
            for group, splits in expected.items():
                problem = find_unit_problem(file[group], splits, path)
                if problem is not None:
                    raise DataError(problem)
    except OSError as error:
        raise DataError(f"cannot read {path} as HDF5: {' '.join(str(error).split())}; write it again") from error


def check_open_submission(file: h5py.File, expected: Mapping[str, SessionSplits], path: Path) -> None:
    """Checks names, shapes and values of an open submission file, but not the unit; errors refer to it as `path`."""
    _check_names(set(file), set(expected), f"{path}", "set")
    for group, splits in expected.items():
        location = f"{group} of {path}"
        if not isinstance(file[group], h5py.Group):
            raise DataError(f"{location} is not a group; put the arrays of the set into a group of that name")
        shapes = splits.shapes()
        _check_names(set(file[group]), set(shapes), location, "key", optional=_optional_keys(group))
        for key, shape in shapes.items():
            if key in file[group]:
                _check_array(file[group][key], shape, f"{group}/{key} of {path}")


def _optional_keys(group: str) -> tuple[tuple[str, ...], ...]:
    """Tuples of keys that may be missing together."""
    return (FORWARD_KEYS, TRAIN_KEYS) if group.startswith("dmfc_rsg") else (FORWARD_KEYS,)


def _check_names(
    names: set[str], expected: set[str], location: str, kind: str, optional: tuple[tuple[str, ...], ...] = ()
) -> None:
    unknown, missing = sorted(names - expected), expected - names
    for optional_keys in optional:
        if missing >= set(optional_keys):
            missing -= set(optional_keys)
    if missing:
        raise DataError(f"{location} lacks the {kind} {', '.join(sorted(missing))}; add what is missing")
    if unknown:
        raise DataError(
            f"{location} has the unknown {kind} {', '.join(unknown)}; keep only {', '.join(sorted(expected))}"
        )


def _check_array(array: h5py.Dataset, shape: tuple[int, ...], location: str) -> None:
    if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "fiu":
        raise DataError(f"{location} is not numeric; store the rates as floats of shape {shape}")
    if array.shape != shape:
        raise DataError(f"{location} has shape {array.shape}; expected (trials, bins, units) {shape}")
    values = array[()]
    if not np.isfinite(values).all():
        raise DataError(f"{location} holds NaN or infinite rates; check for a diverged model or missing trials")
    if (values < 0).any():
        raise DataError(
            f"{location} holds negative rates, which suggests log-rates; store spikes per bin: exp(log-rates)"
        )
