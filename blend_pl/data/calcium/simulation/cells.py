"""The cells of a mouse, and what they do in a run."""

from dataclasses import dataclass, fields

import numpy as np
from scipy.signal import lfilter

from blend_pl.data.calcium.simulation.animal import SYNCHRONISED, Animal, smooth_noise, unit
from blend_pl.data.calcium.simulation.parameters import FACTORS, FRAME_S, SUBTYPES, TUNING, TreeSimulation

FIELD_UM = 600.0
DEPTH_UM = (100.0, 350.0)


@dataclass(frozen=True)
class MouseCells:
    """The N cells of a mouse.

    Attributes:
        label: (N,) str.
        unique_id: (N,) float, NaN for excitatory and untyped cells and a few others.
        weights: (N, factors).
        position: (N, 3) micrometres.
        silent: (N,) bool, cells that never change.
    """

    label: np.ndarray
    unique_id: np.ndarray
    weights: np.ndarray
    position: np.ndarray
    silent: np.ndarray

    def select(self, rows: np.ndarray) -> "MouseCells":
        """The cells in these rows."""
        return MouseCells(*(getattr(self, f.name)[rows] for f in fields(self)))


def draw_cells(simulation: TreeSimulation, rng: np.random.Generator) -> MouseCells:
    """Draws a mouse's cells; one is of the rare subclass Serpinf1, one never changes."""
    n = simulation.n_cells
    n_excitatory = round(n * simulation.excitatory)
    names = [name for name in SUBTYPES if name != "Serpinf1"]
    subclass = np.array(["EC"] * n_excitatory + [names[i % len(names)] for i in range(n - n_excitatory)], dtype="<U16")
    if n > n_excitatory:
        subclass[-1] = "Serpinf1"
    label = np.array([str(rng.choice(SUBTYPES[name])) if name in SUBTYPES else name for name in subclass])
    hidden = (rng.random(n) < simulation.untyped) & (subclass != "EC") & (subclass != "Serpinf1")
    label[hidden] = "IN"
    unique_id = rng.permutation(np.arange(1, n + 1)).astype(float)
    unique_id[(subclass == "EC") | hidden | (rng.random(n) < 0.05)] = np.nan
    weights = np.array([TUNING[name] for name in subclass])
    weights = weights + simulation.scatter * rng.standard_normal(weights.shape)
    position = rng.random((n, 3)) * [FIELD_UM, FIELD_UM, DEPTH_UM[1] - DEPTH_UM[0]] + [0, 0, DEPTH_UM[0]]
    silent = np.zeros(n, dtype=bool)
    silent[0] = True
    return MouseCells(label, unique_id, weights, position, silent).select(rng.permutation(n))


def draw_activity(
    simulation: TreeSimulation, cells: MouseCells, animal: Animal, rng: np.random.Generator
) -> np.ndarray:
    """Draws fluorescence.

    The shared fluctuation is larger while the cortex is synchronised. What drives a cell, and a private fluctuation,
    pass the calcium indicator; noise of the recording comes on top.

    Returns:
        (T, N) float32.
    """
    n_frames, n = len(animal.frames), len(cells.label)
    rate = 1 / FRAME_S
    shared = smooth_noise(n_frames, 0.5, rng, rate) * np.where(animal.state == SYNCHRONISED, 1.5, 0.6)
    slow = smooth_noise(n_frames, 20.0, rng, rate)
    factors = np.column_stack([animal.factors, unit(shared), slow])
    assert factors.shape[1] == len(FACTORS)
    private = np.stack([smooth_noise(n_frames, 0.3, rng, rate) for _ in range(n)], axis=1)
    drive = simulation.gain * factors @ cells.weights.T + private
    keep = np.exp(-FRAME_S / simulation.decay_s) if simulation.decay_s else 0.0
    activity = lfilter([1 - keep], [1.0, -keep], np.logaddexp(0.0, 1.5 * drive), axis=0)
    activity += simulation.noise * 0.3 * rng.standard_normal(activity.shape)
    activity[:, cells.silent] = 0.0
    return activity.astype(np.float32)
