"""Simulated electrode array of an animal: tuning of the units and mixing of latents into field potentials."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.lfp.simulation.latents import N_LATENTS
from blend_pl.data.lfp.simulation.parameters import LFPSimulation

N_SHARED_SOURCES = 4
"""Number of rhythms and slow signals that are shared by electrodes."""

CORRELATION_LENGTH = 0.35
"""Distance over which the mixing of electrodes is correlated, in side lengths of the array."""


@dataclass(frozen=True)
class ElectrodeArray:
    """Parameters of an animal's units and channels that are stable across days.

    Attributes:
        tuning: (N_LATENTS, units) weights, columns of norm 1.
        log_rate: (units,) log of a unit's mean rate relative to the average unit.
        mixing: (N_LATENTS, channels) weights of the latents in field potentials, smooth over the array.
        shared: (N_SHARED_SOURCES, channels) weights of shared activity, smooth over the array.
    """

    tuning: np.ndarray
    log_rate: np.ndarray
    mixing: np.ndarray
    shared: np.ndarray

    def with_drift(self, drift_fraction: float, rng: np.random.Generator) -> "ElectrodeArray":
        """Returns a copy with a fraction `drift_fraction` of the variance of its weights redrawn."""
        old_weight, new_weight = np.sqrt(1 - drift_fraction), np.sqrt(drift_fraction)

        def mix_with_noise(values: np.ndarray) -> np.ndarray:
            mixture: np.ndarray = old_weight * values + new_weight * values.std() * rng.standard_normal(values.shape)
            return mixture

        return ElectrodeArray(
            _unit_norm(mix_with_noise(self.tuning)),
            self.log_rate,
            mix_with_noise(self.mixing),
            mix_with_noise(self.shared),
        )


def draw_electrode_array(simulation: LFPSimulation, rng: np.random.Generator) -> ElectrodeArray:
    """Draws an animal's array with the maximum number of units and channels of its sessions."""
    n_units, n_channels = simulation.n_units[1], simulation.n_channels[1]
    # Animals differ in a random rotation of the latents.
    rotation = np.linalg.qr(rng.standard_normal((N_LATENTS, N_LATENTS)))[0]
    positions = rng.random((n_channels, 2))
    return ElectrodeArray(
        tuning=rotation @ _unit_norm(rng.standard_normal((N_LATENTS, n_units))),
        log_rate=0.4 * rng.standard_normal(n_units),
        mixing=rotation @ _smooth_fields(N_LATENTS, positions, rng),
        shared=_smooth_fields(N_SHARED_SOURCES, positions, rng),
    )


def _smooth_fields(n: int, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws (n, channels) random fields of variance 1 over the array."""
    squared_distances = ((positions[:, None] - positions) ** 2).sum(-1)
    cholesky_factor = np.linalg.cholesky(
        np.exp(-squared_distances / (2 * CORRELATION_LENGTH**2)) + 1e-6 * np.eye(len(positions))
    )
    return rng.standard_normal((n, len(positions))) @ cholesky_factor.T


def _unit_norm(columns: np.ndarray) -> np.ndarray:
    unit_columns: np.ndarray = columns / np.linalg.norm(columns, axis=0)
    return unit_columns
