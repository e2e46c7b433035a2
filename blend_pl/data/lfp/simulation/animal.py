"""One animal's electrodes: how units are tuned to its latents, and what each electrode picks up of them."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.lfp.simulation.latents import N_LATENTS
from blend_pl.data.lfp.simulation.parameters import LFPSimulation

N_SHARED_SOURCES = 4
"""Rhythms and slow activity that electrodes share."""

CORRELATION_LENGTH = 0.35
"""Electrodes so close to each other, in sides of the array, pick up much the same."""


@dataclass(frozen=True)
class ElectrodeArray:
    """What stays from day to day; one row or column for each unit and electrode it can have.

    Attributes:
        tuning: (N_LATENTS, units), of length 1 each.
        log_rate: (units,) log of the mean rate relative to that of all.
        mixing: (N_LATENTS, channels) of latents into field potentials, smooth over the array.
        shared: (N_SHARED, channels) of shared activity, smooth over the array.
    """

    tuning: np.ndarray
    log_rate: np.ndarray
    mixing: np.ndarray
    shared: np.ndarray

    def with_drift(self, drift_fraction: float, rng: np.random.Generator) -> "ElectrodeArray":
        """The same electrodes, a share `drift_fraction` of whose variance is drawn anew."""
        old_weight, new_weight = np.sqrt(1 - drift_fraction), np.sqrt(drift_fraction)

        def mix_with_noise(values: np.ndarray) -> np.ndarray:
            return old_weight * values + new_weight * values.std() * rng.standard_normal(values.shape)

        return ElectrodeArray(
            _unit_norm(mix_with_noise(self.tuning)),
            self.log_rate,
            mix_with_noise(self.mixing),
            mix_with_noise(self.shared),
        )


def draw_electrode_array(simulation: LFPSimulation, rng: np.random.Generator) -> ElectrodeArray:
    """An animal with as many units and electrodes as any of its sessions can have."""
    n_units, n_channels = simulation.n_units[1], simulation.n_channels[1]
    # Latents are turned at random; animals differ in it.
    rotation = np.linalg.qr(rng.standard_normal((N_LATENTS, N_LATENTS)))[0]
    positions = rng.random((n_channels, 2))
    return ElectrodeArray(
        tuning=rotation @ _unit_norm(rng.standard_normal((N_LATENTS, n_units))),
        log_rate=0.4 * rng.standard_normal(n_units),
        mixing=rotation @ _smooth_fields(N_LATENTS, positions, rng),
        shared=_smooth_fields(N_SHARED_SOURCES, positions, rng),
    )


def _smooth_fields(n: int, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, channels) of variance 1: random fields over the array."""
    squared_distances = ((positions[:, None] - positions) ** 2).sum(-1)
    cholesky_factor = np.linalg.cholesky(
        np.exp(-squared_distances / (2 * CORRELATION_LENGTH**2)) + 1e-6 * np.eye(len(positions))
    )
    return rng.standard_normal((n, len(positions))) @ cholesky_factor.T


def _unit_norm(columns: np.ndarray) -> np.ndarray:
    return columns / np.linalg.norm(columns, axis=0)
