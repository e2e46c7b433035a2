"""Sizes of the sessions of NLB'21."""

from collections.abc import Mapping
from dataclasses import dataclass

from blend_pl.submission.layout import array_shapes

FORWARD_MS = 200
"""Length of the forward prediction of all sessions."""


@dataclass(frozen=True)
class BenchmarkSizes:
    """Sizes of a session of NLB'21 (Pei et al., 2021).

    Attributes:
        trials: training, validation and test trials.
        heldin: held-in units.
        heldout: held-out units.
        observed_ms: length of the observed window.
    """

    trials: tuple[int, int, int]
    heldin: int
    heldout: int
    observed_ms: int

    def shapes(self, phase: str, bin_ms: int) -> dict[str, tuple[int, int, int]]:
        """Returns the shape of each array of a submission; in phase test, validation trials are training trials."""
        train, val, test = self.trials
        n_train, n_eval = (train + val, test) if phase == "test" else (train, val)
        return array_shapes(
            (n_train, n_eval), (self.observed_ms // bin_ms, FORWARD_MS // bin_ms), (self.heldin, self.heldout)
        )


BENCHMARK_SIZES: Mapping[str, BenchmarkSizes] = {
    "mc_maze": BenchmarkSizes((1721, 574, 574), 137, 45, 700),
    "mc_maze_large": BenchmarkSizes((375, 125, 100), 122, 40, 700),
    "mc_maze_medium": BenchmarkSizes((188, 62, 100), 114, 38, 700),
    "mc_maze_small": BenchmarkSizes((75, 25, 100), 107, 35, 700),
    "mc_rtt": BenchmarkSizes((810, 270, 272), 98, 32, 600),
    "area2_bump": BenchmarkSizes((272, 92, 98), 49, 16, 600),
    "dmfc_rsg": BenchmarkSizes((741, 248, 252), 40, 14, 1500),
}
"""Sizes by name of the session."""
