"""Check of a submission without its recording: its arrays against one another and against known sizes and rates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.signature import Signature
from blend_pl.errors import DataError
from blend_pl.submission.array_checks import check_arrays, check_keys
from blend_pl.submission.benchmark_sizes import BENCHMARK_SIZES
from blend_pl.submission.layout import (
    EVAL_KEYS,
    FORWARD_KEYS,
    RATE_KEYS,
    SCORED_GROUPS,
    TRAIN_KEYS,
    array_shapes,
    bin_width,
)
from blend_pl.submission.rate_unit import MAX_RATIO, format_factor, is_close, unit_remedy

MAX_RATIO_OF_UNITS = 10
"""Largest ratio between the mean rates of held-out and held-in units, in either direction."""
BENCHMARK_RATES_HZ = (0.5, 60.0)
"""Plausible mean rates of the sorted units of a benchmark session."""
OTHER_RATES_HZ = (0.02, 200.0)
"""Plausible mean rates of any units."""
RATIO_ERROR = 1.25
"""Factor by which mean rates of the same units may differ between trials or bins."""


@dataclass(frozen=True)
class UnrecordedSession:
    """A session of a submission whose recording is not available.

    Attributes:
        group: name of the set in the file.
        bin_ms: bin width.
        phases: phases of the challenge of which the file may be, if the session must have the sizes of the benchmark;
            otherwise empty.
        signature: sizes of the session of a run; None if unknown.
    """

    group: str
    bin_ms: int
    phases: tuple[str, ...] = ()
    signature: Signature | None = None

    @classmethod
    def from_group(cls, group: str) -> "UnrecordedSession":
        """Returns what the name of a set says; sets of the benchmark have its sizes, in either phase."""
        return cls(group, bin_width(group), ("val", "test") if group in SCORED_GROUPS else ())

    def possible_shapes(self) -> list[dict[str, tuple[int, int, int]]]:
        """Returns the shapes of the arrays in each of the phases."""
        name = self.group.removesuffix(f"_{self.bin_ms}")
        return [BENCHMARK_SIZES[name].shapes(phase, self.bin_ms) for phase in self.phases]


def check_consistency(arrays: h5py.Group, session: UnrecordedSession, path: Path) -> None:
    """Checks the arrays of a set without its recording.

    Shapes are those of the benchmark, if the session is one of it; otherwise those of the run, and arrays agree in
    trials, bins and units. The mean rates of the same units in training trials, scored trials and forward bins agree
    within a factor of 1.5, those of held-in and held-out units within a factor of 10, and all are plausible.

    A factor that all arrays of the same units share is not recognized unless rates become implausible.

    Args:
        arrays: group of the set in a submission.
        session: what is known of the session.
        path: the file, for error messages.

    Raises:
        DataError: the arrays are not those of a valid submission.
    """
    group, location = session.group, f"{session.group} of {path}"
    candidates = session.possible_shapes()
    check_keys(arrays, group, {*RATE_KEYS}, location)
    actual = {key: tuple(array.shape) for key, array in arrays.items() if isinstance(array, h5py.Dataset)}
    if candidates:
        shapes = max(candidates, key=lambda shapes: sum(actual.get(key) == shape for key, shape in shapes.items()))
    else:
        shapes = _common_shapes(actual, session.signature, location)
    if candidates and any(actual.get(key, shape) != shape for key, shape in shapes.items()):
        key = next(key for key in shapes if actual.get(key, shapes[key]) != shapes[key])
        raise DataError(
            f"{group}/{key} of {path} has shape {actual[key]}; expected (trials, bins, units) {shapes[key]} as in "
            "NLB'21; if the session is another one, name a run on it before --check"
        )
    check_arrays(arrays, group, shapes, location)
    rates_hz = {
        key: float(np.mean(arrays[key][()], dtype=np.float64)) * 1000 / session.bin_ms
        for key in RATE_KEYS
        if key in arrays
    }
    bounds = BENCHMARK_RATES_HZ if candidates else OTHER_RATES_HZ
    problem = (
        _find_different_array(rates_hz, bounds, session.bin_ms)
        or _find_implausible_array(rates_hz, bounds, session.bin_ms)
        or _find_different_units(rates_hz, session.bin_ms)
    )
    if problem is not None:
        key, text = problem
        raise DataError(f"{group}/{key} of {path}: {text}")


def unchecked_remark(sessions: Mapping[str, UnrecordedSession], path: Path) -> str:
    """Returns a line that says what `check_consistency` cannot check."""
    return (
        f"note: {', '.join(sessions)} of {path}: checked without the recording, by sizes, values and ratios of mean "
        "rates; not checked: the order of trials and units, and a factor that all arrays of the same units share while "
        "rates stay plausible, e.g. 2, 5, or 4 of 5-ms rates in a set of 20 ms; to compare each array with its counts, "
        "put the recording into data.root and name a run on it: submit RUN --check FILE"
    )


def size_remark(arrays: h5py.Group, group: str, bin_ms: int, phase: str) -> str | None:
    """Returns a line if a set of the benchmark has other sizes than the benchmark; None if not."""
    if group not in SCORED_GROUPS:
        return None
    session = UnrecordedSession(group, bin_ms, (phase,))
    (shapes,) = session.possible_shapes()
    different = [key for key in RATE_KEYS if key in arrays and tuple(arrays[key].shape) != shapes[key]]
    if not different:
        return None
    key = different[0]
    return (
        f"note: {group}/{key} has shape {tuple(arrays[key].shape)}, and the session of NLB'21 {shapes[key]} in phase "
        f"{phase}; EvalAI scores only the latter"
    )


def _common_shapes(
    actual: dict[str, tuple[int, ...]], signature: Signature | None, location: str
) -> dict[str, tuple[int, int, int]]:
    """Returns the shapes that follow from the run, if any, and from the sizes of some of the arrays."""
    for key in (EVAL_KEYS[0], EVAL_KEYS[1], TRAIN_KEYS[0], FORWARD_KEYS[0]):
        if key in actual and (len(actual[key]) != 3 or 0 in actual[key]):
            raise DataError(f"{location} has {key} of shape {actual[key]}; expected (trials, bins, units)")
        if key not in actual and key in EVAL_KEYS:
            raise DataError(f"{location} has {key}, which is not numeric; store the rates as an array of floats")
    n_eval, n_observed, n_heldin = actual[EVAL_KEYS[0]]
    n_heldout = actual[EVAL_KEYS[1]][2]
    n_train = actual.get(TRAIN_KEYS[0], (n_eval,))[0]
    n_forward = actual.get(FORWARD_KEYS[0], (0, 0))[1]
    if signature is not None:
        n_observed, n_heldin = signature.n_observed, signature.n_heldin
        n_forward, n_heldout = signature.n_forward, signature.n_units - n_heldin
    return array_shapes((n_train, n_eval), (n_observed, n_forward), (n_heldin, n_heldout))


def _find_different_array(
    rates_hz: Mapping[str, float], bounds: tuple[float, float], bin_ms: int
) -> tuple[str, str] | None:
    """Finds an array whose mean rate differs from that of the other arrays of the same units.

    The reference is the array that is closest to the others, among those of plausible rates.

    Args:
        rates_hz: mean rate of each array.
        bounds: plausible rates (Hz).
        bin_ms: bin width.

    Returns:
        The array and what is wrong with it; None if all agree.
    """
    for keys in zip(TRAIN_KEYS, EVAL_KEYS, FORWARD_KEYS, strict=True):
        logs = {key: math.log(rates_hz[key]) for key in keys if rates_hz.get(key)}
        silent = [key for key in keys if rates_hz.get(key) == 0]
        if silent:
            return silent[0], "all rates are 0; store the predicted rates, in spikes per bin"
        distances = {key: sum(abs(log - other) for other in logs.values()) for key, log in logs.items()}
        plausible = [key for key in logs if bounds[0] <= rates_hz[key] <= bounds[1]]
        reference = min(plausible or logs, key=lambda key: distances[key])
        different = [key for key in logs if not is_close(rates_hz[key], rates_hz[reference], MAX_RATIO)]
        if not different:
            continue
        first = different[0]
        value = rates_hz[first] / rates_hz[reference]
        also = f", and likewise in {', '.join(different[1:])}" if different[1:] else ""
        is_confirmed = len(logs) - len(different) > 1 or first not in plausible
        advice = unit_remedy(value, bin_ms, RATIO_ERROR) if is_confirmed else "one of the two is in another unit"
        return first, (
            f"the mean rate is {format_factor(value)} times that of {reference}, of the same units{also}; store spikes "
            f"per bin: {advice}"
        )
    return None


def _find_implausible_array(
    rates_hz: Mapping[str, float], bounds: tuple[float, float], bin_ms: int
) -> tuple[str, str] | None:
    """Finds an array with an implausible mean rate; arguments and result as those of `_find_different_array`."""
    implausible = [key for key, rate in rates_hz.items() if not bounds[0] <= rate <= bounds[1]]
    if not implausible:
        return None
    rate = rates_hz[implausible[0]]
    also = f", and likewise in {', '.join(implausible[1:])}" if implausible[1:] else ""
    cause = f"in Hz, multiply by {bin_ms / 1000:g}" if rate > bounds[1] else f"spikes per ms, multiply by {bin_ms}"
    return implausible[0], (
        f"as spikes per bin of {bin_ms} ms the mean rate is {rate:.3g} Hz, and {bounds[0]:g} to {bounds[1]:g} Hz are "
        f"plausible{also}; store spikes per bin: if they are {cause}"
    )


def _find_different_units(rates_hz: Mapping[str, float], bin_ms: int) -> tuple[str, str] | None:
    """Finds held-out units whose rates are of another order than those of held-in units."""
    heldin, heldout = EVAL_KEYS
    value = rates_hz[heldout] / rates_hz[heldin]
    if is_close(value, 1, MAX_RATIO_OF_UNITS):
        return None
    return heldout, (
        f"the mean rate is {format_factor(value)} times that of {heldin}; store spikes per bin in both: "
        f"{unit_remedy(value, bin_ms, 2.0)}"
    )
