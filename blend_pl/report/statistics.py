"""What several seeds say together."""

from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class SeedSummary:
    """Mean over seeds.

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
        """Summarises values by seed; None without any."""
        if not values:
            return None
        return cls(fmean(values.values()), stdev(values.values()) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class PairedDifference:
    """Mean over seeds of the difference between two experiments of the same seed.

    Attributes:
        mean: the mean difference.
        interval: 95 % interval of the mean by Student's t; None for one seed.
        n: number of seeds that both have.
    """

    mean: float
    interval: tuple[float, float] | None
    n: int

    @classmethod
    def from_values(cls, values: dict[int, float], reference: dict[int, float]) -> "PairedDifference | None":
        """Difference of values to reference, both by seed; None where no seed is common."""
        summary = SeedSummary.from_values(
            {seed: values[seed] - reference[seed] for seed in values.keys() & reference.keys()}
        )
        if summary is None:
            return None
        if summary.sd is None:
            return cls(summary.mean, None, 1)
        half_width = float(t.ppf((1 + CONFIDENCE) / 2, summary.n - 1)) * summary.sd / summary.n**0.5
        return cls(summary.mean, (summary.mean - half_width, summary.mean + half_width), summary.n)


def gap_closed(values: dict[int, float], baseline: dict[int, float], teacher: dict[int, float]) -> float | None:
    """Share of the way from baseline to teacher, by the means over the seeds that all three have; higher is better.

    Returns:
        0 at the baseline, 1 at the teacher; None where no seed is common or the teacher is not above the baseline.
    """
    seeds = values.keys() & baseline.keys() & teacher.keys()
    if not seeds:
        return None
    gap = fmean(teacher[seed] - baseline[seed] for seed in seeds)
    return fmean(values[seed] - baseline[seed] for seed in seeds) / gap if gap > 0 else None
