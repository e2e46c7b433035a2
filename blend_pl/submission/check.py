"""Validation of a submission file: keys, shapes, values and the unit of the rates."""

import math
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from blend_pl.errors import DataError
from blend_pl.submission.layout import FORWARD_KEYS, TRAIN_KEYS, SessionSplits

MAX_RATE_RATIO = 10
"""Largest ratio between mean rate and mean count, in either direction, for rates in spikes per bin."""

LOG_RATE_MARGIN = 0.05
"""Gain in bits per spike, when the values are read as log-rates, above which they are taken to be log-rates."""


def check_submission(path: Path, expected: Mapping[str, SessionSplits]) -> None:
    """Checks a submission against the arrays that its sessions require.

    Both forward arrays may be missing, and so may both training arrays of dmfc_rsg, which has no decoder.

    Rates are in spikes per bin. A trained model reproduces the mean count of the held-in units, so rates whose mean is
    more than 10 times above (rates in Hz are 50 or 200 times above) or below it are refused. Log-rates are mostly
    negative. Log-rates without negative values are detected by likelihood: with both readings scaled to the mean
    count, the held-in counts are more probable under exp(rates) than under the rates by more than 0.05 bits per spike.
    By Gibbs' inequality this does not happen for correct rates.

    Args:
        path: the HDF5 file, written by any program.
        expected: session splits by group name.

    Raises:
        DataError: the file is not a valid submission; the message names the first fault and its location.
    """
    try:
        with h5py.File(path, "r") as file:
            check_open_submission(file, expected, path)
    except OSError as error:
        raise DataError(f"cannot read {path} as HDF5: {' '.join(str(error).split())}; write it again") from error


def check_open_submission(file: h5py.File, expected: Mapping[str, SessionSplits], path: Path) -> None:
    """Checks an open submission file; see `check_submission`. Errors refer to it as `path`."""
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
        heldin = torch.from_numpy(file[group]["eval_rates_heldin"][()])
        _check_rate_unit(heldin, splits, f"{group} of {path}")


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


def _check_rate_unit(rates: Tensor, splits: SessionSplits, location: str) -> None:
    """Raises if rates of held-in units, (trials, T, units), are not in spikes per bin."""
    session = splits.evaluation
    counts = session.spikes[:, : session.n_observed, : session.n_heldin]
    recorded = session.observed[:, : session.n_observed, 0]
    sums = _LikelihoodSums()
    for trials in torch.arange(len(rates)).split(64):
        sums.update(rates[trials][recorded[trials]].double(), counts[trials][recorded[trials]].double())
    if not sums.spike_sum:
        return
    ratio = sums.rate_sum / sums.spike_sum
    if sums.log_rate_gain > LOG_RATE_MARGIN:
        raise DataError(
            f"{location} looks like log-rates: read as such, it explains the held-in counts better by "
            f"{sums.log_rate_gain:.2f} bits per spike; store spikes per bin: exp(log-rates)"
        )
    if not 1 / MAX_RATE_RATIO <= ratio <= MAX_RATE_RATIO:
        remedy = f"if they are in Hz, multiply by {session.bin_ms / 1000}" if ratio > 1 else "check the unit"
        raise DataError(
            f"{location}: the mean held-in rate is {ratio:.2g} times the mean count per bin; store spikes per "
            f"bin: {remedy}"
        )


class _LikelihoodSums:
    """Accumulates the likelihood of counts under rates and under exp(rates), both scaled to the mean count."""

    def __init__(self) -> None:
        self.rate_sum = self.spike_sum = self.counts_dot_log_rates = self.counts_dot_rates = 0.0
        self.rates_logsumexp = -math.inf

    def update(self, rates: Tensor, counts: Tensor) -> None:
        """Adds rates and counts, (bins, units) each."""
        self.rate_sum += float(rates.sum())
        self.spike_sum += float(counts.sum())
        self.counts_dot_log_rates += float((counts * rates.clamp(min=1e-9).log()).sum())
        self.counts_dot_rates += float((counts * rates).sum())
        self.rates_logsumexp = float(np.logaddexp(self.rates_logsumexp, float(rates.flatten().logsumexp(0))))

    @property
    def log_rate_gain(self) -> float:
        """Gain of exp(rates) over rates in explaining the counts, in bits per spike; -inf if all rates are zero."""
        if not self.rate_sum:
            return -math.inf
        rate_likelihood = self.counts_dot_log_rates - self.spike_sum * math.log(self.rate_sum)
        log_rate_likelihood = self.counts_dot_rates - self.spike_sum * self.rates_logsumexp
        return (log_rate_likelihood - rate_likelihood) / self.spike_sum / math.log(2)
