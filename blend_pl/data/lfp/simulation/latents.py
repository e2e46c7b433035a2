"""What all animals' motor cortex does: three noisy rotations, and the movement that they cause."""

import numpy as np
from scipy.signal import lfilter

from blend_pl.data.lfp.recording import BIN_MS

STEP_HZ = 1000 / BIN_MS
PLANES = ((0.45, 0.9), (0.8, 0.7), (1.5, 0.45))
"""Frequency in Hz and memory in s of each rotation; its two latents are a quarter of a turn apart."""

N_LATENTS = 2 * len(PLANES)
INPUT_MEMORY_S = 0.05
"""Inputs are smooth over so long, so that latents are."""

SPEED_MM_S = 60.0
WARM_UP = 1000
"""Steps before the start, so that a session begins as it goes on."""


def draw_latents(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, N_LATENTS) in steps of a bin, each of mean 0 and variance 1: damped rotations pushed by smooth inputs."""
    columns = []
    for frequency, memory in PLANES:
        pole = np.exp((-1 / memory + 2j * np.pi * frequency) / STEP_HZ)
        smooth = np.exp(-1 / (INPUT_MEMORY_S * STEP_HZ))
        pushes = rng.standard_normal(n + WARM_UP) + 1j * rng.standard_normal(n + WARM_UP)
        turning = lfilter([1.0], [1.0, -pole], lfilter([1.0], [1.0, -smooth], pushes))[WARM_UP:]
        columns += [turning.real, turning.imag]
    latents = np.stack(columns, axis=1)
    return (latents - latents.mean(0)) / latents.std(0)


def velocity(latents: np.ndarray) -> np.ndarray:
    """(n, 2) mm/s: the first two rotations, faster when the third is far out, and never beyond a limit."""
    straight = 0.75 * latents[:, :2] + 0.65 * latents[:, 2:4] * np.array([1.0, -1.0])
    vigour = 1 + 0.25 * np.tanh(latents[:, 4:5])
    return SPEED_MM_S * 2 * np.tanh(straight * vigour / 2)
