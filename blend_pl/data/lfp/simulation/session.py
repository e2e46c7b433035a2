"""One simulated session: spikes, field potentials and movement of common latents."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter, sosfilt, sosfiltfilt

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.data.lfp.simulation.animal import N_SHARED_SOURCES, ElectrodeArray
from blend_pl.data.lfp.simulation.latents import STEP_HZ, draw_rotational_latents, velocity_from_latents
from blend_pl.data.lfp.simulation.parameters import LFPSimulation

LFP_TIME_CONSTANT_S = 0.06
"""Time constant of the low-pass between latents and field potentials."""

BETA_HZ = (14.0, 26.0)
LINE_HZ = 60.0
DRIFT_HZ = 0.02
COMMON_SD, LINE_SD, DRIFT_SD = 2.0, 0.5, 4.0
"""Standard deviation of noise common to all electrodes, of line noise, and of slow drift, relative to the latents."""

LFP_SD_UV = 40.0
"""Standard deviation of the part of the field potentials that is caused by the latents."""

MAX_RATE_HZ = 200.0


@dataclass(frozen=True)
class SimulatedSession:
    """Recorded signals of a session.

    Attributes:
        spikes: sorted spike times of each unit, s from the start.
        lfp: (samples, C) float32, microvolts, at the simulation's rate.
        velocity: (T, 2) mm/s, at the starts of bins.
    """

    spikes: list[np.ndarray]
    lfp: np.ndarray
    velocity: np.ndarray


def draw_session(
    simulation: LFPSimulation, electrode_array: ElectrodeArray, rng: np.random.Generator
) -> SimulatedSession:
    """Draws one day of an animal, with the first units and channels of its array."""
    drifted_array = electrode_array.with_drift(simulation.day_change, rng)
    n_units, n_channels = (
        int(rng.integers(low, high + 1)) for low, high in (simulation.n_units, simulation.n_channels)
    )
    latents = draw_rotational_latents(int(simulation.seconds * STEP_HZ) + 1, rng)
    return SimulatedSession(
        _draw_spikes(simulation, latents @ drifted_array.tuning[:, :n_units], drifted_array.log_rate[:n_units], rng),
        _draw_lfp(simulation, drifted_array, latents, n_channels, rng),
        velocity_from_latents(latents),
    )


def _draw_spikes(
    simulation: LFPSimulation, drive: np.ndarray, log_rate: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    log_rate = simulation.gain * drive + log_rate - simulation.gain**2 / 2 + np.log(simulation.mean_rate_hz)
    rate = np.minimum(np.exp(log_rate), MAX_RATE_HZ)
    counts = rng.poisson(rate[:-1] / STEP_HZ)
    bins, unit = np.nonzero(counts)
    n_spikes = counts[bins, unit]
    times = (np.repeat(bins, n_spikes) + rng.random(n_spikes.sum())) * BIN_MS / 1000
    spike_unit = np.repeat(unit, n_spikes)
    return [np.sort(times[spike_unit == k]) for k in range(counts.shape[1])]


def _draw_lfp(
    simulation: LFPSimulation,
    electrode_array: ElectrodeArray,
    latents: np.ndarray,
    n_channels: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws (samples, C) float32; frequencies below 50 Hz are drawn in bins and interpolated to the rate."""
    n = len(latents)
    decay = np.exp(-1 / (LFP_TIME_CONSTANT_S * STEP_HZ))
    filtered = lfilter([1 - decay], [1.0, -decay], latents, axis=0)
    low_frequency = filtered / filtered.std(0) @ electrode_array.mixing[:, :n_channels]
    low_frequency += simulation.shared * _draw_shared_sources(n, rng) @ electrode_array.shared[:, :n_channels]
    low_frequency += simulation.private * _pink_noise(n, n_channels, rng)
    low_frequency += COMMON_SD * _pink_noise(n, 1, rng) + DRIFT_SD * _drift_noise(n, n_channels, rng)
    times = np.arange(round(simulation.seconds * simulation.rate_hz)) / simulation.rate_hz
    positions = times * STEP_HZ
    first_bin = np.minimum(positions.astype(np.int64), n - 2)
    weight = (positions - first_bin).astype(np.float32)[:, None]
    low_frequency = low_frequency.astype(np.float32)
    lfp: np.ndarray = low_frequency[first_bin]
    lfp += weight * (low_frequency[first_bin + 1] - lfp)
    line_noise = LINE_SD * np.sin(2 * np.pi * LINE_HZ * times[:, None] + rng.uniform(0, 2 * np.pi, n_channels))
    lfp += line_noise.astype(np.float32)
    lfp += 0.3 * rng.standard_normal(lfp.shape, dtype=np.float32)
    return LFP_SD_UV * lfp


def _draw_shared_sources(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws (n, N_SHARED_SOURCES): bursts of beta rhythm, and activity as slow as the latents."""
    beta = sosfilt(
        butter(2, BETA_HZ, "bandpass", fs=STEP_HZ, output="sos"), rng.standard_normal((n, N_SHARED_SOURCES // 2)), 0
    )
    bursts = np.exp(_smooth_noise(n, N_SHARED_SOURCES // 2, 1.0, rng))
    return np.concatenate(
        [_standardize(beta * bursts), _pink_noise(n, N_SHARED_SOURCES - N_SHARED_SOURCES // 2, rng)], axis=1
    )


def _pink_noise(n: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Draws (n, columns) noise of variance 1 with power inversely proportional to the frequency above 0.3 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal((n, columns)), axis=0)
    frequency = np.fft.rfftfreq(n, 1 / STEP_HZ)
    return _standardize(np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 0.3))[:, None], n, axis=0))


def _drift_noise(n: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    lowpass = butter(1, DRIFT_HZ, fs=STEP_HZ, output="sos")
    return _standardize(sosfiltfilt(lowpass, rng.standard_normal((n, columns)), axis=0))


def _smooth_noise(n: int, columns: int, time_constant_s: float, rng: np.random.Generator) -> np.ndarray:
    decay = np.exp(-1 / (time_constant_s * STEP_HZ))
    return _standardize(lfilter([1.0], [1.0, -decay], rng.standard_normal((n, columns)), axis=0))


def _standardize(columns: np.ndarray) -> np.ndarray:
    z_scores: np.ndarray = (columns - columns.mean(0)) / columns.std(0)
    return z_scores
