"""Checks and padding of arrays of trials: counts, behavior, and values that are constant over a trial."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from blend_pl.data.io.nwb import Columns
from blend_pl.data.nlb.signal_checks import wrap_period
from blend_pl.errors import DataError

MIN_TRIALS = 2
_ZSCORE_TOLERANCE = 0.1
"""Units with means and standard deviations this close to 0 and 1 look z-scored."""


def to_numpy(values: Any) -> np.ndarray:
    """Returns an array, a tensor on any device, or a sequence as a numpy array; ragged sequences raise ValueError."""
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)


def stack_trials(values: Any, name: str, last_axis: str) -> np.ndarray:
    """Returns trials as one array; shorter trials are padded with NaN at the end.

    Args:
        values: (trials, bins, channels) array, or a sequence of (bins, channels) arrays of unequal length.
        name: name of the argument, for error messages.
        last_axis: what the channels are, for error messages.

    Returns:
        (trials, longest bins, channels), floating point if trials were padded.

    Raises:
        DataError: another shape, or values that are not numbers.
    """
    expected = f"expected (trials, bins, {last_axis}), or a list of one (bins, {last_axis}) array per trial"
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise DataError(f"{name} is of type {type(values).__name__}; {expected}")
    if isinstance(values, (np.ndarray, Tensor)) and values.dtype != object:
        array = to_numpy(values)
        if array.ndim != 3:
            raise DataError(f"{name} has the shape {array.shape}; {expected}")
        return _require_numbers(array, name)
    trials = [_read_trial(trial, f"{name}[{index}]", last_axis) for index, trial in enumerate(values)]
    if not trials:
        raise DataError(f"{name} has no trials; {expected}")
    widths = [trial.shape[1] for trial in trials]
    if len(set(widths)) > 1:
        other = next(index for index, width in enumerate(widths) if width != widths[0])
        raise DataError(
            f"{name}[0] has {widths[0]} {last_axis} and {name}[{other}] has {widths[other]}; all trials need the same "
            f"{last_axis}: fill missing ones with NaN"
        )
    lengths = [len(trial) for trial in trials]
    if len(set(lengths)) == 1:
        return np.stack(trials)
    padded = np.full((len(trials), max(lengths), widths[0]), np.nan, dtype=np.result_type(np.float32, *trials))
    for index, trial in enumerate(trials):
        padded[index, : len(trial)] = trial
    return padded


def read_counts(spikes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Reads spike counts.

    Args:
        spikes: see `stack_trials`; NaN where a unit was not observed.

    Returns:
        (trials, bins, units) counts in the smallest sufficient unsigned type, 0 where unobserved; and the bool mask of
        the observed entries.

    Raises:
        DataError: the values are not counts, or fewer than two trials, or a trial or a unit was never observed.
    """
    values = stack_trials(spikes, "spikes", "units")
    if len(values) < MIN_TRIALS or 0 in values.shape:
        raise DataError(
            f"spikes have the shape {values.shape}, (trials, bins, units); at least {MIN_TRIALS} trials, one bin and "
            "one unit are needed"
        )
    observed = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
    _require_counts(values, observed)
    for axis, kind in ((0, "trial"), (2, "unit")):
        unobserved = np.flatnonzero(~observed.any(axis=tuple({0, 1, 2} - {axis})))
        if len(unobserved):
            raise DataError(f"{kind} {unobserved[0]} of spikes is NaN in all bins; leave it out")
    counts = np.where(observed, values, 0)
    if not counts.any():
        raise DataError("spikes are 0 in all trials, bins and units; pass the counts of spikes per bin")
    return counts.astype(np.min_scalar_type(int(counts.max()))), observed


