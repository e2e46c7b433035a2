"""One animal's electrodes: how units are tuned to its latents, and what each electrode picks up of them."""

from dataclasses import dataclass

import numpy as np

from blend_pl.data.lfp.simulation.latents import N_LATENTS
from blend_pl.data.lfp.simulation.parameters import SessionsSimulation

N_SHARED = 4
"""Rhythms and slow activity that electrodes share."""

REACH = 0.35
"""Electrodes so close to each other, in sides of the array, pick up much the same."""


@dataclass(frozen=True)
class Animal:
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

    def on_a_day(self, change: float, rng: np.random.Generator) -> "Animal":
        """The same electrodes, a share `change` of whose variance is drawn anew."""
        keep, new = np.sqrt(1 - change), np.sqrt(change)

        def drifted(values: np.ndarray) -> np.ndarray:
            return keep * values + new * values.std() * rng.standard_normal(values.shape)

        return Animal(_unit(drifted(self.tuning)), self.log_rate, drifted(self.mixing), drifted(self.shared))


def draw_animal(simulation: SessionsSimulation, rng: np.random.Generator) -> Animal:
    """An animal with as many units and electrodes as any of its sessions can have."""
    n_units, n_channels = simulation.n_units[1], simulation.n_channels[1]
    # Latents are turned at random; animals differ in it.
    turn = np.linalg.qr(rng.standard_normal((N_LATENTS, N_LATENTS)))[0]
    place = rng.random((n_channels, 2))
    return Animal(
        tuning=turn @ _unit(rng.standard_normal((N_LATENTS, n_units))),
        log_rate=0.4 * rng.standard_normal(n_units),
        mixing=turn @ _smooth(N_LATENTS, place, rng),
        shared=_smooth(N_SHARED, place, rng),
    )


def _smooth(n: int, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, channels) of variance 1: random fields over the array."""
    squares = ((place[:, None] - place) ** 2).sum(-1)
    factor = np.linalg.cholesky(np.exp(-squares / (2 * REACH**2)) + 1e-6 * np.eye(len(place)))
    return rng.standard_normal((n, len(place))) @ factor.T


def _unit(columns: np.ndarray) -> np.ndarray:
    return columns / np.linalg.norm(columns, axis=0)
