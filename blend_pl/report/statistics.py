"""Statistics over seeds."""

from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class SeedSummary:
    """Mean and standard deviation over seeds.

    Attributes:
        mean: the mean.
        sd: standard deviation over seeds (n - 1 in the denominator); None for one seed.
        n: number of seeds.
    """

    mean: float
    sd: float | None
    n: int

    @classmethod
    def from_values(cls, values: dict[int, float]) -> "SeedSummary | None":
        """Summarizes values by seed; returns None without values."""
        if not values:
            return None
        return cls(fmean(values.values()), stdev(values.values()) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class PairedDifference:
    """Mean over seeds of the difference between two experiments with the same seed.

    Attributes:
        mean: the mean difference.
        interval: 95 % interval of the mean by Student's t; None for one seed.
        n: number of common seeds.
    """

    mean: float
    interval: tuple[float, float] | None
    n: int

    @classmethod
    def from_values(cls, values: dict[int, float], reference: dict[int, float]) -> "PairedDifference | None":
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


def gap_closed(values: dict[int, float], baseline: dict[int, float], reference: dict[int, float]) -> float | None:
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
    gap = fmean(reference[seed] - baseline[seed] for seed in seeds)
    return fmean(values[seed] - baseline[seed] for seed in seeds) / gap if gap > 0 else None
