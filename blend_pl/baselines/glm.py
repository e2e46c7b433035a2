"""Regressions from smoothed counts of some units to the counts of others."""

from collections.abc import Callable

import numpy as np

from blend_pl.data.standardize import Standardizer

LOG_OFFSET = 2.0
"""A multiple of the unit's mean is added to a state before the logarithm, which diverges at zero."""

MIN_RATE_FRACTION = 0.1
"""Minimum of a predicted rate as a fraction of the unit's mean; linear predictions can be negative."""

SILENT_UNIT_SPIKES = 0.5
"""Number of spikes in all bins that is assumed for a unit without spikes."""

MIN_STATE_STD = 1e-9
"""A state with a standard deviation up to this is constant: rounding of the mean alone is not a deviation."""

PredictFunction = Callable[[np.ndarray], np.ndarray]
"""Maps states (R, C) to expected counts (R, M)."""

FitFunction = Callable[[np.ndarray, np.ndarray, np.ndarray, float], PredictFunction]
"""Fits a `PredictFunction` to states (R, C), mean counts (R, M) over numbers of bins (R,), with a penalty."""


def fit_linear(states: np.ndarray, counts: np.ndarray, bins: np.ndarray, penalty: float) -> PredictFunction:
    """Fits a ridge regression of the counts on the states (smoothing baseline of NLB'21, Pei et al., 2021).

    Args:
        states: (R, C) smoothed counts.
        counts: (R, M) mean counts per bin.
        bins: (R,) number of bins that a row is the mean of; rows with 0 bins are ignored.
        penalty: weight of the squared coefficients of standardized states, relative to the mean squared error.
    """
    from sklearn.linear_model import Ridge

    mean = _mean_counts(counts, bins)
    standardizer = _fit_standardizer(states, bins)
    model = Ridge(penalty * float(bins.sum())).fit(standardizer.transform(states), counts, bins)
    return lambda new_states: np.maximum(
        model.predict(standardizer.transform(new_states)).reshape(len(new_states), -1), MIN_RATE_FRACTION * mean
    )


def fit_poisson(states: np.ndarray, counts: np.ndarray, bins: np.ndarray, penalty: float) -> PredictFunction:
    """Fits a Poisson regression with a log link for each unit on the logarithm of the states.

    Args:
        states: (R, C) smoothed counts.
        counts: (R, M) mean counts per bin.
        bins: (R,) number of bins that a row is the mean of; rows with 0 bins are ignored.
        penalty: weight of the squared coefficients of standardized log-states, relative to the mean log-likelihood per
            spike, which makes it independent of rates and bin widths.
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
    """Returns the (M,) mean count per bin of each unit, which is positive."""
    means: np.ndarray = np.maximum(bins @ counts, SILENT_UNIT_SPIKES) / bins.sum()
    return means


def _fit_standardizer(states: np.ndarray, bins: np.ndarray) -> Standardizer[np.ndarray]:
    return Standardizer.fit(states, bins, rtol=0.0, atol=MIN_STATE_STD)
