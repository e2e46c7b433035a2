"""Statistics over seeds, folds and sessions."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeVar

from scipy.stats import t

CONFIDENCE = 0.95


@dataclass(frozen=True, order=True)
class BlockSeed:
    """A run among runs of several blocks, which are folds or sessions: its block, as "2/5", and its seed."""

    block: str
    seed: int


Replicate = int | BlockSeed
"""Identifies a run among those of one experiment: its seed, or block and seed."""

ReplicateT = TypeVar("ReplicateT", bound=Hashable)


def mean_within_blocks(values: Mapping[ReplicateT, float]) -> list[float]:
    """Returns the values; those of several seeds of one block are replaced by their mean, because they share trials."""
    groups: dict[Hashable, list[float]] = {}
    for replicate, value in values.items():
        groups.setdefault(replicate.block if isinstance(replicate, BlockSeed) else replicate, []).append(value)
    return [fmean(group) for group in groups.values()]


@dataclass(frozen=True)
class SeedSummary:
    """Mean and standard deviation over seeds, or over blocks.

    Attributes:
        mean: the mean.
        sd: standard deviation over seeds or blocks (n - 1 in the denominator); None for one.
        n: number of seeds or blocks.
    """

    mean: float
    sd: float | None
    n: int

    @classmethod
    def from_values(cls, values: Mapping[ReplicateT, float]) -> "SeedSummary | None":
        """Summarizes values by seed, or by block and seed; returns None without values."""
        samples = mean_within_blocks(values)
        if not samples:
            return None
        return cls(fmean(samples), stdev(samples) if len(samples) > 1 else None, len(samples))


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference between two experiments, paired by seed, or by block and seed.

    Attributes:
        mean: the mean difference.
        interval: 95 % interval of the mean by Student's t over seeds or blocks; None for one.
        n: number of common seeds or blocks.
    """

    mean: float
    interval: tuple[float, float] | None
    n: int

    @classmethod
    def from_values(
        cls, values: Mapping[ReplicateT, float], reference: Mapping[ReplicateT, float]
    ) -> "PairedDifference | None":
        """Computes the difference of values to reference, both by seed; returns None without a common seed."""
        summary = SeedSummary.from_values(
            {seed: values[seed] - reference[seed] for seed in values.keys() & reference.keys()}
        )
        if summary is None:
            return None
        if summary.sd is None:
            return cls(summary.mean, None, 1)
        half_width = float(t.ppf((1 + CONFIDENCE) / 2, summary.n - 1)) * summary.sd / summary.n**0.5
        return cls(summary.mean, (summary.mean - half_width, summary.mean + half_width), summary.n)


def gap_closed(
    values: Mapping[ReplicateT, float], baseline: Mapping[ReplicateT, float], reference: Mapping[ReplicateT, float]
) -> float | None:
    """Returns the closed fraction of the gap from baseline to a reference, from means over the common seeds.

    Args:
        values: scores by seed, higher is better.
        baseline: scores of the baseline by seed.
        reference: scores of the teacher or the ceiling by seed.

    Returns:
        0 at the baseline, 1 at the reference; None without a common seed or if it is not above the baseline.
    """
    seeds = values.keys() & baseline.keys() & reference.keys()
    if not seeds:
        return None
    gap = fmean(mean_within_blocks({seed: reference[seed] - baseline[seed] for seed in seeds}))
    gain = fmean(mean_within_blocks({seed: values[seed] - baseline[seed] for seed in seeds}))
    return gain / gap if gap > 0 else None
