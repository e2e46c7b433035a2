"""Parameters of the generative model of calcium recordings.

Cell types differ in their tuning to running, pupil, behavioral state and population activity (`TUNING`), as the
subtypes of Bugeon et al. (2022) do; single cells vary around their type. Population activity is driven by the same
behavior and by independent fluctuations, so that it reveals behavior only in part.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from blend_pl.errors import ConfigError

FRAME_S = 0.23344
"""Frame period of the published recordings."""

MICE = ("SB025", "SB026", "SB028", "SB030")

FACTORS = ("running", "pupil", "desynchronised", "synchronised", "shared", "slow")
"""Factors that drive cells: four of behavior, then two fluctuations of the population independent of it."""

TUNING = {
    "EC": (0.2, 0.1, 0.0, 0.2, 0.9, 0.2),
    "Pvalb": (0.5, 0.0, 0.3, 0.0, 0.8, -0.3),
    "Sst": (0.9, -0.5, -0.2, 0.1, 0.3, 0.3),
    "Vip": (0.8, 0.7, 0.1, -0.5, 0.1, 0.4),
    "Lamp5": (-0.5, -0.3, 0.1, 0.8, 0.4, 0.0),
    "Sncg": (0.0, 0.9, 0.5, -0.3, 0.3, -0.4),
    "Serpinf1": (0.6, 0.6, 0.0, -0.3, 0.2, 0.3),
}
"""Mean weights of `FACTORS` by subclass."""

SUBTYPES = {
    "Pvalb": ("Pvalb-Tac1", "Pvalb-Vipr2"),
    "Sst": ("Sst-Calb2", "Sst-Chodl"),
    "Vip": ("Vip-Crh", "Vip-Reln"),
    "Lamp5": ("Lamp5-Lhx6", "Lamp5-Ntn1"),
    "Sncg": ("Sncg-Gpr50",),
    "Serpinf1": ("Serpinf1-Clrn1",),
}
"""Labels by subclass."""


@dataclass(frozen=True)
class BugeonSimulation:
    """Parameters of a simulated tree; equal parameters give equal trees.

    Attributes:
        n_mice: number of mice, with the names of the published ones.
        n_sessions: sessions (dates) per mouse.
        n_frames: frames per run.
        n_cells: cells per mouse.
        visible_fraction: fraction of a mouse's cells that are visible in a session.
        excitatory: fraction of excitatory cells.
        untyped: fraction of inhibitory cells without a known subclass.
        stimuli: stimuli of each session.
        scatter: standard deviation of a cell's weights around those of its type.
        gain: strength of the factors relative to a cell's private fluctuations.
        noise: standard deviation of the recording noise relative to that of the private fluctuations.
        decay_s: decay time of the calcium signal, s.
        seed: seed of all draws.
    """

    n_mice: int = 2
    n_sessions: int = 2
    n_frames: int = 1600
    n_cells: int = 160
    visible_fraction: float = 0.9
    excitatory: float = 0.5
    untyped: float = 0.1
    stimuli: tuple[str, ...] = ("Blank",)
    scatter: float = 0.2
    gain: float = 0.8
    noise: float = 0.5
    decay_s: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stimuli", tuple(self.stimuli))
        for problem in self._problems():
            raise ConfigError(f"simulation: {problem}")

    def _problems(self) -> Iterator[str]:
        if not 1 <= self.n_mice <= len(MICE):
            yield f"n_mice is {self.n_mice}; it must be between 1 and {len(MICE)}"
        for name in ("n_sessions", "n_frames", "n_cells"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"
        for name in ("excitatory", "untyped"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name} is {getattr(self, name)}; it must be a fraction between 0 and 1"
        if not 0 < self.visible_fraction <= 1:
            yield f"visible_fraction is {self.visible_fraction}; it must be above 0 and at most 1"
        for name in ("scatter", "gain", "noise", "decay_s", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                yield f"{name} is {getattr(self, name)}; it must be 0 or more"
        if not self.stimuli:
            yield "stimuli is empty; list at least one, for example [Blank]"
