"""One simulated session: spikes from the latents, field potentials from them and from much else, and the movement."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter, sosfilt, sosfiltfilt

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.data.lfp.simulation.animal import N_SHARED, Animal
from blend_pl.data.lfp.simulation.latents import STEP_HZ, draw_latents, velocity
from blend_pl.data.lfp.simulation.parameters import SessionsSimulation

DENDRITES_S = 0.06
"""Memory of the low-pass between latents and field potentials."""

BETA_HZ = (14.0, 26.0)
LINE_HZ = 60.0
DRIFT_HZ = 0.02
COMMON, LINE, DRIFT = 2.0, 0.5, 4.0
"""Standard deviation of what all electrodes pick up, of the mains, and of slow drift, relative to the latents."""

MICROVOLT = 40.0
"""Standard deviation of what the latents cause."""

FASTEST_HZ = 200.0


@dataclass(frozen=True)
class Session:
    """What is recorded.

    Attributes:
        spikes: for each unit its sorted spike times, s from the start.
        lfp: (samples, C) float32 microvolt, at the simulation's rate.
        velocity: (T, 2) mm/s, at the starts of bins.
    """

    spikes: list[np.ndarray]
    lfp: np.ndarray
    velocity: np.ndarray


def draw_session(simulation: SessionsSimulation, animal: Animal, rng: np.random.Generator) -> Session:
    """Draws a day of an animal, with the first of its units and electrodes."""
    today = animal.on_a_day(simulation.day_change, rng)
    n_units, n_channels = (
        int(rng.integers(low, high + 1)) for low, high in (simulation.n_units, simulation.n_channels)
    )
    latents = draw_latents(int(simulation.seconds * STEP_HZ) + 1, rng)
    return Session(
        _spikes(simulation, latents @ today.tuning[:, :n_units], today.log_rate[:n_units], rng),
        _potentials(simulation, today, latents, n_channels, rng),
        velocity(latents),
    )


def _spikes(
    simulation: SessionsSimulation, drive: np.ndarray, log_rate: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    log_rate = simulation.gain * drive + log_rate - simulation.gain**2 / 2 + np.log(simulation.mean_rate_hz)
    rate = np.minimum(np.exp(log_rate), FASTEST_HZ)
    counts = rng.poisson(rate[:-1] / STEP_HZ)
    bins, unit = np.nonzero(counts)
    many = counts[bins, unit]
    times = (np.repeat(bins, many) + rng.random(many.sum())) * BIN_MS / 1000
    owner = np.repeat(unit, many)
    return [np.sort(times[owner == k]) for k in range(counts.shape[1])]


def _potentials(
    simulation: SessionsSimulation, animal: Animal, latents: np.ndarray, n_channels: int, rng: np.random.Generator
) -> np.ndarray:
    """(samples, C) float32; all that lies below 50 Hz is drawn in bins and brought to the rate."""
    n = len(latents)
    keep = np.exp(-1 / (DENDRITES_S * STEP_HZ))
    caused = lfilter([1 - keep], [1.0, -keep], latents, axis=0)
    slow = caused / caused.std(0) @ animal.mixing[:, :n_channels]
    slow += simulation.shared * _shared(n, rng) @ animal.shared[:, :n_channels]
    slow += simulation.private * _pink(n, n_channels, rng)
    slow += COMMON * _pink(n, 1, rng) + DRIFT * _drift(n, n_channels, rng)
    times = np.arange(round(simulation.seconds * simulation.rate_hz)) / simulation.rate_hz
    place = times * STEP_HZ
    before = np.minimum(place.astype(np.int64), n - 2)
    part = (place - before).astype(np.float32)[:, None]
    slow = slow.astype(np.float32)
    potentials = slow[before]
    potentials += part * (slow[before + 1] - potentials)
    mains = LINE * np.sin(2 * np.pi * LINE_HZ * times[:, None] + rng.uniform(0, 2 * np.pi, n_channels))
    potentials += mains.astype(np.float32)
    potentials += 0.3 * rng.standard_normal(potentials.shape, dtype=np.float32)
    return MICROVOLT * potentials


def _shared(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, N_SHARED): beta rhythm that comes and goes, and activity as slow as the latents."""
    beta = sosfilt(butter(2, BETA_HZ, "bandpass", fs=STEP_HZ, output="sos"), rng.standard_normal((n, N_SHARED // 2)), 0)
    bursts = np.exp(_smooth_noise(n, N_SHARED // 2, 1.0, rng))
    return np.concatenate([_standard(beta * bursts), _pink(n, N_SHARED - N_SHARED // 2, rng)], axis=1)


def _pink(n: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """(n, columns) of variance 1 whose power falls with the frequency, from 0.3 Hz on."""
    spectrum = np.fft.rfft(rng.standard_normal((n, columns)), axis=0)
    frequency = np.fft.rfftfreq(n, 1 / STEP_HZ)
    return _standard(np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 0.3))[:, None], n, axis=0))


def _drift(n: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    slow = butter(1, DRIFT_HZ, fs=STEP_HZ, output="sos")
    return _standard(sosfiltfilt(slow, rng.standard_normal((n, columns)), axis=0))


def _smooth_noise(n: int, columns: int, memory_s: float, rng: np.random.Generator) -> np.ndarray:
    keep = np.exp(-1 / (memory_s * STEP_HZ))
    return _standard(lfilter([1.0], [1.0, -keep], rng.standard_normal((n, columns)), axis=0))


def _standard(columns: np.ndarray) -> np.ndarray:
    return (columns - columns.mean(0)) / columns.std(0)
