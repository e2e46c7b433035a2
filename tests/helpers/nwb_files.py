"""Small NWB files in the layouts of the benchmark and in a custom layout, written with pynwb.

Units are tuned to the following velocity, so that models can learn from spikes and from behavior.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries

MAZE_NAME = "sub-Jenkins/sub-Jenkins_ses-{session}"
RTT_NAME = "sub-Indy/sub-Indy"
BUMP_NAME = "sub-Han/sub-Han"
DMFC_NAME = "sub-Haydn/sub-Haydn"


@dataclass(frozen=True)
class Written:
    """Files of one session."""

    train: Path
    test: Path


def write_maze(
    folder: Path,
    seed: int = 0,
    n_train: int = 36,
    n_val: int = 12,
    n_test: int = 12,
    n_none: int = 2,
    n_units: int = 24,
    n_heldout: int = 6,
    n_types: int = 4,
    n_versions: int = 2,
    session: str = "full",
    lead_ms: int = 100,
    shuffled_ids: bool = False,
) -> Written:
    """Writes reaches of varying length, with gaps between trials in which neither units nor the hand were recorded.

    Events are off the grid of bins, and trials of split none have no movement onset.
    """
    rng = np.random.default_rng(seed)
    n = n_train + n_val + n_test + n_none
    split = rng.permutation(np.repeat(["train", "val", "test", "none"], [n_train, n_val, n_test, n_none]))
    length, gap = rng.uniform(1.6, 2.4, n), rng.uniform(0.05, 0.5, n)
    start = np.round(0.0123 + np.cumsum(gap + np.roll(length, 1)) - length[-1] - gap[0], 4)
    stop = np.round(start + length, 4)
    onset = np.round(start + rng.uniform(0.4, 0.75, n), 4)
    kind, version = rng.permutation(np.arange(n) % n_types), rng.integers(0, n_versions, n)
    velocity = _reaches(rng, _n_ms(stop), onset, 2 * np.pi * kind / n_types, 500.0 + 250.0 * version)
    units = _Units.drawn(rng, n_units, n_heldout, shuffled_ids)
    spikes = units.spikes(rng, velocity, lead_ms)

    in_train_file = split != "test"
    onset_or_nan = np.where(split == "none", np.nan, onset)
    trials = {
        "start_time": start,
        "stop_time": stop,
        "target_on_time": np.round(start + 0.05, 4),
        "go_cue_time": np.round(onset - 0.21, 4),
        "move_onset_time": onset_or_nan,
        "split": split,
        "trial_type": kind + 1,
        "trial_version": version,
    }
    recorded = _grid_ms(start[in_train_file], stop[in_train_file])
    series = {
        "hand_vel": (recorded / 1000, velocity[recorded]),
        "hand_pos": (recorded / 1000, _position(velocity)[recorded]),
    }
    name = folder / MAZE_NAME.format(session=session)
    written = _names(name)
    observed = np.stack([start, stop], axis=1)[in_train_file]
    _write(written.train, {k: v[in_train_file] for k, v in trials.items()}, units, spikes, observed, series)
    _write_test(written.test, units, spikes, "move_onset_time", onset[split == "test"], -250, 450)
    return written


def write_rtt(
    folder: Path,
    seed: int = 0,
    n_train: int = 36,
    n_val: int = 12,
    n_test: int = 12,
    n_units: int = 24,
    n_heldout: int = 6,
    lead_ms: int = 140,
) -> Written:
    """Writes a recording without gaps, divided into trials of 600 ms; the last four belong to no split."""
    rng = np.random.default_rng(seed)
    n, n_none = n_train + n_val + n_test, 4
    split = rng.permutation(np.repeat(["train", "val"], [n_train, n_val]))
    split = np.concatenate([split, ["none"] * n_none, ["test"] * n_test, ["none"] * n_none])
    start = np.round(0.6 * np.arange(n + 2 * n_none), 4)
    velocity = _wandering(rng, len(start) * 600, 80.0)
    units = _Units.drawn(rng, n_units, n_heldout)
    spikes = units.spikes(rng, velocity, lead_ms)
    in_train_file = np.arange(len(start)) < n_train + n_val + n_none
    trials = {
        "start_time": start[in_train_file],
        "stop_time": np.round(start[in_train_file] + 0.6, 4),
        "split": split[in_train_file],
    }
    ms = np.arange(600 * in_train_file.sum())
    position = np.column_stack([_position(velocity), np.zeros(len(velocity))])
    series = {"finger_vel": (ms / 1000, velocity[ms]), "finger_pos": (ms / 1000, position[ms])}
    written = _names(folder / RTT_NAME)
    _write(written.train, trials, units, spikes, np.array([[0.0, 0.6 * in_train_file.sum()]]), series)
    _write_test(written.test, units, spikes, "start_time", start[split == "test"], 0, 600)
    return written


def write_bump(
    folder: Path,
    seed: int = 0,
    n_train: int = 36,
    n_val: int = 12,
    n_test: int = 12,
    n_units: int = 24,
    n_heldout: int = 6,
    lead_ms: int = -20,
) -> Written:
    """Writes active reaches (ctr_hold_bump 0) and passive bumps (1) in four directions, without gaps."""
    rng = np.random.default_rng(seed)
    n = n_train + n_val + n_test
    split = rng.permutation(np.repeat(["train", "val", "test"], [n_train, n_val, n_test]))
    start = np.round(0.5 + np.cumsum(rng.uniform(1.5, 2.0, n)), 4)
    onset = np.round(start + rng.uniform(0.2, 0.6, n), 3)
    bump, direction = rng.permutation(np.arange(n) % 2), 90.0 * rng.permutation(np.arange(n) % 4)
    velocity = _reaches(rng, _n_ms(start + 2.5), onset, np.deg2rad(direction), np.where(bump == 1, 15.0, 40.0))
    units = _Units.drawn(rng, n_units, n_heldout)
    spikes = units.spikes(rng, velocity, lead_ms)
    trials = {
        "start_time": start,
        "stop_time": np.round(start + 1.5, 4),
        "move_onset_time": onset,
        "split": split,
        "ctr_hold_bump": bump.astype(bool),
        "cond_dir": direction,
    }
    in_train_file = split != "test"
    ms = np.arange(len(velocity))
    series = {"hand_vel": (ms / 1000, velocity), "force": (ms / 1000, rng.normal(size=(len(ms), 6)))}
    written = _names(folder / BUMP_NAME)
    observed = np.array([[0.0, len(velocity) / 1000]])
    _write(written.train, {k: v[in_train_file] for k, v in trials.items()}, units, spikes, observed, series)
    _write_test(written.test, units, spikes, "move_onset_time", onset[~in_train_file], -100, 500)
    return written


def write_dmfc(
    folder: Path,
    seed: int = 0,
    n_train: int = 48,
    n_val: int = 24,
    n_test: int = 12,
    n_none: int = 2,
    n_units: int = 24,
    n_heldout: int = 6,
) -> Written:
    """Writes ready-set-go trials: intervals from a short or a long prior, produced by eye or hand, left or right.

    Behavior is in the trials table only. Some trials are outliers: longer than the window, or much shorter than the
    other trials of their condition.
    """
    rng = np.random.default_rng(seed)
    n = n_train + n_val + n_test + n_none
    split = rng.permutation(np.repeat(["train", "val", "test", "none"], [n_train, n_val, n_test, n_none]))
    kind = rng.permutation(np.arange(n) % 8)
    is_eye, theta, is_short = kind % 2, kind // 2 % 2, kind // 4
    ts = np.where(is_short == 1, rng.choice([480.0, 800.0], n), rng.choice([800.0, 1000.0], n))
    tp = ts * rng.normal(1.05, 0.1, n)
    tp[rng.random(n) < 0.06] *= 0.6
    outlier = rng.random(n) < 0.1
    tp[outlier & (rng.random(n) < 0.3)] = 1600.0
    tp = np.round(tp, 4)
    lead, rest = rng.uniform(0.9, 1.3, n), rng.uniform(0.4, 0.8, n)
    length = lead + tp / 1000 + rest
    start = np.round(0.5123 + np.cumsum(length) - length, 4)
    set_time = np.round(start + lead, 4)
    go_time = np.round(set_time + tp / 1000, 4)
    ms = np.arange(_n_ms(start + length) + 400)
    trial = np.clip(np.searchsorted(start * 1000, ms) - 1, 0, n - 1)
    phase = np.clip((ms - 1000 * set_time[trial]) / tp[trial], -0.2, 1.2)
    drive = 10 * np.stack([phase - 0.5, (2.0 * is_eye[trial] - 1) * (phase > 0)], axis=1)
    units = _Units.drawn(rng, n_units, n_heldout)
    spikes = units.spikes(rng, drive, 0)
    trials = {
        "start_time": start,
        "stop_time": np.round(start + length, 4),
        "set_time": set_time,
        "go_time": np.where(split == "none", np.nan, go_time),
        "split": split,
        "is_eye": is_eye,
        "theta": theta,
        "is_short": is_short.astype(bool),
        "ts": ts,
        "tp": tp,
        "is_outlier": outlier.astype(int),
    }
    in_train_file = split != "test"
    written = Written(
        Path(f"{folder / DMFC_NAME}_desc-train_ecephys.nwb"), Path(f"{folder / DMFC_NAME}_desc-test_ecephys.nwb")
    )
    observed = np.array([[0.0, len(ms) / 1000]])
    _write(written.train, {k: v[in_train_file] for k, v in trials.items()}, units, spikes, observed, {})
    _write_test(written.test, units, spikes, "go_time", go_time[split == "test"], -1500, 0)
    return written


def write_own(
    path: Path, seed: int = 0, seconds: float = 60.0, rate_hz: float = 100.0, n_units: int = 24, lead_ms: int = 0
) -> Path:
    """Writes a file without trials, obs_intervals or column of held-out units.

    It has units, and a one-dimensional running speed with a start time and a rate.
    """
    rng = np.random.default_rng(seed)
    velocity = _wandering(rng, round(seconds * 1000), 10.0)
    units = _Units.drawn(rng, n_units, 0)
    spikes = units.spikes(rng, velocity, lead_ms)
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    speed = np.interp(at, np.arange(len(velocity)) / 1000, velocity[:, 0])
    file = _file()
    for unit_id, times in zip(units.id, spikes, strict=True):
        file.add_unit(id=int(unit_id), spike_times=times)
    file.add_acquisition(TimeSeries(name="running", data=speed, unit="cm/s", starting_time=0.0, rate=rate_hz))
    _save(file, path)
    return path


@dataclass(frozen=True)
class _Units:
    id: np.ndarray
    heldout: np.ndarray
    base: np.ndarray
    tuning: np.ndarray

    @classmethod
    def drawn(cls, rng: np.random.Generator, n: int, n_heldout: int, shuffled: bool = False) -> "_Units":
        heldout = np.zeros(n, dtype=bool)
        heldout[rng.choice(n, n_heldout, replace=False)] = True
        unit_id = 2003 + 7 * np.arange(n)
        angle = rng.uniform(0, 2 * np.pi, n)
        tuning = rng.uniform(0.5, 1.5, n) * np.stack([np.cos(angle), np.sin(angle)])
        return cls(rng.permutation(unit_id) if shuffled else unit_id, heldout, rng.uniform(4.0, 12.0, n), tuning)

    def spikes(self, rng: np.random.Generator, velocity: np.ndarray, lead_ms: int) -> list[np.ndarray]:
        """Returns spike times in seconds, between whole milliseconds, also in gaps."""
        drive = np.roll(velocity, -lead_ms, axis=0) / velocity.std()
        rate = self.base * np.exp(np.clip(drive @ self.tuning, -4, 2))
        counts = rng.poisson(rate / 1000)
        return [np.sort((np.repeat(np.arange(len(c)), c) + rng.uniform(0, 1, c.sum())) / 1000) for c in counts.T]


def _n_ms(stop: np.ndarray) -> int:
    return int(stop.max() * 1000) + 1


def _grid_ms(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    bounds = zip(np.ceil(start * 1000), np.floor(stop * 1000), strict=True)
    return np.concatenate([np.arange(int(a), int(b)) for a, b in bounds])


def _reaches(rng: np.random.Generator, n_ms: int, onset: np.ndarray, angle: np.ndarray, peak: np.ndarray) -> np.ndarray:
    n = len(onset)
    angle = angle + rng.normal(0, 0.2, n)
    speed = peak * rng.uniform(0.7, 1.3, n)
    width = rng.uniform(70, 110, n)
    velocity = np.zeros((n_ms, 2))
    for trial in range(n):
        centre = int(onset[trial] * 1000) + 170
        around = np.arange(max(centre - 500, 0), min(centre + 500, n_ms))
        bell = speed[trial] * np.exp(-0.5 * ((around - centre) / width[trial]) ** 2)
        velocity[around] += bell[:, None] * np.array([np.cos(angle[trial]), np.sin(angle[trial])])
    return velocity + rng.normal(0, 0.01 * peak.mean(), velocity.shape)


def _wandering(rng: np.random.Generator, n_ms: int, sd: float) -> np.ndarray:
    knots = rng.normal(0, sd, (n_ms // 150 + 2, 2))
    at = np.arange(n_ms) / 150
    return np.column_stack([np.interp(at, np.arange(len(knots)), knot) for knot in knots.T])


def _position(velocity: np.ndarray) -> np.ndarray:
    return np.cumsum(velocity, axis=0) / 1000


def _names(stem: Path) -> Written:
    return Written(Path(f"{stem}_desc-train_behavior+ecephys.nwb"), Path(f"{stem}_desc-test_ecephys.nwb"))


def _file() -> NWBFile:
    return NWBFile(session_description="test", identifier="test", session_start_time=datetime(2020, 1, 1, tzinfo=UTC))


def _save(file: NWBFile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)


def _write(
    path: Path,
    trials: dict[str, np.ndarray],
    units: _Units,
    spikes: list[np.ndarray],
    observed: np.ndarray,
    series: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    file = _file()
    for name in trials:
        if name not in ("start_time", "stop_time"):
            file.add_trial_column(name, name)
    for row in range(len(trials["start_time"])):
        file.add_trial(**{name: values[row].item() for name, values in trials.items()})
    file.add_unit_column("heldout", "whether the unit is held out")
    end = observed.max()
    for unit_id, heldout, times in zip(units.id, units.heldout, spikes, strict=True):
        file.add_unit(
            id=int(unit_id), spike_times=times[times < end - 0.001], obs_intervals=observed, heldout=bool(heldout)
        )
    if series:
        module = file.create_processing_module("behavior", "behaviour")
        for name, (at, data) in series.items():
            columns = ",".join("xyzuvw"[: data.shape[1]])
            module.add(TimeSeries(name=name, data=data, unit="m/s", timestamps=at, comments=f"columns=[{columns}]"))
    _save(file, path)


def _write_test(
    path: Path, units: _Units, spikes: list[np.ndarray], event: str, at: np.ndarray, start_ms: int, stop_ms: int
) -> None:
    """Writes held-in units in the windows of the test trials, stitched together 100 ms apart."""
    length = (stop_ms - start_ms) / 1000
    begin = np.round((length + 0.1) * np.arange(len(at)), 4)
    source = at + start_ms / 1000
    in_train_file = ~units.heldout
    stitched = []
    for times in [times for times, chosen in zip(spikes, in_train_file, strict=True) if chosen]:
        parts = [times[(times >= s) & (times < s + length)] - s + b for s, b in zip(source, begin, strict=True)]
        stitched.append(np.concatenate(parts))
    trials = {"start_time": begin, "stop_time": np.round(begin + length, 4)}
    if event not in trials:
        trials[event] = np.round(begin - start_ms / 1000, 4)
    trials["split"] = np.array(["test"] * len(at))
    heldin = _Units(
        units.id[in_train_file], units.heldout[in_train_file], units.base[in_train_file], units.tuning[:, in_train_file]
    )
    _write(path, trials, heldin, stitched, np.stack([begin, trials["stop_time"]], axis=1), {})
