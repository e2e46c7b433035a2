"""What the animal does: running in bouts, arousal, the pupil, and the state of the cortex."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from blend_pl.data.calcium.simulation.parameters import FRAME_S

BEHAVIOR_HZ = 30.0
"""Sampling rate of wheel and camera."""

RUNNING, DESYNCHRONISED, SYNCHRONISED = 0, 1, 2


@dataclass(frozen=True)
class Animal:
    """Behaviour of one run.

    Attributes:
        times: (samples,) s, at `BEHAVIOR_HZ`.
        speed: (samples,) cm/s.
        pupil: (samples,) size, arbitrary unit.
        gaze: (samples, 2) position of the pupil, arbitrary unit.
        frames: (T,) s.
        state: (T,) 0, 1 or 2.
        factors: (T, 4) running, pupil, desynchronised, synchronised, each with mean 0 and variance 1.
    """

    times: np.ndarray
    speed: np.ndarray
    pupil: np.ndarray
    gaze: np.ndarray
    frames: np.ndarray
    state: np.ndarray
    factors: np.ndarray


def draw_animal(n_frames: int, rng: np.random.Generator) -> Animal:
    """Draws what an animal does in a run of so many frames."""
    times = np.arange(-1.0, n_frames * FRAME_S + 1.0, 1 / BEHAVIOR_HZ)
    will = smooth_noise(len(times), 8.0, rng)
    running = smooth_step((will - 0.6) * 4)
    speed = 20 * running * np.exp(0.3 * smooth_noise(len(times), 2.0, rng))
    arousal = smooth_noise(len(times), 12.0, rng)
    pupil = 1 + 0.25 * (0.8 * arousal + 1.2 * decaying(running, 3.0)) + 0.03 * smooth_noise(len(times), 0.5, rng)
    gaze = np.stack([smooth_noise(len(times), 1.0, rng) for _ in range(2)], axis=1)

    frames = np.arange(n_frames) * FRAME_S

    def on_frames(values: np.ndarray) -> np.ndarray:
        return np.interp(frames, times, values)

    state = np.where(on_frames(arousal) > 0, DESYNCHRONISED, SYNCHRONISED)
    state[on_frames(speed) > 2] = RUNNING
    latent = [on_frames(speed), on_frames(pupil), state == DESYNCHRONISED, state == SYNCHRONISED]
    return Animal(times, speed, pupil, gaze, frames, state, np.stack([unit(np.asarray(x, float)) for x in latent], 1))


def smooth_noise(n: int, memory_s: float, rng: np.random.Generator, rate_hz: float = BEHAVIOR_HZ) -> np.ndarray:
    """(n,) stationary noise of variance 1 that forgets exponentially within `memory_s`."""
    keep = np.exp(-1 / (rate_hz * memory_s))
    start = rng.standard_normal(1) * keep
    return lfilter([1.0], [1.0, -keep], np.sqrt(1 - keep**2) * rng.standard_normal(n), zi=start)[0]


def decaying(values: np.ndarray, memory_s: float) -> np.ndarray:
    """Exponentially weighted mean of the past."""
    keep = np.exp(-1 / (BEHAVIOR_HZ * memory_s))
    return lfilter([1 - keep], [1.0, -keep], values)


def smooth_step(values: np.ndarray) -> np.ndarray:
    """From 0 to 1 around 0."""
    return 0.5 * (1 + np.tanh(values))


def unit(values: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1; 0 where nothing changes."""
    deviation = values.std()
    return (values - values.mean()) / (deviation if deviation > 0 else 1.0)
