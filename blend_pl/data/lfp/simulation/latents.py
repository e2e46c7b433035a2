"""Simulated latents of motor cortex, three noisy rotations, and the movement that they cause."""

import numpy as np
from scipy.signal import lfilter

from blend_pl.data.lfp.recording import BIN_MS

STEP_HZ = 1000 / BIN_MS
ROTATIONS = ((0.45, 0.9), (0.8, 0.7), (1.5, 0.45))
"""Frequency in Hz and decay time in s of each rotation; its two latents have a phase difference of 90 degrees."""

N_LATENTS = 2 * len(ROTATIONS)
INPUT_TIME_CONSTANT_S = 0.05
"""Time constant of the input noise, which makes the latents smooth."""

SPEED_MM_S = 60.0
BURN_IN_STEPS = 1000
"""Steps before the start of a session, until the latents are stationary."""


def draw_rotational_latents(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws (n, N_LATENTS) latents of mean 0 and variance 1, one row per bin: damped rotations with smooth noise."""
    columns = []
    for frequency, time_constant in ROTATIONS:
        pole = np.exp((-1 / time_constant + 2j * np.pi * frequency) / STEP_HZ)
        input_pole = np.exp(-1 / (INPUT_TIME_CONSTANT_S * STEP_HZ))
        inputs = rng.standard_normal(n + BURN_IN_STEPS) + 1j * rng.standard_normal(n + BURN_IN_STEPS)
        rotation = lfilter([1.0], [1.0, -pole], lfilter([1.0], [1.0, -input_pole], inputs))[BURN_IN_STEPS:]
        columns += [rotation.real, rotation.imag]
    latents = np.stack(columns, axis=1)
    z_scores: np.ndarray = (latents - latents.mean(0)) / latents.std(0)
    return z_scores


def velocity_from_latents(latents: np.ndarray) -> np.ndarray:
    """Returns the (n, 2) velocity in mm/s: a bounded readout of two rotations, with a gain set by the third."""
    direction = 0.75 * latents[:, :2] + 0.65 * latents[:, 2:4] * np.array([1.0, -1.0])
    speed_gain = 1 + 0.25 * np.tanh(latents[:, 4:5])
    velocity: np.ndarray = SPEED_MM_S * 2 * np.tanh(direction * speed_gain / 2)
    return velocity
