"""Whether a file is what the challenge can score, key by key and shape by shape, before anyone hands it in."""

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
"""Factor between mean rate and mean count, either way, beyond which rates are not in spikes per bin."""

LOG_RATE_MARGIN = 0.05
"""Bits per spike by which rates must explain the counts better as log-rates to be taken for such."""


def check_submission(path: Path, expected: Mapping[str, SessionSplits]) -> None:
    """Checks a submission against what its sessions ask for.

    Forward arrays may be missing, both of them; so may the training arrays of dmfc_rsg, which has no decoder.

    Rates are in spikes per bin. Since any sane model reproduces the mean count of the held-in units, rates whose mean
    is more than 10 times above it (Hz are 50 or 200 times above) or below are refused. Log-rates are mostly negative;
    where they are not, they are found by what they explain: with both scaled to the mean count, the held-in counts are
    more probable under exp(rates) than under the rates by more than 0.05 bits per spike. By Gibbs' inequality that
    does not happen to rates that are right.

    Args:
        path: the HDF5 file, by any maker.
        expected: sessions by the name of their group.

    Raises:
        DataError: the first fault found, and where.
    """
    try:
        with h5py.File(path, "r") as file:
            check_open_submission(file, expected, path)
    except OSError as error:
        raise DataError(f"cannot read {path} as HDF5: {' '.join(str(error).split())}; write it again") from error


def check_open_submission(file: h5py.File, expected: Mapping[str, SessionSplits], path: Path) -> None:
    """`check_submission` of an open file, which errors call `path`."""
    _check_names(set(file), set(expected), f"{path}", "set")
    for group, splits in expected.items():
        location = f"{group} of {path}"
        if not isinstance(file[group], h5py.Group):
            raise DataError(f"{location} is no group; put the arrays of the set into a group of its name")
        shapes = splits.shapes()
        _check_names(set(file[group]), set(shapes), location, "key", optional=_optional_keys(group))
        for key, shape in shapes.items():
            if key in file[group]:
                _check_array(file[group][key], shape, f"{group}/{key} of {path}")
        heldin = torch.from_numpy(file[group]["eval_rates_heldin"][()])
        _check_rate_unit(heldin, splits, f"{group} of {path}")


def _optional_keys(group: str) -> tuple[tuple[str, ...], ...]:
    """Keys that may be missing together."""
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
            f"{location} has the unknown {kind} {', '.join(unknown)}; leave in only {', '.join(sorted(expected))}"
        )


def _check_array(array: h5py.Dataset, shape: tuple[int, ...], location: str) -> None:
    if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "fiu":
        raise DataError(f"{location} holds no numbers; store the rates as floats of shape {shape}")
    if array.shape != shape:
        raise DataError(f"{location} has shape {array.shape}; expected (trials, bins, units) {shape}")
    values = array[()]
    if not np.isfinite(values).all():
        raise DataError(f"{location} holds NaN or infinite rates; look for a diverged model or missing trials")
    if (values < 0).any():
        raise DataError(f"{location} holds negative rates, as log-rates are; store spikes per bin: exp(log-rates)")


def _check_rate_unit(rates: Tensor, splits: SessionSplits, location: str) -> None:
    """Refuses rates of held-in units, (trials, T, units), that are not in spikes per bin."""
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
            f"{location} looks like log-rates, for as such it explains the held-in counts better by "
            f"{sums.log_rate_gain:.2f} bits per spike; store spikes per bin: exp(log-rates)"
        )
    if not 1 / MAX_RATE_RATIO <= ratio <= MAX_RATE_RATIO:
        remedy = f"if they are in Hz, multiply by {session.bin_ms / 1000}" if ratio > 1 else "look for a wrong unit"
        raise DataError(
            f"{location}: the mean held-in rate is {ratio:.2g} times the mean count per bin; store spikes per bin, not "
            f"another unit: {remedy}"
        )


class _LikelihoodSums:
    """Sums that tell how probable counts are under rates and under exp(rates), both scaled to the mean count."""

    def __init__(self) -> None:
        self.rate_sum = self.spike_sum = self.counts_dot_log_rates = self.counts_dot_rates = 0.0
        self.rates_logsumexp = -math.inf

    def update(self, rates: Tensor, counts: Tensor) -> None:
        """Takes (bins, units) rates and counts."""
        self.rate_sum += float(rates.sum())
        self.spike_sum += float(counts.sum())
        self.counts_dot_log_rates += float((counts * rates.clamp(min=1e-9).log()).sum())
        self.counts_dot_rates += float((counts * rates).sum())
        self.rates_logsumexp = float(np.logaddexp(self.rates_logsumexp, float(rates.flatten().logsumexp(0))))

    @property
    def log_rate_gain(self) -> float:
        """Bits per spike by which exp(rates) explain the counts better than the rates do; -inf without any rate."""
        if not self.rate_sum:
            return -math.inf
        rate_likelihood = self.counts_dot_log_rates - self.spike_sum * math.log(self.rate_sum)
        log_rate_likelihood = self.counts_dot_rates - self.spike_sum * self.rates_logsumexp
        return (log_rate_likelihood - rate_likelihood) / self.spike_sum / math.log(2)
