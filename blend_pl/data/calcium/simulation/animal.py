"""Simulated behavior: running in bouts, arousal, pupil, and cortical state."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from blend_pl.data.calcium.simulation.parameters import FRAME_S

BEHAVIOR_HZ = 30.0
"""Sampling rate of the wheel and the camera."""

RUNNING, DESYNCHRONISED, SYNCHRONISED = 0, 1, 2


@dataclass(frozen=True)
class SimulatedBehavior:
    """Behaviour of one run.

    Attributes:
        times: (samples,) s, at `BEHAVIOR_HZ`.
        speed: (samples,) cm/s.
        pupil: (samples,) size, arbitrary unit.
        gaze: (samples, 2) position of the pupil, arbitrary unit.
        frame_times: (T,) s.
        state: (T,) 0, 1 or 2.
        factors: (T, 4) running, pupil, desynchronised, synchronised, each with mean 0 and variance 1.
    """

    times: np.ndarray
    speed: np.ndarray
    pupil: np.ndarray
    gaze: np.ndarray
    frame_times: np.ndarray
    state: np.ndarray
    factors: np.ndarray


def draw_behavior(n_frames: int, rng: np.random.Generator) -> SimulatedBehavior:
    """Draws the behavior of a run of `n_frames` frames."""
    times = np.arange(-1.0, n_frames * FRAME_S + 1.0, 1 / BEHAVIOR_HZ)
    running_drive = smooth_noise(len(times), 8.0, rng)
    running = smooth_step((running_drive - 0.6) * 4)
    speed = 20 * running * np.exp(0.3 * smooth_noise(len(times), 2.0, rng))
    arousal = smooth_noise(len(times), 12.0, rng)
    pupil = (
        1 + 0.25 * (0.8 * arousal + 1.2 * exponential_average(running, 3.0)) + 0.03 * smooth_noise(len(times), 0.5, rng)
    )
    gaze = np.stack([smooth_noise(len(times), 1.0, rng) for _ in range(2)], axis=1)

    frame_times = np.arange(n_frames) * FRAME_S

    def interpolate(values: np.ndarray) -> np.ndarray:
        frame_values: np.ndarray = np.interp(frame_times, times, values)
        return frame_values

    state = np.where(interpolate(arousal) > 0, DESYNCHRONISED, SYNCHRONISED)
    state[interpolate(speed) > 2] = RUNNING
    raw_factors = [interpolate(speed), interpolate(pupil), state == DESYNCHRONISED, state == SYNCHRONISED]
    return SimulatedBehavior(
        times,
        speed,
        pupil,
        gaze,
        frame_times,
        state,
        np.stack([zscore(np.asarray(factor, float)) for factor in raw_factors], 1),
    )


def smooth_noise(
    n_samples: int, time_constant_s: float, rng: np.random.Generator, rate_hz: float = BEHAVIOR_HZ
) -> np.ndarray:
    """Draws (n_samples,) stationary noise of variance 1 with an exponential autocorrelation.

    Args:
        n_samples: number of samples.
        time_constant_s: time constant of the autocorrelation, s.
        rng: source of the draw.
        rate_hz: sampling rate.
    """
    decay = np.exp(-1 / (rate_hz * time_constant_s))
    filter_state = rng.standard_normal(1) * decay
    white_noise = np.sqrt(1 - decay**2) * rng.standard_normal(n_samples)
    noise: np.ndarray = lfilter([1.0], [1.0, -decay], white_noise, zi=filter_state)[0]
    return noise


def exponential_average(values: np.ndarray, time_constant_s: float) -> np.ndarray:
    """Returns the exponentially weighted mean of the past at `BEHAVIOR_HZ`."""
    decay = np.exp(-1 / (BEHAVIOR_HZ * time_constant_s))
    average: np.ndarray = lfilter([1 - decay], [1.0, -decay], values)
    return average


def smooth_step(values: np.ndarray) -> np.ndarray:
    """Returns a sigmoid from 0 to 1, centered at 0."""
    step: np.ndarray = 0.5 * (1 + np.tanh(values))
    return step


def zscore(values: np.ndarray) -> np.ndarray:
    """Scales values to mean 0 and variance 1; constant values become 0."""
    std = values.std()
    z_scores: np.ndarray = (values - values.mean()) / (std if std > 0 else 1.0)
    return z_scores
