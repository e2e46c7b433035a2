"""Regressions from the state of one population to the counts of another."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LOG_OFFSET = 2.0
"""Multiple of its unit's mean that is added to a state before the logarithm is taken, which is unbounded at zero."""

MIN_RATE_FRACTION = 0.1
"""A predicted rate is at least this share of its unit's mean: a line may fall below zero, a rate may not."""

SILENT_UNIT_SPIKES = 0.5
"""Spikes that a unit without any is taken to have fired in all of its bins."""

PredictFunction = Callable[[np.ndarray], np.ndarray]
"""States (R, C) to expected counts (R, M)."""

FitFunction = Callable[[np.ndarray, np.ndarray, np.ndarray, float], PredictFunction]
"""States (R, C), mean counts (R, M), the numbers of bins (R,) that these are means of, and a penalty, to `PredictFunction`."""


def fit_linear(states: np.ndarray, counts: np.ndarray, bins: np.ndarray, penalty: float) -> PredictFunction:
    """Ridge regression of the counts on the states, as in the smoothing baseline of NLB'21 (Pei et al., 2021).

    Args:
        states: (R, C) smoothed counts.
        counts: (R, M) mean counts per bin.
        bins: (R,) bins that a row is the mean of; rows of 0 are left out.
        penalty: of the squared weights of standardised states, against the mean squared error.
    """
    from sklearn.linear_model import Ridge

    mean = _mean_counts(counts, bins)
    standardize = _Standardizer.fit(states, bins)
    model = Ridge(penalty * float(bins.sum())).fit(standardize(states), counts, bins)
    return lambda new_states: np.maximum(
        model.predict(standardize(new_states)).reshape(len(new_states), -1), MIN_RATE_FRACTION * mean
    )


def fit_poisson(states: np.ndarray, counts: np.ndarray, bins: np.ndarray, penalty: float) -> PredictFunction:
    """Poisson regression with a logarithmic link, unit by unit, on the logarithm of the states.

    Args:
        states: (R, C) smoothed counts.
        counts: (R, M) mean counts per bin.
        bins: (R,) bins that a row is the mean of; rows of 0 are left out.
        penalty: of the squared weights of standardised log-states, against the mean log-likelihood per spike, so that
            it means the same for all rates and bin widths.
    """
    from sklearn.linear_model import PoissonRegressor

    mean = _mean_counts(counts, bins)
    nonempty = bins > 0
    offset = LOG_OFFSET * _mean_counts(states, bins)
    standardize = _Standardizer.fit(np.log(states + offset), bins)
    inputs, counts, weight = standardize(np.log(states[nonempty] + offset)), counts[nonempty], bins[nonempty]
    models = [
        PoissonRegressor(alpha=penalty * unit_mean, solver="newton-cholesky").fit(inputs, unit_counts, weight)
        if unit_counts.any()
        else None
        for unit_counts, unit_mean in zip(counts.T, mean, strict=True)
    ]

    def predict(new_states: np.ndarray) -> np.ndarray:
        inputs = standardize(np.log(new_states + offset))
        rates = np.empty((len(new_states), len(models)))
        for unit, model in enumerate(models):
            rates[:, unit] = mean[unit] if model is None else model.predict(inputs)
        return rates

    return predict


def _mean_counts(counts: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """(M,) mean count per bin of each unit, above zero."""
    return np.maximum(bins @ counts, SILENT_UNIT_SPIKES) / bins.sum()


@dataclass(frozen=True)
class _Standardizer:
    """z-score of the states, (C,) mean and standard deviation over the bins that are fitted."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, states: np.ndarray, bins: np.ndarray) -> "_Standardizer":
        mean = np.average(states, axis=0, weights=bins)
        std = np.sqrt(np.average((states - mean) ** 2, axis=0, weights=bins))
        # Rounding of the mean alone must not pass for a deviation.
        return cls(mean, np.where(std > 1e-9, std, 1.0))

    def __call__(self, states: np.ndarray) -> np.ndarray:
        return (states - self.mean) / self.std
