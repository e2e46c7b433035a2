"""Sessions of arrays in memory, without files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blend_pl.data.nlb.array_trials import (
    read_behavior,
    read_counts,
    read_labels,
    read_rates,
    read_trial_columns,
    to_numpy,
)
from blend_pl.data.nlb.behavior import whole_rows
from blend_pl.data.nlb.behavior_checks import check_training_behavior
from blend_pl.data.nlb.held_out import draw_held_out
from blend_pl.data.nlb.left_out import describe_partial_bins
from blend_pl.data.nlb.psth import psth_from_counts
from blend_pl.data.nlb.session import SessionTensors, group_columns
from blend_pl.data.nlb.spec import BehaviorSpec, HeldOutSpec, PsthSpec, SessionFiles, SessionSpec, SplitSpec, WindowSpec
from blend_pl.data.nlb.splits import (
    SPLITS,
    check_fractions,
    draw_grouped_split,
    overlap_groups,
    require_disjoint_splits,
)
from blend_pl.data.nlb.trial_behavior import TrialBehavior
from blend_pl.data.nlb.unit_groups import select_units
from blend_pl.errors import ConfigError, DataError

BY_FOLD = "by_fold"
"""Value of `held_out` that holds out another part of the units in each fold."""


@dataclass(frozen=True)
class ArraySession:
    """A session of arrays in memory.

    Attributes:
        spec: describes the session as a spec of files does, as far as arrays have these settings.
        tensors: all trials, including those without a split; `trial_id` is the position of a trial.
        split: (trials,) str: train, val, test or none.
        rates: (trials, T + F, N) expected counts per bin that generated the spikes; None if unknown.
    """

    spec: SessionSpec
    tensors: SessionTensors
    split: np.ndarray
    rates: Tensor | None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{(self.split == name).sum()} {name}" for name in (*SPLITS, "none"))
        return f"ArraySession({self.spec.name}, {self.tensors}; trials: {sizes})"

    def splits(self) -> dict[str, SessionTensors]:
        """Returns the trials of each split that has any."""
        return {
            name: self.tensors.select(torch.from_numpy(self.split == name)) for name in SPLITS if name in self.split
        }

    def rates_of(self, trials: SessionTensors) -> Tensor | None:
        """Returns the true rates of trials and units of this session, or None if they are unknown."""
        if self.rates is None:
            return None
        return select_units(self.rates[trials.trial_id], self.tensors.unit_id, trials.unit_id)


def session_from_arrays(
    spikes: Any,
    behavior: Any = None,
    *,
    bin_ms: int,
    name: str,
    start_ms: int,
    lag_ms: int,
    forward_ms: int,
    trial_behavior: Any,
    held_out: Any,
    split: Any,
    conditions: Any,
    smoothing_ms: int,
    unit_id: Any,
    rates: Any,
    seed: int,
    start_bin: np.ndarray | None = None,
) -> ArraySession:
    """Checks arrays of trials and divides their units and trials.

    The arguments are those of `NLBDataModule.from_arrays`; `start_ms` is the start of a trial relative to its event.
    Behavior is not shifted: `lag_ms` is the delay that it has already. `start_bin` is the (trials,) first bin of each
    trial in a recording from which they were cut; trials without it share no bin.

    Raises:
        ConfigError: settings contradict one another or the arrays.
        DataError: the values or shapes of an array cannot be used.
    """
    n_forward = forward_bins(bin_ms, forward_ms)
    counts, observed = read_counts(spikes)
    n_trials, n_bins, n_units = counts.shape
    if n_forward >= n_bins:
        raise ConfigError(f"forward_ms is {forward_ms}, and trials have {n_bins * bin_ms} ms; choose less")
    series, partial_fraction = _whole_bins(read_behavior(behavior, spikes, counts.shape))
    true_rates = read_rates(rates, counts, observed)
    is_held_out = held_out_units(held_out, n_units, seed)
    order = np.argsort(is_held_out, kind="stable")
    counts, observed, ids = counts[..., order], observed[..., order], _unit_ids(unit_id, n_units)[order]
    start_bin = np.arange(n_trials) * n_bins if start_bin is None else start_bin
    recorded = np.asarray(observed.any(axis=2))
    span = start_bin + recorded.argmax(axis=1), start_bin + n_bins - recorded[:, ::-1].argmax(axis=1)
    labels = split_labels(split, n_trials, seed, overlap_groups(*span))
    require_disjoint_splits(labels, *span, "split")
    in_train_val = np.flatnonzero(np.isin(labels, ("train", "val")))
    columns = read_trial_columns(trial_behavior, n_trials)
    numeric = [column for column, values in columns.items() if values.dtype != object]
    categories = [column for column in columns if column not in numeric]
    behavior_spec = BehaviorSpec("behavior" if series.shape[2] else None, lag_ms, None, numeric, categories)
    channels = TrialBehavior(behavior_spec, columns, in_train_val, "trial_behavior").encode(
        columns, np.arange(n_trials), "trial_behavior"
    )
    condition, psth = np.full(n_trials, -1), np.zeros((0, n_bins - n_forward, n_units))
    if conditions is not None:
        if isinstance(smoothing_ms, bool) or smoothing_ms < 1:
            raise ConfigError(f"smoothing_ms is {smoothing_ms}; it must be 1 or more")
        condition = _condition_index(read_labels(conditions, "conditions", n_trials), in_train_val)
        window = slice(0, n_bins - n_forward)
        psth = psth_from_counts(
            counts[in_train_val, window],
            observed[in_train_val, window],
            condition[in_train_val],
            int(condition.max()) + 1,
            smoothing_ms / bin_ms,
        )
        has_bins = np.logical_or.reduce(observed[:, window], axis=2)
        for index in range(len(psth)):
            trials = np.flatnonzero(np.where(labels == "none", -1, condition) == index)
            has_bin_in_all = np.logical_and.reduce(has_bins[trials], axis=0)
            psth[index, np.logical_not(has_bin_in_all)] = np.nan
    n_heldin = int((~is_held_out).sum())
    coverage, observed_column = _group_coverage(observed, n_heldin)
    length_ms = n_bins * bin_ms - forward_ms
    spec = SessionSpec(
        name=name,
        files=SessionFiles(""),
        window=WindowSpec(start_ms, start_ms + length_ms, "trial_start", forward_ms),
        behavior=behavior_spec if series.shape[2] or columns else None,
        held_out=HeldOutSpec(None, by_fold=True, seed=seed)
        if isinstance(held_out, str)
        else HeldOutSpec(None, units=ids[n_heldin:].tolist(), seed=seed),
        split=SplitSpec(None, seed=seed),
        psth=PsthSpec(["condition"], smoothing_ms) if len(psth) else None,
    )
    tensors = SessionTensors(
        spikes=torch.from_numpy(counts),
        observed=torch.from_numpy(coverage),
        scoring_mask=torch.from_numpy(observed[:, : n_bins - n_forward].any(axis=2)),
        behavior=torch.from_numpy(
            np.concatenate([series, channels.astype(np.float32)[:, None].repeat(n_bins, axis=1)], axis=2)
        ),
        trial_id=torch.arange(n_trials),
        start_bin=torch.from_numpy(start_bin.astype(np.int64)),
        jitter=torch.zeros(n_trials, dtype=torch.int64),
        condition=torch.from_numpy(condition),
        decode_mask=torch.ones(n_trials, 1, dtype=torch.bool),
        timing_condition=torch.full((n_trials,), -1),
        produced_interval=torch.full((n_trials,), torch.nan, dtype=torch.float64),
        psth=torch.from_numpy(psth),
        unit_id=torch.from_numpy(ids),
        observed_column=observed_column,
        n_heldin=n_heldin,
        n_forward=n_forward,
        n_series=series.shape[2],
        bin_ms=bin_ms,
        left_out=describe_partial_bins(partial_fraction),
    )
    check_training_behavior(tensors.select(torch.from_numpy(labels == "train")), name, "behavior")
    return ArraySession(spec, tensors, labels, None if true_rates is None else torch.from_numpy(true_rates[..., order]))


def forward_bins(bin_ms: Any, forward_ms: int) -> int:
    """Returns the number of forward bins.

    Raises:
        ConfigError: a bin width below 1 ms, or a forward prediction that is not a multiple of it.
    """
    if isinstance(bin_ms, bool) or not isinstance(bin_ms, (int, np.integer)) or bin_ms < 1:
        raise ConfigError(f"bin_ms is {bin_ms!r}; pass the bin width of spikes in whole milliseconds, 1 or more")
    if isinstance(forward_ms, bool) or forward_ms < 0 or forward_ms % bin_ms:
        raise ConfigError(f"forward_ms is {forward_ms}; it must be 0 or more and a multiple of bin_ms ({bin_ms})")
    return int(forward_ms // bin_ms)


def held_out_units(held_out: Any, n_units: int, seed: int) -> np.ndarray:
    """Returns the (n_units,) bool mask of held-out units.

    Args:
        held_out: None for no unit, a fraction drawn with `seed`, indices of units, a bool mask of units, or "by_fold",
            which holds out no unit before the fold is known.
        n_units: number of units.
        seed: seed of the draw.

    Raises:
        ConfigError: an index or a fraction is out of range, or all units would be held out.
    """
    advice = "pass None, a fraction between 0 and 1, indices of units, a bool mask of all units, or 'by_fold'"
    if held_out is None or (isinstance(held_out, str) and held_out == BY_FOLD):
        return np.zeros(n_units, dtype=bool)
    if isinstance(held_out, float):
        if not 0 < held_out < 1:
            raise ConfigError(f"held_out is {held_out}; {advice}")
        mask = draw_held_out(n_units, held_out, seed)
    else:
        values = to_numpy(held_out)
        mask = np.zeros(n_units, dtype=bool)
        if values.ndim != 1 or (len(values) and values.dtype.kind not in "biu"):
            raise ConfigError(f"held_out is {held_out!r}; {advice}")
        if values.dtype == bool:
            if len(values) != n_units:
                raise ConfigError(f"held_out is a mask of {len(values)} units, and spikes have {n_units}; {advice}")
            mask = values.copy()
        elif len(values):
            outside = values[(values < 0) | (values >= n_units)]
            if len(outside):
                raise ConfigError(f"held_out has the index {outside[0]}; spikes have the units 0 to {n_units - 1}")
            mask[values] = True
    if mask.all():
        raise ConfigError(f"held_out selects all {n_units} units; at least one must be held in")
    return mask


def split_labels(split: Any, n_trials: int, seed: int, groups: np.ndarray) -> np.ndarray:
    """Returns the (n_trials,) str split of each trial: train, val, test or none.

    Args:
        split: fractions of training and validation trials, drawn with `seed`, the others being test trials; or one
            label per trial.
        n_trials: number of trials.
        seed: seed of the draw.
        groups: (trials,) groups of overlapping trials, which are drawn together.

    Raises:
        ConfigError: invalid fractions, or too many overlapping trials for a draw.
        DataError: an unknown label, another number of labels, or no training trials.
    """
    is_pair = isinstance(split, (tuple, list)) and len(split) == 2
    if is_pair and all(isinstance(fraction, (int, float)) for fraction in split):
        fractions = SplitSpec(None, train=float(split[0]), val=float(split[1]), seed=seed)
        check_fractions(fractions)
        return draw_grouped_split(fractions, groups)
    labels = read_labels(split, "split", n_trials)
    unknown = [label for label in labels if label not in (*SPLITS, "none")]
    if unknown:
        raise DataError(
            f"split has the label {unknown[0]!r}; use {', '.join(SPLITS)} or none, or fractions of train and val as in "
            "split=(0.7, 0.15)"
        )
    if "train" not in labels:
        raise DataError("split has no training trials; label some trials 'train'")
    return np.array(labels)


def _whole_bins(series: np.ndarray) -> tuple[np.ndarray, float]:
    """Sets bins of (trials, bins, D) behavior in which a channel is missing to NaN, and returns their fraction."""
    whole, partial_fraction = whole_rows(series.reshape(-1, max(series.shape[2], 1)), "behavior")
    return whole.reshape(series.shape), partial_fraction


def _unit_ids(unit_id: Any, n_units: int) -> np.ndarray:
    if unit_id is None:
        return np.arange(n_units)
    ids = to_numpy(unit_id)
    if ids.shape != (n_units,) or ids.dtype.kind not in "iu" or len(np.unique(ids)) != n_units:
        raise DataError(f"unit_id must be {n_units} different integers, one for each unit of spikes")
    return ids.astype(np.int64)


def _condition_index(labels: Sequence[Any], in_train_val: np.ndarray) -> np.ndarray:
    """Returns the (trials,) int64 index of each trial's condition among those of training and validation trials."""
    present = dict.fromkeys(labels[trial] for trial in in_train_val if labels[trial] is not None)
    if not present:
        raise DataError("conditions has no label in training and validation trials; leave it out")
    try:
        ordered = sorted(present)
    except TypeError:
        ordered = list(present)
    index = {label: position for position, label in enumerate(ordered)}
    return np.array([index.get(label, -1) for label in labels], dtype=np.int64)


def _group_coverage(observed: np.ndarray, n_heldin: int) -> tuple[np.ndarray, Tensor]:
    """Returns `SessionTensors.observed` and `observed_column` of a (trials, bins, N) mask."""
    n_units = observed.shape[2]
    columns = [observed[..., :n_heldin].all(axis=2), observed[..., n_heldin:].all(axis=2)]
    observed_column = group_columns(n_heldin, n_units)
    known = {column.tobytes(): index for index, column in enumerate(columns)}
    for unit in range(n_units):
        mask = observed[..., unit]
        if not np.array_equal(mask, columns[int(observed_column[unit])]):
            index = known.setdefault(mask.tobytes(), len(columns))
            if index == len(columns):
                columns.append(mask)
            observed_column[unit] = index
    return np.stack(columns, axis=2), observed_column
