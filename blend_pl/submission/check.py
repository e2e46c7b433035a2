"""Whether a file is what the challenge can score, key by key and shape by shape, before anyone hands it in."""

import math
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from blend_pl.errors import DataError
from blend_pl.submission.layout import FORWARD, TRAIN, Sessions

OFF_SCALE = 10
"""Factor between mean rate and mean count, either way, beyond which rates are not in spikes per bin."""

LOG_MARGIN = 0.05
"""Bits per spike by which rates must explain the counts better as log-rates to be taken for such."""


def check_submission(path: Path, expected: Mapping[str, Sessions]) -> None:
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
            check_file(file, expected, path)
    except OSError as error:
        raise DataError(f"cannot read {path} as HDF5: {' '.join(str(error).split())}; write it again") from error


def check_file(file: h5py.File, expected: Mapping[str, Sessions], path: Path) -> None:
    """`check_submission` of an open file, which errors call `path`."""
    _same_names(set(file), set(expected), f"{path}", "set")
    for group, sessions in expected.items():
        where = f"{group} of {path}"
        if not isinstance(file[group], h5py.Group):
            raise DataError(f"{where} is no group; put the arrays of the set into a group of its name")
        shapes = sessions.shapes()
        _same_names(set(file[group]), set(shapes), where, "key", optional=_optional(group))
        for key, shape in shapes.items():
            if key in file[group]:
                _check_array(file[group][key], shape, f"{group}/{key} of {path}")
        heldin = torch.from_numpy(file[group]["eval_rates_heldin"][()])
        _check_unit_of_rates(heldin, sessions, f"{group} of {path}")


def _optional(group: str) -> tuple[tuple[str, ...], ...]:
    """Keys that may be missing together."""
    return (FORWARD, TRAIN) if group.startswith("dmfc_rsg") else (FORWARD,)


def _same_names(
    found: set[str], wanted: set[str], where: str, kind: str, optional: tuple[tuple[str, ...], ...] = ()
) -> None:
    unknown, missing = sorted(found - wanted), wanted - found
    for together in optional:
        if missing >= set(together):
            missing -= set(together)
    if missing:
        raise DataError(f"{where} lacks the {kind} {', '.join(sorted(missing))}; add what is missing")
    if unknown:
        raise DataError(
            f"{where} has the unknown {kind} {', '.join(unknown)}; leave in only {', '.join(sorted(wanted))}"
        )


def _check_array(array: h5py.Dataset, shape: tuple[int, ...], where: str) -> None:
    if not isinstance(array, h5py.Dataset) or array.dtype.kind not in "fiu":
        raise DataError(f"{where} holds no numbers; store the rates as floats of shape {shape}")
    if array.shape != shape:
        raise DataError(f"{where} has shape {array.shape}; expected (trials, bins, units) {shape}")
    values = array[()]
    if not np.isfinite(values).all():
        raise DataError(f"{where} holds NaN or infinite rates; look for a diverged model or missing trials")
    if (values < 0).any():
        raise DataError(f"{where} holds negative rates, as log-rates are; store spikes per bin: exp(log-rates)")


def _check_unit_of_rates(rates: Tensor, sessions: Sessions, where: str) -> None:
    """Refuses rates of held-in units, (trials, T, units), that are not in spikes per bin."""
    session = sessions.evaluation
    counts = session.spikes[:, : session.n_observed, : session.n_heldin]
    recorded = session.observed[:, : session.n_observed, 0]
    fit = _Fit()
    for trials in torch.arange(len(rates)).split(64):
        fit.add(rates[trials][recorded[trials]].double(), counts[trials][recorded[trials]].double())
    if not fit.spikes:
        return
    ratio = fit.rates / fit.spikes
    if fit.gain_as_log_rates > LOG_MARGIN:
        raise DataError(
            f"{where} looks like log-rates, for as such it explains the held-in counts better by "
            f"{fit.gain_as_log_rates:.2f} bits per spike; store spikes per bin: exp(log-rates)"
        )
    if not 1 / OFF_SCALE <= ratio <= OFF_SCALE:
        remedy = f"if they are in Hz, multiply by {session.bin_ms / 1000}" if ratio > 1 else "look for a wrong unit"
        raise DataError(
            f"{where}: the mean held-in rate is {ratio:.2g} times the mean count per bin; store spikes per bin, not "
            f"another unit: {remedy}"
        )


class _Fit:
    """Sums that tell how probable counts are under rates and under exp(rates), both scaled to the mean count."""

    def __init__(self) -> None:
        self.rates = self.spikes = self.with_log = self.with_rates = 0.0
        self.log_sum = -math.inf

    def add(self, rates: Tensor, counts: Tensor) -> None:
        """Takes (bins, units) rates and counts."""
        self.rates += float(rates.sum())
        self.spikes += float(counts.sum())
        self.with_log += float((counts * rates.clamp(min=1e-9).log()).sum())
        self.with_rates += float((counts * rates).sum())
        self.log_sum = float(np.logaddexp(self.log_sum, float(rates.flatten().logsumexp(0))))

    @property
    def gain_as_log_rates(self) -> float:
        """Bits per spike by which exp(rates) explain the counts better than the rates do; -inf without any rate."""
        if not self.rates:
            return -math.inf
        as_rates = self.with_log - self.spikes * math.log(self.rates)
        as_log_rates = self.with_rates - self.spikes * self.log_sum
        return (as_log_rates - as_rates) / self.spikes / math.log(2)
