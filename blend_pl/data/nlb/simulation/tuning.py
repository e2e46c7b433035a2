"""Log rates of simulated units, given the latents of the population."""

import numpy as np

from blend_pl.data.nlb.simulation.parameters import BIN_MS

N_BEHAVIORAL = 10
"""Number of latents that behavior reveals; they come first."""

LOG_LINEAR, SATURATING, MIXED = range(3)
"""Kinds of units.

With the drive x, a weighted sum of the latents, and its parts b and p of behavioral and private latents, the log rate
changes by x (log-linear), by log(2 / (1 + exp(-3 x))), which is limited for large x (saturating), or by x + 2 b p, so
that private latents change the tuning to behavior (mixed selectivity).
"""

_SATURATION_SLOPE = 3.0
_INTERACTION = 2.0


def draw_tuning(kind: str, n_units: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the kinds of units.

    Args:
        kind: "log_linear", or "nonlinear" for as many units of each kind.
        n_units: N.
        rng: source of the draw, used for "nonlinear" only.

    Returns:
        (N,) int8.
    """
    if kind == "log_linear":
        return np.full(n_units, LOG_LINEAR, dtype=np.int8)
    return rng.permutation(np.arange(n_units) % 3).astype(np.int8)


def log_rates(latents: np.ndarray, weights: np.ndarray, log_base: np.ndarray, tuning: np.ndarray) -> np.ndarray:
    """Returns the log rates of units.

    Args:
        latents: (..., L) latents, the behavioral ones first.
        weights: (L, N) weights.
        log_base: (N,) log rate for latents of zero.
        tuning: (N,) kinds of the units.

    Returns:
        (..., N) log of the rates, in the unit of `log_base`, before the upper limit.
    """
    log_rate = latents @ weights
    if (tuning == SATURATING).any():
        saturated = np.log(2) - np.logaddexp(0, -_SATURATION_SLOPE * log_rate[..., tuning == SATURATING])
        log_rate[..., tuning == SATURATING] = saturated
    if (tuning == MIXED).any():
        mixed_weights = weights[:, tuning == MIXED]
        behavioral = latents[..., :N_BEHAVIORAL] @ mixed_weights[:N_BEHAVIORAL]
        private = latents[..., N_BEHAVIORAL:] @ mixed_weights[N_BEHAVIORAL:]
        log_rate[..., tuning == MIXED] += _INTERACTION * behavioral * private
    shifted: np.ndarray = log_rate + log_base
    return shifted


def limited_rates(
    latents: np.ndarray, weights: np.ndarray, log_base: np.ndarray, tuning: np.ndarray, max_rate_hz: float
) -> np.ndarray:
    """Returns the (..., N) rates in Hz, at most `max_rate_hz`, of log rates in log Hz; see `log_rates`."""
    log_rate = log_rates(latents, weights, log_base, tuning)
    rates_hz: np.ndarray = np.exp(np.minimum(log_rate, np.float32(np.log(max_rate_hz))))
    return rates_hz


def expected_counts(rates_hz: np.ndarray, bin_ms: int) -> np.ndarray:
    """Returns the (trials, T, N) expected counts per bin, for rates (trials, bins of `BIN_MS`, N) in Hz."""
    substeps = bin_ms // BIN_MS
    trials, _, n_units = rates_hz.shape
    counts: np.ndarray = rates_hz.reshape(trials, -1, substeps, n_units).sum(axis=2) * np.float32(BIN_MS / 1000)
    return counts