def read_behavior(behavior: Any, spikes: Any, counts_shape: tuple[int, ...]) -> np.ndarray:
    """Reads behavior with one value per bin.

    Args:
        behavior: (trials, bins, D) array, a sequence of (bins, D) arrays, or both without the last axis for D = 1; NaN
            where missing. None for no behavior.
        spikes: the argument `spikes`, whose trials must have the same lengths.
        counts_shape: (trials, bins, units) of the counts.

    Returns:
        (trials, bins, D) float32.

    Raises:
        DataError: trials or bins differ from those of the spikes, values are infinite or always missing, or a channel
            is an angle that wraps around.
    """
    n_trials, n_bins, n_units = counts_shape
    if behavior is None:
        return np.empty((n_trials, n_bins, 0), dtype=np.float32)
    if isinstance(behavior, (np.ndarray, Tensor)) and behavior.ndim == 2:
        if tuple(behavior.shape) != (n_trials, n_bins):
            raise DataError(
                f"behavior has the shape {tuple(behavior.shape)}, and two axes must be (trials, bins), here "
                f"{(n_trials, n_bins)}; pass (trials, bins, D), or values that are constant over a trial as "
                "trial_behavior"
            )
        behavior = behavior[:, :, None]
    values = stack_trials(behavior, "behavior", "channels")
    if values.shape[:2] != (n_trials, n_bins):
        advice = "behavior needs one value per bin of spikes: resample it to the bins, or cut it to the same trials"
        if values.shape[:2] == (n_trials, n_units):
            advice = "spikes look like (trials, units, bins): transpose them to (trials, bins, units)"
        raise DataError(
            f"behavior has (trials, bins) {values.shape[:2]}, and spikes have {(n_trials, n_bins)}; {advice}"
        )
    if isinstance(spikes, Sequence) and isinstance(behavior, Sequence):
        lengths = [(len(spikes[trial]), len(behavior[trial])) for trial in range(n_trials)]
        different = [trial for trial, (n_spikes, n_behavior) in enumerate(lengths) if n_spikes != n_behavior]
        if different:
            n_spikes, n_behavior = lengths[different[0]]
            raise DataError(
                f"behavior[{different[0]}] has {n_behavior} bins and spikes[{different[0]}] has {n_spikes}; behavior "
                "needs one value per bin of spikes: resample it to the bins"
            )
    if np.isinf(values).any():
        raise DataError("behavior has infinite values; set missing values to NaN")
    empty = np.flatnonzero(np.isnan(values).all(axis=(0, 1)))
    if len(empty):
        raise DataError(f"channel {empty[0]} of behavior is NaN in all trials; leave it out")
    for channel in range(values.shape[2]):
        period = wrap_period(values[..., channel], "")
        if period is not None:
            raise DataError(
                f"channel {channel} of behavior jumps by {period:.4g}, as an angle that wraps around; pass its cosine "
                "and sine as two channels"
            )
    return values.astype(np.float32)


def read_rates(rates: Any, counts: np.ndarray, observed: np.ndarray) -> np.ndarray | None:
    """Reads the rates that generated the spikes.

    Args:
        rates: (trials, bins, units) expected counts per bin, or a sequence of (bins, units) arrays; None if unknown.
        counts: (trials, bins, units) counts.
        observed: (trials, bins, units) bool, observed entries; rates must be known there.

    Returns:
        (trials, bins, units) float32, 0 where unknown.

    Raises:
        DataError: another shape, negative or missing rates, or rates in another unit.
    """
    if rates is None:
        return None
    values = stack_trials(rates, "rates", "units")
    if values.shape != counts.shape:
        raise DataError(f"rates have the shape {values.shape}, and spikes have {counts.shape}; both must be equal")
    if not (np.isfinite(values[observed]).all() and (values[observed] >= 0).all()):
        raise DataError("rates are negative, NaN or infinite in observed bins; pass expected counts per bin")
    expected, total = float(values[observed].sum()), float(counts.sum())
    # Eight standard deviations of a Poisson total, and a factor two for clipped or overdispersed counts.
    if abs(expected - total) > 8 * max(expected, total) ** 0.5 + 0.5 * max(expected, total):
        raise DataError(
            f"rates sum to {expected:.4g} and spikes to {total:.4g}; pass expected counts per bin, which are "
            "rates in Hz times bin_ms / 1000"
        )
    return np.where(np.isfinite(values), values, 0.0).astype(np.float32)


