"""Unit of the rates of a submission: each array is compared with recorded counts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import torch

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.submission.layout import FORWARD_KEYS, RATE_KEYS, TRAIN_KEYS, SessionSplits

MAX_RATIO = 1.5
"""Largest ratio between mean rate and mean count, in either direction, for rates in spikes per bin."""
MAX_RATIO_OF_RUNS = 10
"""The same for rates of a run of this package, which may be undertrained; rates in Hz are 50 or 200 times too large."""
N_STANDARD_ERRORS = 3
"""Standard errors of the mean count, for Poisson counts, by which the largest ratio is extended."""
CAUSE_TOLERANCE = 1.2
"""Largest ratio, in either direction, between a factor and that of the cause that explains it."""
MAX_SUMMED = 10
"""Largest number of models or bins whose rates may have been summed."""
CHUNK_TRIALS = 64
"""Number of trials whose rates are read at once."""


@dataclass(frozen=True)
class RateRatio:
    """Ratio of the mean rate of an array to the mean recorded count.

    Attributes:
        key: name of the array.
        value: the ratio.
        n_spikes: number of recorded spikes.
        of_training: whether the counts are those of training trials, because those of the scored trials are hidden.
    """

    key: str
    value: float
    n_spikes: int
    of_training: bool

    def is_close_to(self, factor: float, tolerance: float) -> bool:
        """Whether the ratio equals a factor up to a tolerance, itself a factor, and the error of the mean count."""
        return is_close(self.value, factor, tolerance * self.error)

    @property
    def error(self) -> float:
        """Largest factor by which the ratio may differ because counts are random."""
        return math.exp(N_STANDARD_ERRORS / math.sqrt(self.n_spikes))


def is_close(value: float, factor: float, tolerance: float) -> bool:
    """Whether a positive value equals a factor up to a tolerance, itself a factor."""
    return min(value, factor) > 0 and abs(math.log(value / factor)) <= math.log(tolerance)


def find_unit_problem(
    arrays: h5py.Group, splits: SessionSplits, path: Path, max_ratio: float = MAX_RATIO
) -> str | None:
    """Compares the mean of each array with the mean recorded count of the same units and bins.

    Scored trials are compared with their own counts where these are recorded, otherwise with those of the training
    trials. An array without recorded spikes is not checked.

    Args:
        arrays: group of a set in a submission.
        splits: trials of the session.
        path: the file, for the message.
        max_ratio: largest ratio between mean rate and mean count, in either direction.

    Returns:
        A line with the first array whose rates are not in spikes per bin, the factor and its likely cause, and the
        names of the others with that factor; None if all are plausible.
    """
    ratios = [ratio for key in RATE_KEYS if key in arrays for ratio in _rate_ratio(arrays[key], key, splits)]
    wrong = [ratio for ratio in ratios if not ratio.is_close_to(1, max_ratio)]
    if not wrong:
        return None
    first = wrong[0]
    others = [ratio.key for ratio in wrong[1:] if ratio.is_close_to(first.value, CAUSE_TOLERANCE)]
    counts = "mean count per bin of the training trials" if first.of_training else "mean count per bin"
    also = f", and likewise in {', '.join(others)}" if others else ""
    return (
        f"{arrays.name.strip('/')}/{first.key} of {path}: the mean rate is {format_factor(first.value)} times the "
        f"{counts}{also}; store spikes per bin: {unit_remedy(first.value, splits.evaluation.bin_ms, first.error)}"
    )


def _rate_ratio(rates: h5py.Dataset, key: str, splits: SessionSplits) -> Iterator[RateRatio]:
    """Yields the ratio of an array, if there are spikes to compare it with."""
    session = splits.train if key in TRAIN_KEYS else splits.evaluation
    rate_sum = recorded_rate_sum = 0.0
    n_entries = n_recorded = n_spikes = 0
    for trials in torch.arange(len(session)).split(CHUNK_TRIALS):
        chunk = torch.from_numpy(rates[int(trials[0]) : int(trials[-1]) + 1]).double()
        counts, recorded = _counts(session, key, trials)
        rate_sum, n_entries = rate_sum + float(chunk.sum()), n_entries + chunk.numel()
        recorded_rate_sum, n_recorded = (
            recorded_rate_sum + float(chunk[recorded].sum()),
            n_recorded + int(recorded.sum()),
        )
        n_spikes += int(counts.sum())
    if n_spikes:
        yield RateRatio(key, recorded_rate_sum / n_spikes, n_spikes, False)
        return
    for trials in torch.arange(len(splits.train)).split(CHUNK_TRIALS):
        counts, recorded = _counts(splits.train, key, trials)
        n_recorded, n_spikes = n_recorded + int(recorded.sum()), n_spikes + int(counts.sum())
    if n_spikes and n_entries:
        yield RateRatio(key, rate_sum / n_entries / (n_spikes / n_recorded), n_spikes, True)


def _counts(session: SessionTensors, key: str, trials: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the counts of an array's units and bins, 0 where not recorded, and the mask of recorded entries."""
    bins = slice(session.n_observed, None) if key in FORWARD_KEYS else slice(0, session.n_observed)
    units = slice(session.n_heldin, None) if "heldout" in key else slice(0, session.n_heldin)
    recorded = session.valid_mask(trials)[:, bins, units]
    return session.spikes[trials][:, bins, units].long() * recorded, recorded


def format_factor(value: float) -> str:
    """Returns a factor with two digits, or as an integer."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def unit_remedy(value: float, bin_ms: int, error: float = 1.0) -> str:
    """Returns what to do about an array whose rates are not in spikes per bin.

    Args:
        value: ratio of the rates to the expected ones.
        bin_ms: bin width.
        error: largest factor by which the ratio may be wrong.
    """
    causes = {
        1000 / bin_ms: f"if they are in Hz, multiply by {bin_ms / 1000:g}",
        1 / bin_ms: f"if they are spikes per ms, multiply by {bin_ms}",
    }
    if bin_ms == 20:
        causes[5 / 20] = "if they are rates of 5-ms bins, multiply by 4"
    if bin_ms == 5:
        causes[20 / 5] = "if they are rates of 20-ms bins, divide by 4"
    summed: dict[float, str] = {}
    for n in range(2, MAX_SUMMED + 1):
        summed[n] = f"if they are sums over about {n} models or bins, divide by their number"
        summed[1 / n] = f"if they were divided by about {n}, as by a number of models or bins, multiply by that number"
    # A unit is a likelier cause than a number of models that is closer to the factor.
    for candidates in (causes, summed):
        explained = [factor for factor in candidates if is_close(value, factor, CAUSE_TOLERANCE * error)]
        if explained:
            return candidates[min(explained, key=lambda factor: abs(math.log(value / factor)))]
    return "check the unit"
