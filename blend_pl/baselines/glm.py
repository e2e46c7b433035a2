"""Regressions from the state of one population to the counts of another."""

from collections.abc import Callable

import numpy as np

from blend_pl.data.standardize import Standardizer

LOG_OFFSET = 2.0
"""Multiple of its unit's mean that is added to a state before the logarithm is taken, which is unbounded at zero."""

MIN_RATE_FRACTION = 0.1
"""A predicted rate is at least this share of its unit's mean: a line may fall below zero, a rate may not."""

SILENT_UNIT_SPIKES = 0.5
"""Spikes that a unit without any is taken to have fired in all of its bins."""

MIN_STATE_STD = 1e-9
"""A state with a standard deviation up to this is constant: rounding of the mean alone is not a deviation."""

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
    standardizer = _fit_standardizer(states, bins)
    model = Ridge(penalty * float(bins.sum())).fit(standardizer.transform(states), counts, bins)
    return lambda new_states: np.maximum(
        model.predict(standardizer.transform(new_states)).reshape(len(new_states), -1), MIN_RATE_FRACTION * mean
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
    standardizer = _fit_standardizer(np.log(states + offset), bins)
    inputs, counts, weight = standardizer.transform(np.log(states[nonempty] + offset)), counts[nonempty], bins[nonempty]
    models = [
        PoissonRegressor(alpha=penalty * unit_mean, solver="newton-cholesky").fit(inputs, unit_counts, weight)
        if unit_counts.any()
        else None
        for unit_counts, unit_mean in zip(counts.T, mean, strict=True)
    ]

    def predict(new_states: np.ndarray) -> np.ndarray:
        inputs = standardizer.transform(np.log(new_states + offset))
        rates = np.empty((len(new_states), len(models)))
        for unit, model in enumerate(models):
            rates[:, unit] = mean[unit] if model is None else model.predict(inputs)
        return rates

    return predict


def _mean_counts(counts: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """(M,) mean count per bin of each unit, above zero."""
    return np.maximum(bins @ counts, SILENT_UNIT_SPIKES) / bins.sum()


def _fit_standardizer(states: np.ndarray, bins: np.ndarray) -> Standardizer[np.ndarray]:
    return Standardizer.fit(states, bins, rtol=0.0, atol=MIN_STATE_STD)
