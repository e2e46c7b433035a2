"""Parameters of the generative model of spikes and field potentials."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from blend_pl.errors import ConfigError

MAKIN_SESSIONS = ("indy_20160622_01", "indy_20160624_03", "indy_20160627_01", "indy_20160630_01", "indy_20160915_01")
FLINT_SESSIONS = ("e1_1", "e2_1", "e2_2", "e3_1", "e3_2")
NWB_SESSIONS = ("own_1", "own_2", "own_3")


@dataclass(frozen=True)
class LFPSimulation:
    """Parameters of a simulated set; equal parameters give equal files.

    Each layout is one animal, with published session names. Sessions of an animal share its electrode array: a session
    has the first units and channels of the array, with a small drift from day to day. All animals share the dynamics of
    the latents, but differ in their rotation and mixing.

    Attributes:
        n_makin: sessions in the layout of O'Doherty et al. (animal I).
        n_flint: sessions in the layout of Flint et al. (animal C).
        n_nwb: sessions in NWB 2 files (animal N).
        seconds: duration of a session, s.
        n_units: minimum and maximum number of units of a session.
        n_channels: minimum and maximum number of LFP channels of a session.
        rate_hz: sampling rate of the field potentials (24414 in the recordings of O'Doherty et al.).
        gain: standard deviation of a unit's log rate.
        mean_rate_hz: approximate mean rate of the units.
        day_change: fraction of the variance of tuning and mixing that is redrawn every day.
        private: standard deviation of the private noise of a channel, relative to the part caused by the latents.
        shared: standard deviation of rhythms and slow activity that neighboring electrodes share and that are
            independent of movement, relative to the part caused by the latents.
        seed: seed of all draws.
    """

    n_makin: int = 3
    n_flint: int = 3
    n_nwb: int = 0
    seconds: float = 300.0
    n_units: tuple[int, int] = (30, 70)
    n_channels: tuple[int, int] = (16, 40)
    rate_hz: float = 1000.0
    gain: float = 1.0
    mean_rate_hz: float = 20.0
    day_change: float = 0.1
    private: float = 3.5
    shared: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_units", tuple(self.n_units))
        object.__setattr__(self, "n_channels", tuple(self.n_channels))
        for problem in self._problems():
            raise ConfigError(f"simulation: {problem}")

    def _problems(self) -> Iterator[str]:
        names = {"n_makin": MAKIN_SESSIONS, "n_flint": FLINT_SESSIONS, "n_nwb": NWB_SESSIONS}
        for name, sessions in names.items():
            if not 0 <= getattr(self, name) <= len(sessions):
                yield f"{name} is {getattr(self, name)}; it must be between 0 and {len(sessions)}"
        if not (self.n_makin or self.n_flint or self.n_nwb):
            yield "there are no sessions; set n_makin, n_flint or n_nwb"
        if not 10 <= self.seconds < math.inf:
            yield f"seconds is {self.seconds}; it must be at least 10"
        if not 200 <= self.rate_hz <= 50_000:
            yield f"rate_hz is {self.rate_hz}; it must be between 200 and 50000"
        for name, maximum in (("n_units", 3000), ("n_channels", 1000)):
            low, high = getattr(self, name)
            if not 1 <= low <= high <= maximum:
                yield f"{name} is {[low, high]}; write the minimum and the maximum, between 1 and {maximum}"
        for name in ("gain", "private", "shared", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                yield f"{name} is {getattr(self, name)}; it must be 0 or more"
        if not 0 < self.mean_rate_hz < math.inf:
            yield f"mean_rate_hz is {self.mean_rate_hz}; it must be above 0"
        if not 0 <= self.day_change <= 1:
            yield f"day_change is {self.day_change}; it must be a fraction between 0 and 1"
