"""A small NWB file with one table of units, trials and a velocity at 1 kHz, and edits of it with h5py."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.io.nwb_writer import TableColumn, add_group, add_table, add_time_series, create_nwb

Edit = Callable[[h5py.File], None]


@dataclass(frozen=True)
class SmallSession:
    """Content of the file.

    Attributes:
        spikes: spike times of each unit, s.
        unit_id: (N,) ids.
        starts: (trials,) start of each trial, s; trials follow one another without a gap.
        trial_s: length of a trial.
        times: (samples,) times of the velocity, s.
        velocity: (samples, 2).
    """

    spikes: list[np.ndarray]
    unit_id: np.ndarray
    starts: np.ndarray
    trial_s: float
    times: np.ndarray
    velocity: np.ndarray

    @property
    def duration_s(self) -> float:
        """Length of the recording from t = 0."""
        return len(self.starts) * self.trial_s


def small_session(n_units: int = 8, n_trials: int = 20, trial_s: float = 1.0, seed: int = 0) -> SmallSession:
    """Returns units of 4 to 20 Hz in trials that follow one another."""
    rng = np.random.default_rng(seed)
    duration = n_trials * trial_s
    rates = rng.uniform(4.0, 20.0, n_units)
    spikes = [np.sort(rng.uniform(0, duration, max(rng.poisson(rate * duration), 12))) for rate in rates]
    times = np.arange(round(duration * 1000)) / 1000
    return SmallSession(
        spikes=spikes,
        unit_id=10 + 3 * np.arange(n_units),
        starts=np.arange(n_trials) * trial_s,
        trial_s=trial_s,
        times=times,
        velocity=np.stack([np.sin(2 * np.pi * times), np.cos(3 * np.pi * times)], axis=1),
    )


def write_small(path: Path, session: SmallSession) -> Path:
    """Writes the session with unit column quality, trial columns go_time and reward, and series hand_vel."""
    counts = np.array([len(times) for times in session.spikes])
    n_units, n_trials = len(counts), len(session.starts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_nwb(path, "small", "a small session", "S", "a subject") as file:
        unit_columns = [
            TableColumn("spike_times", "times (s)", np.concatenate(session.spikes), counts),
            TableColumn(
                "obs_intervals", "s", np.tile([[0.0, session.duration_s]], (n_units, 1)), np.ones(n_units, int)
            ),
            TableColumn("quality", "label", np.array(["good", "mua"])[np.arange(n_units) % 2]),
        ]
        add_table(file, "units", "Units", "units", session.unit_id, unit_columns)
        trial_columns = [
            TableColumn("start_time", "start (s)", session.starts),
            TableColumn("stop_time", "end (s)", session.starts + session.trial_s),
            TableColumn("go_time", "go cue (s)", session.starts + 0.2 * session.trial_s),
            TableColumn("reward", "reward", np.arange(n_trials) % 2 == 0),
        ]
        intervals = file.create_group("intervals")
        add_table(intervals, "trials", "TimeIntervals", "trials", np.arange(n_trials), trial_columns)
        module = add_group(file["processing"], "behavior", "ProcessingModule", description="movement")
        add_time_series(module, "hand_vel", session.velocity, "m/s", session.times)
    return path


def edit_file(path: Path, edit: Edit) -> Path:
    """Applies an edit to the file and returns its path."""
    with h5py.File(path, "a") as file:
        edit(file)
    return path


def replace_dataset(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """Returns the edit that replaces a dataset by a changed one with the same attributes."""

    def edit(file: h5py.File) -> None:
        values, attributes = file[name][()], dict(file[name].attrs)
        del file[name]
        file[name] = change(values)
        file[name].attrs.update(attributes)

    return edit
