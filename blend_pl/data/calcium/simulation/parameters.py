"""What a simulated tree is: the parameters of the generative model.

Cell types differ in how they follow running, pupil, behavioural state and the population (`TUNING`), as the subtypes of
Bugeon et al. (2022) do; single cells scatter around their type. Population activity is driven by the same behaviour and
by fluctuations of its own, so that it shows behaviour, but not one to one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from blend_pl.errors import ConfigError

FRAME_S = 0.23344
"""Frame period of the published recordings."""

MICE = ("SB025", "SB026", "SB028", "SB030")

FACTORS = ("running", "pupil", "desynchronised", "synchronised", "shared", "slow")
"""What drives cells: behaviour, then fluctuations of the population that behaviour does not show."""

TUNING = {
    "EC": (0.2, 0.1, 0.0, 0.2, 0.9, 0.2),
    "Pvalb": (0.5, 0.0, 0.3, 0.0, 0.8, -0.3),
    "Sst": (0.9, -0.5, -0.2, 0.1, 0.3, 0.3),
    "Vip": (0.8, 0.7, 0.1, -0.5, 0.1, 0.4),
    "Lamp5": (-0.5, -0.3, 0.1, 0.8, 0.4, 0.0),
    "Sncg": (0.0, 0.9, 0.5, -0.3, 0.3, -0.4),
    "Serpinf1": (0.6, 0.6, 0.0, -0.3, 0.2, 0.3),
}
"""Mean weight of each factor by subclass."""

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
        n_mice: mice, named as the published ones.
        n_sessions: sessions (dates) of each mouse.
        n_frames: frames of a run.
        n_cells: cells of each mouse.
        visible_fraction: share of a mouse's cells that each session shows.
        excitatory: share of excitatory cells.
        untyped: share of the inhibitory cells whose subclass is not known.
        stimuli: stimuli of each session.
        scatter: standard deviation of a cell's weights around those of its type.
        gain: how strongly all factors together drive a cell, relative to its private fluctuations.
        noise: standard deviation of the recording's noise, relative to that of the private fluctuations.
        decay_s: decay time of the calcium signal.
        seed: seed of every draw.
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
            yield f"n_mice is {self.n_mice}; there are names for 1 to {len(MICE)}"
        for name in ("n_sessions", "n_frames", "n_cells"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}; it must be at least 1"
        for name in ("excitatory", "untyped"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name} is {getattr(self, name)}; it is a share between 0 and 1"
        if not 0 < self.visible_fraction <= 1:
            yield f"visible_fraction is {self.visible_fraction}; it is a share above 0 and at most 1"
        for name in ("scatter", "gain", "noise", "decay_s", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                yield f"{name} is {getattr(self, name)}; it must be 0 or more"
        if not self.stimuli:
            yield "stimuli is empty; name at least one, as in [Blank]"
