"""Reader of Flint et al. (2012; CRCNS, DREAM): trials of velocity, spikes and field potentials in `.mat` files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from blend_pl.data.io.matlab import MatStruct, open_mat
from blend_pl.data.lfp.preprocessing import FLINT_FILTERS, Waveform, bin_lfp, without_bad_channels
from blend_pl.data.lfp.recording import BIN_MS, CrossModalRecording
from blend_pl.data.lfp.spikes import select_active_units, spike_counts
from blend_pl.data.lfp.timestamps import require_finite_behavior, resample_velocity
from blend_pl.data.resample import require_increasing
from blend_pl.errors import DataError

FLINT_SUBJECT = "C"
N_VELOCITY_AXES = 2
"""Number of columns of HandVel that are used."""


@dataclass(frozen=True)
class _Trial:
    """Times (k,) s, velocity (k, 2), and for each electrode spike times, s, and waveform, empty where missing."""

    times: np.ndarray
    velocity: np.ndarray
    spikes: list[np.ndarray]
    lfp: list[np.ndarray]

    @property
    def stop(self) -> float:
        return float(self.times[-1] + self.sampling_interval)

    @property
    def sampling_interval(self) -> float:
        return float(self.times[-1] - self.times[0]) / (len(self.times) - 1)


def parse_flint_session(session: str) -> tuple[str, int]:
    """Returns the name of a session's file and the index of its Subject, from 0.

    Raises:
        DataError: the name is not of this form.
    """
    match = re.fullmatch(r"(e\d+)_([1-9]\d*)", session)
    if match is None:
        raise DataError(f"there is no Flint session {session!r}; write the file and the Subject, for example e1_1")
    return f"Flint_2012_{match[1]}.mat", int(match[2]) - 1


def read_flint(
    session: str, path: Path, min_rate_hz: float, bad_channels: Sequence[int | str] = ()
) -> CrossModalRecording:
    """Reads one session and concatenates its trials.

    Contiguous trials are filtered together. Empty trials and electrodes without a waveform are left out. The sampling
    rate of the waveform is its number of samples divided by its duration.

    Args:
        session: name of the session, e.g. "e1_1".
        path: the file, e.g. `Flint_2012_e1.mat`.
        min_rate_hz: minimum firing rate of the units to keep.
        bad_channels: names of channels to leave out.

    Raises:
        DataError: the file is damaged or incomplete, or all of its units fire too rarely.
    """
    where = f"{session} in {path}"
    with open_mat(path) as file:
        subjects = file.elements("Subject")
        subject_index = parse_flint_session(session)[1]
        if subject_index >= len(subjects):
            raise DataError(
                f"{path} has {len(subjects)} Subjects, so there is no session {session}; correct data.spec.flint"
            )
        trials = [_read_trial(trial, where) for trial in subjects[subject_index].elements("Trial")]
    valid_trials = sorted((trial for trial in trials if trial is not None), key=lambda trial: trial.times[0])
    if not valid_trials:
        raise DataError(f"{where} has no trial with Time, HandVel and LFP; download the file again")
    electrodes = range(min(len(trial.lfp) for trial in valid_trials))
    channels = [k for k in electrodes if all(trial.lfp[k].size for trial in valid_trials)]
    if not channels:
        raise DataError(f"{where} has no electrode with a waveform in all trials; leave this session out")
    units = [k for k in electrodes if any(trial.spikes[k].size for trial in valid_trials)]
    binned_groups = [
        _bin_trials(contiguous_trials, channels, units, where, bad_channels)
        for contiguous_trials in _group_contiguous(valid_trials)
    ]
    # A channel without a signal in any group is left out of all.
    live = sorted(set.intersection(*(set(group.lfp_names) for group in binned_groups)), key=lambda name: int(name[1:]))
    if not live:
        raise DataError(f"{where} has no electrode with a signal in all trials; leave this session out")
    counts = np.concatenate([group.counts for group in binned_groups])
    spikes, unit_id = select_active_units(counts, [f"n{k + 1}" for k in units], min_rate_hz, where)
    return CrossModalRecording(
        session,
        FLINT_SUBJECT,
        spikes,
        np.concatenate([group.lfp[:, [group.lfp_names.index(name) for name in live]] for group in binned_groups]),
        require_finite_behavior(np.concatenate([group.velocity for group in binned_groups]), where),
        unit_id,
        tuple(live),
        notes=tuple(dict.fromkeys(note for group in binned_groups for note in group.notes)),
    )


def _read_trial(trial: MatStruct, where: str) -> _Trial | None:
    """Reads a trial; None for an incomplete one."""
    times, velocity = trial.matrix("Time"), trial.matrix("HandVel")
    electrodes = trial.elements("Neuron")
    if times is None or velocity is None or times.size < 2 or not electrodes:
        return None
    if velocity.shape[0] != times.size or velocity.shape[1] < N_VELOCITY_AXES:
        return None
    lfp = [_flatten(electrode.matrix("LFP")) for electrode in electrodes]
    if not any(waveform.size for waveform in lfp):
        return None
    spikes = [_flatten(electrode.matrix("Spike")).astype(np.float64) for electrode in electrodes]
    times = _flatten(times).astype(np.float64)
    require_increasing(times, f"the behavior of {where}")
    return _Trial(times, velocity[:, :N_VELOCITY_AXES].astype(np.float64), spikes, lfp)


def _flatten(values: np.ndarray | None) -> np.ndarray:
    return np.empty(0) if values is None else values.reshape(-1)


def _group_contiguous(trials: list[_Trial]) -> list[list[_Trial]]:
    """Groups trials that follow each other without a pause."""
    groups = [[trials[0]]]
    for previous, trial in pairwise(trials):
        if abs(trial.times[0] - previous.stop) < previous.sampling_interval / 2:
            groups[-1].append(trial)
        else:
            groups.append([trial])
    return groups


@dataclass(frozen=True)
class _BinnedTrials:
    """Binned counts (T, N), field potentials (T, C) with the names of their channels, and velocity (T, 2)."""

    counts: np.ndarray
    lfp: np.ndarray
    lfp_names: tuple[str, ...]
    velocity: np.ndarray
    notes: tuple[str, ...]


def _bin_trials(
    trials: list[_Trial], channels: list[int], units: list[int], where: str, bad_channels: Sequence[int | str]
) -> _BinnedTrials:
    """Bins contiguous trials."""
    start, duration = float(trials[0].times[0]), trials[-1].stop - trials[0].times[0]
    n_bins = int(duration * 1000 / BIN_MS + 1e-6)
    waveform, notes = without_bad_channels(_concatenate_waveforms(trials, channels, duration, where), bad_channels)
    lfp = bin_lfp(waveform, FLINT_FILTERS, start, n_bins)
    velocity = resample_velocity(
        np.append(np.concatenate([trial.times for trial in trials]), trials[-1].stop),
        np.concatenate([trial.velocity for trial in trials] + [trials[-1].velocity[-1:]]),
        start,
        n_bins,
    )
    counts = spike_counts([np.concatenate([trial.spikes[k] for trial in trials]) for k in units], start, n_bins)
    lfp_names = tuple(waveform.channel_id[channel] for channel in lfp.channels)
    return _BinnedTrials(counts, lfp.values, lfp_names, velocity, (*notes, *lfp.notes))


def _concatenate_waveforms(trials: list[_Trial], channels: list[int], duration: float, where: str) -> Waveform:
    """Concatenates the waveforms of contiguous trials lazily."""
    for trial in trials:
        if len({len(trial.lfp[k]) for k in channels}) > 1:
            raise DataError(f"{where} has a trial with waveforms of different lengths; download the file again")
    stops = np.cumsum([len(trial.lfp[channels[0]]) for trial in trials])
    starts = np.concatenate([[0], stops[:-1]])

    def read(start: int, stop: int) -> np.ndarray:
        overlapping = np.flatnonzero((starts < stop) & (stops > start))
        pieces = [
            np.stack([trials[i].lfp[k][max(start - starts[i], 0) : stop - starts[i]] for k in channels], axis=1)
            for i in overlapping
        ]
        return np.concatenate(pieces)

    return Waveform(
        where,
        read,
        int(stops[-1]),
        len(channels),
        stops[-1] / duration,
        float(trials[0].times[0]),
        channel_id=tuple(f"n{k + 1}" for k in channels),
    )
