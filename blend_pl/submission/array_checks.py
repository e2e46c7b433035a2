"""Names, shapes and values of the arrays of a submission."""

from collections.abc import Mapping

import h5py
import numpy as np

from blend_pl.errors import DataError
from blend_pl.submission.layout import FORWARD_KEYS, TRAIN_KEYS


def check_arrays(group: h5py.Group, name: str, shapes: Mapping[str, tuple[int, ...]], location: str) -> None:
    """Checks that a set has its arrays, and their shapes and values.

    Args:
        group: group of the set in the file.
        name: name of the set.
        shapes: shape of each array.
        location: set and file, for error messages.

    Raises:
        DataError: the group lacks an array or has another one, or an array has another shape or invalid values.
    """
    check_keys(group, name, set(shapes), location)
    for key, shape in shapes.items():
        if key in group:
            _check_array(group[key], shape, f"{name}/{key} of {location.removeprefix(f'{name} of ')}")


def check_keys(group: h5py.Group, name: str, expected: set[str], location: str) -> None:
    """Checks that a set is a group with the expected arrays; those that are optional may be missing together.

    Raises:
        DataError: it is not.
    """
    if not isinstance(group, h5py.Group):
        raise DataError(f"{location} is not a group; put the arrays of the set into a group of that name")
    optional = (FORWARD_KEYS, TRAIN_KEYS) if name.startswith("dmfc_rsg") else (FORWARD_KEYS,)
    check_names(set(group), expected, location, "key", optional)


def check_names(
    names: set[str], expected: set[str], location: str, kind: str, optional: tuple[tuple[str, ...], ...] = ()
) -> None:
    """Checks the names of sets or arrays; names of one tuple of `optional` may be missing together.

    Raises:
        DataError: a name is missing or unknown.
    """
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
