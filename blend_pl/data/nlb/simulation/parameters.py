"""Parameters of the generative model of delayed-reach sessions, with presets.

The task is a delayed reach, recorded as MC_Maze of the Neural Latents Benchmark '21 (Pei et al., 2021): a target
appears, a go cue follows after a delay, the hand moves. `reach` draws the trials and the hand, `population` the latents
and the units, `spikes` the spikes; `files` writes the NWB files, and `ground_truth` the true rates and test targets.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blend_pl.errors import ConfigError

BIN_MS = 5
"""Width of the bins with constant rates; the finest bin width of true rates."""

WINDOW_MS = (-250, 450)
"""Observed window around movement onset, as in MC_Maze."""

FORWARD_MS = 200
"""Length of the forward-prediction period, as in MC_Maze."""

LEAD_MS = 100
"""Time by which neural activity leads velocity, equal to the decoding lag of MC_Maze."""


@dataclass(frozen=True)
class NLBSimulation:
    """Parameters of one simulated session; equal parameters give equal sessions.

    The defaults are a small session in which privileged distillation has an effect. Trials vary in features that
    behavior reveals (angle, vigor, duration, curvature, true onset) and in others that it does not (`private_share`).
    Without the first, behavior would not help a teacher; without the second, it would determine all rates.

    Attributes:
        n_train: training trials.
        n_val: validation trials.
        n_test: test trials, written without behavior, held-out units or forward bins.
        n_none: trials of the train file without a movement onset (NaN), which belong to no split.
        n_units: number of all units.
        n_heldout: number of held-out units, which a model must predict (a quarter, as in the benchmark).
        mean_rate_hz: mean over units in the observed window. It is 3 to 5 Hz in MC_Maze; the default is higher to
            compensate for the small number of units.
        rate_spread: standard deviation of the units' log base rate (that of the mean rates in MC_Maze_Small is 1.3).
        max_rate_hz: upper limit of the rates.
        gain: depth of modulation: median over units of the standard deviation of the log rate.
        gain_spread: standard deviation over units of the log gain.
        private_share: fraction of a unit's log-rate variance that behavior does not reveal, in [0, 1).
        tuning: "log_linear" units and Gaussian private latents, or "nonlinear": a third each of log-linear units, units
            whose rate saturates, and units of mixed selectivity, and private latents that move along a ring.
        n_directions: reach directions, evenly spaced over the circle.
        distances_mm: reach distances; the first is approximately that of MC_Maze.
        angle_sd: scatter of the reach direction, radians.
        vigor_sd: scatter of the log reach length.
        duration_sd: scatter of the log movement duration.
        curvature_sd: scatter of the angle by which the heading turns during a reach, radians.
        onset_error_s: scatter of the recorded movement onset around the start of the movement, s. Without it the
            windows are aligned to the movement, and behavior reveals little about timing.
        delay_s: minimum and maximum time from target to go cue, s.
        missing_behavior: fraction of the training trials without a recorded hand, in [0, 1).
        seed: seed of all draws.
    """

    n_train: int = 120
    n_val: int = 60
    n_test: int = 250
    n_none: int = 3
    n_units: int = 60
    n_heldout: int = 15
    mean_rate_hz: float = 6.0
    rate_spread: float = 0.4
    max_rate_hz: float = 120.0
    gain: float = 0.8
    gain_spread: float = 0.25
    private_share: float = 0.3
    tuning: Literal["log_linear", "nonlinear"] = "log_linear"
    n_directions: int = 8
    distances_mm: tuple[float, ...] = (130.0, 91.0)
    angle_sd: float = 0.2
    vigor_sd: float = 0.2
    duration_sd: float = 0.15
    curvature_sd: float = 0.6
    onset_error_s: float = 0.05
    delay_s: tuple[float, float] = (0.15, 0.65)
    missing_behavior: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "distances_mm", tuple(self.distances_mm))
        object.__setattr__(self, "delay_s", tuple(self.delay_s))
        for problem in self._problems():
            raise ConfigError(f"simulation: {problem}")

    def _problems(self) -> Iterator[str]:
        for name in ("n_train", "n_val", "n_test", "n_directions"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"
        for name in (
            *("n_none", "n_heldout", "rate_spread", "gain", "gain_spread", "seed"),
            *("angle_sd", "vigor_sd", "duration_sd", "curvature_sd", "onset_error_s"),
        ):
            if not 0 <= getattr(self, name) < math.inf:
                yield f"{name} is {getattr(self, name)}; it must be 0 or more"
        if self.tuning not in ("log_linear", "nonlinear"):
            yield f"tuning is {self.tuning!r}; choose log_linear or nonlinear"
        if self.n_units <= self.n_heldout:
            yield f"n_units is {self.n_units} and n_heldout {self.n_heldout}; at least one unit must be held in"
        if not 0 < self.mean_rate_hz <= self.max_rate_hz / 2:
            yield f"mean_rate_hz is {self.mean_rate_hz}; it must be above 0 and at most half of max_rate_hz"
        if self.max_rate_hz > 1000:
            yield f"max_rate_hz is {self.max_rate_hz}; it must be at most 1000"
        for name in ("private_share", "missing_behavior"):
            if not 0 <= getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 0 and less than 1"
        if not self.distances_mm or not all(0 < distance < math.inf for distance in self.distances_mm):
            yield f"distances_mm is {self.distances_mm}; list one or more distances above 0"
        if len(self.delay_s) != 2 or not 0 <= self.delay_s[0] <= self.delay_s[1] < math.inf:
            yield f"delay_s is {self.delay_s}; list the minimum and the maximum delay in seconds"

    @property
    def n_heldin(self) -> int:
        """Number of held-in units, which a model observes."""
        return self.n_units - self.n_heldout

    @property
    def n_conditions(self) -> int:
        """Number of combinations of direction and distance."""
        return self.n_directions * len(self.distances_mm)


def random_streams(seed: int) -> list[np.random.Generator]:
    """Returns the streams of trials, hand, latents, tuning, spikes and missing behavior of a session.

    They are independent, so that for example the number of units does not change the hand.
    """
    return list(map(np.random.default_rng, np.random.SeedSequence(seed).spawn(6)))


PRESETS = {
    "demo": NLBSimulation(n_test=100, mean_rate_hz=4.4),
    "small": NLBSimulation(),
    "mc_maze_small": NLBSimulation(
        n_train=75, n_val=25, n_test=100, n_units=142, n_heldout=35, mean_rate_hz=4.4, rate_spread=1.2
    ),
    "mc_maze": NLBSimulation(
        n_train=1721, n_val=574, n_test=574, n_units=182, n_heldout=45, mean_rate_hz=4.4, rate_spread=1.2
    ),
}
"""Simulations by name. All but `small`, the default, have the mean rate of the held-in units in MC_Maze_Small's test
file.

A model trains on `demo` in a minute; `mc_maze_small` and `mc_maze` have the size, and nearly the spread of rates, of
the benchmark sets.
"""