def read_trial_columns(values: Any, n_trials: int) -> Columns:
    """Reads values that are constant over a trial.

    Args:
        values: (trials, K) or (trials,) numbers, (trials,) strings, or a mapping of names to (trials,) numbers or
            strings; None for none. NaN or None where missing.
        n_trials: number of trials.

    Returns:
        (trials,) columns by name: float64, or object with strings, NaN where missing.

    Raises:
        DataError: another length, or values that are neither numbers nor strings.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        array = _read_array(values, "trial_behavior")
        if array.ndim not in (1, 2) or len(array) != n_trials:
            raise DataError(
                f"trial_behavior has the shape {array.shape}; expected one row per trial: ({n_trials}, K) or "
                f"({n_trials},)"
            )
        columns = array[:, None] if array.ndim == 1 else array
        values = {f"trial_behavior[{index}]": column for index, column in enumerate(columns.T)}
    return {str(name): _read_column(column, str(name), n_trials) for name, column in values.items()}


def read_labels(labels: Any, name: str, n_trials: int) -> list[Any]:
    """Returns one hashable label per trial; arrays of two axes give tuples, and NaN or None gives None.

    Raises:
        DataError: another number of labels, or labels that are not hashable.
    """
    if isinstance(labels, (str, bytes)) or not hasattr(labels, "__len__"):
        raise DataError(f"{name} is {labels!r}; expected one label per trial")
    values = to_numpy(labels).tolist() if hasattr(labels, "dtype") else list(labels)
    if len(values) != n_trials:
        raise DataError(f"{name} has {len(values)} labels, and spikes have {n_trials} trials; expected one per trial")
    values = [tuple(value) if isinstance(value, list) else value for value in values]
    try:
        for value in values:
            hash(value)
    except TypeError as error:
        raise DataError(f"{name} has a label that is not hashable ({error}); use numbers, strings or tuples") from error
    return [None if value is None or _is_nan(value) else value for value in values]


def _is_nan(value: Any) -> bool:
    return any(element != element for element in value) if isinstance(value, tuple) else bool(value != value)


def _read_array(values: Any, name: str) -> np.ndarray:
    try:
        return to_numpy(values)
    except ValueError as error:
        raise DataError(f"{name} is a ragged sequence; pass an array, or rows of equal length") from error


def _read_trial(trial: Any, name: str, last_axis: str) -> np.ndarray:
    try:
        array = to_numpy(trial)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype == object:
        n_lists = len(trial) if hasattr(trial, "__len__") else 0
        raise DataError(
            f"{name} holds {n_lists} sequences of unequal length, which look like spike times; count the spikes in "
            "bins, as with numpy.histogram, or pass a pynapple.TsGroup or temporaldata.Data with trials"
        )
    if array.ndim == 1 and last_axis == "channels":
        array = array[:, None]
    if array.ndim != 2:
        raise DataError(f"{name} has the shape {array.shape}; expected (bins, {last_axis})")
    return _require_numbers(array, name)


def _require_numbers(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} has values of type {array.dtype}; expected numbers")
    return array


def _require_counts(values: np.ndarray, observed: np.ndarray) -> None:
    if values.dtype.kind in "bu":
        return
    invalid = observed & ~((values >= 0) & (values == np.trunc(values)) & np.isfinite(values))
    if not invalid.any():
        return
    trial, time_bin, unit = np.argwhere(invalid)[0].tolist()
    problem = f"spikes have the value {values[trial, time_bin, unit]:g} in trial {trial}, bin {time_bin}, unit {unit}"
    if (values[observed] < 0).any():
        flat = np.where(observed, values, np.nan).reshape(-1, values.shape[2])
        mean, std = np.nanmean(flat), np.nanstd(flat)
        if abs(mean) < _ZSCORE_TOLERANCE and abs(std - 1) < _ZSCORE_TOLERANCE:
            raise DataError(
                f"{problem} and look z-scored (mean {mean:.2f}, sd {std:.2f}); pass the counts before z-scoring"
            )
        raise DataError(
            f"{problem}; counts cannot be negative: pass spikes per bin, and NaN where a unit was not observed"
        )
    raise DataError(
        f"{problem}; counts must be whole numbers: pass spikes per bin before smoothing or division by the bin"
    )


def _read_column(column: Any, name: str, n_trials: int) -> np.ndarray:
    # Numpy would convert the numbers of a mixed list to strings.
    values = np.array(column, dtype=object) if isinstance(column, (list, tuple)) else _read_array(column, name)
    if values.shape != (n_trials,):
        raise DataError(f"{name} of trial_behavior has the shape {values.shape}; expected ({n_trials},), one per trial")
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    if values.dtype.kind not in "UO":
        raise DataError(f"{name} of trial_behavior has values of type {values.dtype}; expected numbers or strings")
    entries = [np.nan if value is None or value != value else value for value in values.tolist()]
    if all(isinstance(value, Real) for value in entries):
        return np.array(entries, dtype=np.float64)
    mixed = [value for value in entries if not isinstance(value, str) and value == value]
    if mixed:
        raise DataError(f"{name} of trial_behavior mixes strings and {mixed[0]!r}; convert all values to strings")
    return np.array(entries, dtype=object)
