"""Short recordings of a lab, written with h5py, for tests of what was observed."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.nlb.spec import BehaviorSpec, HeldOutSpec, SessionFiles, SessionSpec, SplitSpec, WindowSpec

CONTINUOUS = SessionSpec(
    name="lab",
    files=SessionFiles("lab.nwb"),
    window=WindowSpec(0, 400, forward_ms=100, stride_ms=500),
    behavior=BehaviorSpec("speed"),
    held_out=HeldOutSpec(column=None, units=[0, 5]),
    split=SplitSpec(column=None, by="block"),
)
"""Windows of 25 bins of 20 ms; units 0 and 5 are held out."""


def poisson_spikes(
    start: float = 0.0, stop: float = 20.0, n_units: int = 6, rate_hz: float = 40.0, seed: int = 0
) -> list[np.ndarray]:
    """Returns the sorted spike times of each unit, s; the first unit has a spike 1 ms after the start and before the
    end."""
    rng = np.random.default_rng(seed)
    spikes = [np.sort(rng.uniform(start, stop, rng.poisson(rate_hz * (stop - start)))) for _ in range(n_units)]
    spikes[0] = np.concatenate([[start + 0.001], spikes[0][(spikes[0] > start + 0.001)], [stop - 0.001]])
    spikes[0].sort()
    return spikes


def write_recording(
    path: Path,
    spikes: Sequence[np.ndarray],
    obs_intervals: Sequence[Sequence[tuple[float, float]]] | None = None,
    invalid_times: Sequence[tuple[float, float]] | None = None,
    trials: dict[str, np.ndarray] | None = None,
    series_span: tuple[float, float] = (0.0, 20.0),
) -> Path:
    """Writes units, a series `speed` at 100 Hz over `series_span`, and optional tables."""
    with h5py.File(path, "w") as file:
        units = file.create_group("units")
        units["id"] = np.arange(len(spikes))
        units["spike_times"] = np.concatenate(spikes)
        units["spike_times_index"] = np.cumsum([len(times) for times in spikes])
        if obs_intervals is not None:
            units["obs_intervals"] = np.concatenate(
                [np.array(rows, dtype=float).reshape(-1, 2) for rows in obs_intervals]
            )
            units["obs_intervals_index"] = np.cumsum([len(rows) for rows in obs_intervals])
        if invalid_times is not None:
            table = file.create_group("intervals/invalid_times")
            table["id"] = np.arange(len(invalid_times))
            table["start_time"], table["stop_time"] = np.array(invalid_times).reshape(-1, 2).T
            table["tags"], table["tags_index"] = (
                ["headstage off"] * len(invalid_times),
                np.arange(1, len(invalid_times) + 1),
            )
        if trials is not None:
            table = file.create_group("intervals/trials")
            for name, values in {"id": np.arange(len(next(iter(trials.values())))), **trials}.items():
                table[name] = values
        series = file.create_group("processing/behavior/speed")
        times = np.arange(series_span[0], series_span[1], 0.01)
        series["timestamps"], series["data"] = times, np.sin(times - series_span[0])
    return path


def histogram(spikes: Sequence[np.ndarray], first_bin_s: float, n_bins: int, bin_s: float = 0.02) -> np.ndarray:
    """Returns the (n_bins, units) counts of `np.histogram` from a time on."""
    edges = first_bin_s + bin_s * np.arange(n_bins + 1)
    return np.stack([np.histogram(times, edges)[0] for times in spikes], axis=1)
