"""Sessions of Flint et al. (2012; CRCNS, DREAM): trials of velocity, spikes and field potentials in `.mat` files."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from blend_pl.data.io.matlab import Struct, open_mat
from blend_pl.data.lfp.preprocessing import FLINT, Waveform, lfp_in_bins
from blend_pl.data.lfp.recording import BIN_MS, CrossModalRecording
from blend_pl.data.lfp.spikes import firing_units, spike_counts
from blend_pl.data.lfp.timestamps import require_known, require_times, velocity_at
from blend_pl.errors import DataError

SUBJECT = "C"
N_VELOCITY = 2
"""Columns of HandVel that are used."""


@dataclass(frozen=True)
class _Trial:
    """Times (k,) s, velocity (k, 2), and for each electrode its spike times, s, and waveform, empty where missing."""

    times: np.ndarray
    velocity: np.ndarray
    spikes: list[np.ndarray]
    lfp: list[np.ndarray]

    @property
    def stop(self) -> float:
        return float(self.times[-1] + self.step)

    @property
    def step(self) -> float:
        return float(self.times[-1] - self.times[0]) / (len(self.times) - 1)


def flint_file(session: str) -> tuple[str, int]:
    """Name of the file that holds a session, and which of its Subjects it is, from 0.

    Raises:
        DataError: no such name.
    """
    match = re.fullmatch(r"(e\d+)_([1-9]\d*)", session)
    if match is None:
        raise DataError(f"there is no Flint session {session!r}; write the file and the Subject, as in e1_1")
    return f"Flint_2012_{match[1]}.mat", int(match[2]) - 1


def read_flint(session: str, path: Path, min_rate_hz: float) -> CrossModalRecording:
    """One session: its trials one after the other.

    Trials that follow each other without a pause are filtered together. Empty trials and electrodes without a waveform
    are left out. The rate of the waveform is its number of samples over the time they took.

    Args:
        session: e.g. "e1_1".
        path: `Flint_2012_e1.mat`.
        min_rate_hz: units that fire less are left out.

    Raises:
        DataError: the file is damaged or lacks something; there are units, and all of them fire too rarely.
    """
    where = f"{session} in {path}"
    with open_mat(path) as file:
        subjects = file.elements("Subject")
        number = flint_file(session)[1]
        if number >= len(subjects):
            raise DataError(f"{path} has {len(subjects)} Subjects, so there is no session {session}; correct data.spec")
        trials = [_read(trial, where) for trial in subjects[number].elements("Trial")]
    known = sorted((trial for trial in trials if trial is not None), key=lambda trial: trial.times[0])
    if not known:
        raise DataError(f"{where} has no trial with Time, HandVel and LFP; fetch the file again")
    electrodes = range(min(len(trial.lfp) for trial in known))
    channels = [k for k in electrodes if all(trial.lfp[k].size for trial in known)]
    if not channels:
        raise DataError(f"{where} has no electrode with a waveform in all trials; leave this session out")
    units = [k for k in electrodes if any(trial.spikes[k].size for trial in known)]
    parts = [_bins(run, channels, units, where) for run in _runs(known)]
    counts, lfp, velocity = (np.concatenate(values) for values in zip(*parts, strict=True))
    spikes, unit_id = firing_units(counts, [f"n{k + 1}" for k in units], min_rate_hz, where)
    return CrossModalRecording(
        session, SUBJECT, spikes, lfp, require_known(velocity, where), unit_id, tuple(f"n{k + 1}" for k in channels)
    )


def _read(trial: Struct, where: str) -> _Trial | None:
    """None for a trial that lacks something."""
    times, velocity = trial.numbers("Time"), trial.numbers("HandVel")
    electrodes = trial.elements("Neuron")
    if times is None or velocity is None or times.size < 2 or not electrodes:
        return None
    if velocity.shape[0] != times.size or velocity.shape[1] < N_VELOCITY:
        return None
    lfp = [_line(electrode.numbers("LFP")) for electrode in electrodes]
    if not any(waveform.size for waveform in lfp):
        return None
    spikes = [_line(electrode.numbers("Spike")).astype(np.float64) for electrode in electrodes]
    times = _line(times).astype(np.float64)
    require_times(times, where)
    return _Trial(times, velocity[:, :N_VELOCITY].astype(np.float64), spikes, lfp)


def _line(values: np.ndarray | None) -> np.ndarray:
    return np.empty(0) if values is None else values.reshape(-1)


def _runs(trials: list[_Trial]) -> list[list[_Trial]]:
    """Trials that follow each other without a pause."""
    runs = [[trials[0]]]
    for before, trial in pairwise(trials):
        if abs(trial.times[0] - before.stop) < before.step / 2:
            runs[-1].append(trial)
        else:
            runs.append([trial])
    return runs


def _bins(
    run: list[_Trial], channels: list[int], units: list[int], where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, field potentials and velocity of one run."""
    start, duration = float(run[0].times[0]), run[-1].stop - run[0].times[0]
    n_bins = int(duration * 1000 / BIN_MS + 1e-6)
    series = _joined(run, channels, duration, where)
    return (
        spike_counts([np.concatenate([trial.spikes[k] for trial in run]) for k in units], start, n_bins),
        lfp_in_bins(series, FLINT, start, n_bins),
        velocity_at(
            np.append(np.concatenate([trial.times for trial in run]), run[-1].stop),
            np.concatenate([trial.velocity for trial in run] + [run[-1].velocity[-1:]]),
            start,
            n_bins,
        ),
    )


def _joined(run: list[_Trial], channels: list[int], duration: float, where: str) -> Waveform:
    """The waveforms of a run, one after the other, without a copy of all of them."""
    for trial in run:
        if len({len(trial.lfp[k]) for k in channels}) > 1:
            raise DataError(f"{where} has a trial with waveforms of different lengths; fetch the file again")
    stops = np.cumsum([len(trial.lfp[channels[0]]) for trial in run])
    starts = np.concatenate([[0], stops[:-1]])

    def read(start: int, stop: int) -> np.ndarray:
        inside = np.flatnonzero((starts < stop) & (stops > start))
        parts = [
            np.stack([run[i].lfp[k][max(start - starts[i], 0) : stop - starts[i]] for k in channels], axis=1)
            for i in inside
        ]
        return np.concatenate(parts)

    return Waveform(where, read, int(stops[-1]), len(channels), stops[-1] / duration, float(run[0].times[0]))
