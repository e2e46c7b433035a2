"""Simulated cells of a mouse and their activity."""

from dataclasses import dataclass, fields

import numpy as np
from scipy.signal import lfilter

from blend_pl.data.calcium.simulation.animal import SYNCHRONISED, SimulatedBehavior, smooth_noise, zscore
from blend_pl.data.calcium.simulation.parameters import FACTORS, FRAME_S, SUBTYPES, TUNING, BugeonSimulation

FIELD_OF_VIEW_UM = 600.0
DEPTH_RANGE_UM = (100.0, 350.0)


@dataclass(frozen=True)
class MouseCells:
    """The N cells of a mouse.

    Attributes:
        label: (N,) str.
        unique_id: (N,) float, NaN for excitatory and untyped cells and about 5% of the others.
        weights: (N, factors) weights of `FACTORS`.
        position: (N, 3) micrometers.
        silent: (N,) bool, cells with constant activity.
    """

    label: np.ndarray
    unique_id: np.ndarray
    weights: np.ndarray
    position: np.ndarray
    silent: np.ndarray

    def select(self, rows: np.ndarray) -> "MouseCells":
        """Returns the cells in these rows."""
        return MouseCells(*(getattr(self, f.name)[rows] for f in fields(self)))


def draw_cells(simulation: BugeonSimulation, rng: np.random.Generator) -> MouseCells:
    """Draws the cells of a mouse, among them one of the rare subclass Serpinf1 and one with constant activity."""
    n_cells = simulation.n_cells
    n_excitatory = round(n_cells * simulation.excitatory)
    common_subclasses = [name for name in SUBTYPES if name != "Serpinf1"]
    subclass = np.array(
        ["EC"] * n_excitatory + [common_subclasses[i % len(common_subclasses)] for i in range(n_cells - n_excitatory)],
        dtype="<U16",
    )
    if n_cells > n_excitatory:
        subclass[-1] = "Serpinf1"
    label = np.array([str(rng.choice(SUBTYPES[name])) if name in SUBTYPES else name for name in subclass])
    is_untyped = (rng.random(n_cells) < simulation.untyped) & (subclass != "EC") & (subclass != "Serpinf1")
    label[is_untyped] = "IN"
    unique_id = rng.permutation(np.arange(1, n_cells + 1)).astype(float)
    unique_id[(subclass == "EC") | is_untyped | (rng.random(n_cells) < 0.05)] = np.nan
    weights = np.array([TUNING[name] for name in subclass])
    weights = weights + simulation.scatter * rng.standard_normal(weights.shape)
    position = rng.random((n_cells, 3)) * [
        FIELD_OF_VIEW_UM,
        FIELD_OF_VIEW_UM,
        DEPTH_RANGE_UM[1] - DEPTH_RANGE_UM[0],
    ] + [0, 0, DEPTH_RANGE_UM[0]]
    silent = np.zeros(n_cells, dtype=bool)
    silent[0] = True
    return MouseCells(label, unique_id, weights, position, silent).select(rng.permutation(n_cells))


def draw_activity(
    simulation: BugeonSimulation, cells: MouseCells, behavior: SimulatedBehavior, rng: np.random.Generator
) -> np.ndarray:
    """Draws the fluorescence of a run.

    The shared fluctuation is larger while the cortex is synchronised. The drive of a cell, which includes a private
    fluctuation, passes a model of the calcium indicator; then recording noise is added.

    Returns:
        (T, N) float32.
    """
    n_frames, n_cells = len(behavior.frame_times), len(cells.label)
    frame_rate_hz = 1 / FRAME_S
    shared = smooth_noise(n_frames, 0.5, rng, frame_rate_hz) * np.where(behavior.state == SYNCHRONISED, 1.5, 0.6)
    slow = smooth_noise(n_frames, 20.0, rng, frame_rate_hz)
    factors = np.column_stack([behavior.factors, zscore(shared), slow])
    assert factors.shape[1] == len(FACTORS)
    private = np.stack([smooth_noise(n_frames, 0.3, rng, frame_rate_hz) for _ in range(n_cells)], axis=1)
    drive = simulation.gain * factors @ cells.weights.T + private
    decay = np.exp(-FRAME_S / simulation.decay_s) if simulation.decay_s else 0.0
    activity = lfilter([1 - decay], [1.0, -decay], np.logaddexp(0.0, 1.5 * drive), axis=0)
    activity += simulation.noise * 0.3 * rng.standard_normal(activity.shape)
    activity[:, cells.silent] = 0.0
    fluorescence: np.ndarray = activity.astype(np.float32)
    return fluorescence
