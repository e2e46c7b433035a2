"""Candidate hyperparameters of the baselines, and warnings about selected values at the edge of their candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

PATIENCE = 2
"""Number of candidates without an improvement after which a search ends."""

LEADING_DIGITS = (1.2, 2.0, 3.0, 5.0, 8.0)
"""Leading digits of candidate durations, about equally spaced on a logarithmic scale."""

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Candidate penalties of a regression."""

REFERENCE_PENALTY = 1e-1
"""Penalty at which the kernels of a smoothing or GLM baseline are compared."""

KERNEL_REMEDY = "extend --kernel_sds_ms, or the window of a trial, data.spec.window"
PENALTY_REMEDY = "extend --penalties"
LAG_REMEDY = "extend --lags_ms, or the window of a trial, data.spec.window"

MIN_EDGE_GAIN = 1e-3
"""Difference of the score to the next candidate above which a value at the edge of its candidates is reported."""


def log_spaced_durations(shortest_ms: float, longest_ms: float) -> tuple[float, ...]:
    """Returns durations in ms with five steps per decade, and the longest one.

    Example:
        >>> log_spaced_durations(20, 450)
        (20.0, 30.0, 50.0, 80.0, 120.0, 200.0, 300.0, 450.0)
    """
    durations = (round(digit * 10.0**exponent, 1) for exponent in range(7) for digit in LEADING_DIGITS)
    return (*(ms for ms in durations if shortest_ms <= ms < longest_ms), float(longest_ms))


@dataclass(frozen=True)
class HyperparameterGrid:
    """Candidates of all baselines, each ascending.

    Attributes:
        kernel_sds_ms: standard deviations of the kernel in ms.
        penalties: penalties of the regressions.
        lags_ms: largest lags of the Wiener filter in ms, in both directions.
    """

    kernel_sds_ms: tuple[float, ...]
    penalties: tuple[float, ...]
    lags_ms: tuple[float, ...]

    @classmethod
    def for_window(
        cls,
        bin_ms: int,
        window_ms: int,
        kernel_sds_ms: Sequence[float] = (),
        penalties: Sequence[float] = (),
        lags_ms: Sequence[float] = (),
    ) -> "HyperparameterGrid":
        """Returns given candidates, and otherwise those that fit the bins and the window of a trial.

        Kernels range from the bin width to the window, lags from 0 to the window: a wider kernel returns the mean of
        the trial, and a larger lag has no bins.

        Args:
            bin_ms: bin width.
            window_ms: length of the observed window of a trial.
            kernel_sds_ms: see `HyperparameterGrid`.
            penalties: see `HyperparameterGrid`.
            lags_ms: see `HyperparameterGrid`.
        """
        return cls(
            tuple(sorted(kernel_sds_ms)) or log_spaced_durations(bin_ms, window_ms),
            tuple(sorted(penalties)) or PENALTIES,
            tuple(sorted(lags_ms)) or (0.0, *log_spaced_durations(bin_ms, window_ms)),
        )


def search_outward(candidates: Sequence[float], start: float, score: Callable[[float], float]) -> dict[float, float]:
    """Scores candidates from a start upward and downward, until `PATIENCE` candidates in a row are no better.

    Args:
        candidates: ascending candidates.
        start: the candidate to begin with.
        score: returns the score of a candidate, higher is better.

    Returns:
        The scores of the candidates that were tried, in the order of their trial.
    """
    scores = {start: score(start)}
    position = candidates.index(start)
    for direction in (candidates[position + 1 :], candidates[:position][::-1]):
        n_failures = 0
        for candidate in direction:
            best = max(scores.values())
            scores[candidate] = score(candidate)
            n_failures = 0 if scores[candidate] > best else n_failures + 1
            if n_failures == PATIENCE:
                break
    return scores


def edge_warning(
    description: str, scores: dict[float, float], candidates: Sequence[float], unit: str, remedy: str
) -> str | None:
    """Returns a one-line warning if the best of several candidates is the smallest or largest one.

    A candidate at the edge that is better than all others by at most `MIN_EDGE_GAIN` gives no warning. Neither does 0,
    because no smaller candidate exists.

    Args:
        description: what was selected, e.g. "kernel of the held-out rates".
        scores: score of each candidate that was tried, higher is better.
        candidates: all candidates, ascending.
        unit: unit of the candidates with a leading space; may be empty.
        remedy: what to change.
    """
    best = max(scores, key=scores.__getitem__)
    others = [score for candidate, score in scores.items() if candidate != best]
    if best == 0 or best not in (candidates[0], candidates[-1]) or not others:
        return None
    if scores[best] - max(others) <= MIN_EDGE_GAIN:
        return None
    edge = "smallest" if best == candidates[0] else "largest"
    return (
        f"the best {description}, {best:g}{unit}, is the {edge} of its candidates ({candidates[0]:g} to "
        f"{candidates[-1]:g}{unit}); {remedy}"
    )
