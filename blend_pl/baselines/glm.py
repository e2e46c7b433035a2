"""Regressions from smoothed counts of some units to the counts of others."""

from collections.abc import Callable

import numpy as np

from blend_pl.data.standardize import Standardizer

LOG_OFFSET = 2.0
"""Offset added to an input before the logarithm, as a multiple of the input's mean; the logarithm diverges at zero."""

MIN_RATE_FRACTION = 0.1
"""Lower bound of a predicted rate, as a fraction of the unit's mean count; linear predictions can be negative."""

SILENT_UNIT_SPIKES = 0.5
"""Lower bound of a unit's total count, so that the mean count of a silent unit is positive."""

MIN_INPUT_STD = 1e-9
"""Inputs with at most this standard deviation are treated as constant: it may be a rounding error of the mean."""

PredictFunction = Callable[[np.ndarray], np.ndarray]
"""Maps inputs (R, C) to expected counts (R, M)."""

FitFunction = Callable[[np.ndarray, np.ndarray, np.ndarray, float], PredictFunction]
"""Fits a `PredictFunction` to inputs (R, C), mean counts per bin (R, M), bins per row (R,) and a penalty."""


def fit_ridge(inputs: np.ndarray, counts: np.ndarray, bins_per_row: np.ndarray, penalty: float) -> PredictFunction:
    """Fits a ridge regression of the counts on the inputs (smoothing baseline of NLB'21, Pei et al., 2021).

    Args:
        inputs: (R, C) smoothed counts.
        counts: (R, M) mean counts per bin.
        bins_per_row: (R,) number of bins averaged in each row; rows with 0 bins are ignored.
        penalty: weight of the squared coefficients of standardized inputs, relative to the mean squared error.
    """
    from sklearn.linear_model import Ridge

    mean = _mean_counts(counts, bins_per_row)
    standardizer = _fit_standardizer(inputs, bins_per_row)
    model = Ridge(penalty * float(bins_per_row.sum())).fit(standardizer.transform(inputs), counts, bins_per_row)
    return lambda new_inputs: np.maximum(
        model.predict(standardizer.transform(new_inputs)).reshape(len(new_inputs), -1), MIN_RATE_FRACTION * mean
    )


def fit_poisson(inputs: np.ndarray, counts: np.ndarray, bins_per_row: np.ndarray, penalty: float) -> PredictFunction:
    """Fits a Poisson regression with a log link for each unit on the logarithm of the inputs.

    Args:
        inputs: (R, C) smoothed counts.
        counts: (R, M) mean counts per bin.
        bins_per_row: (R,) number of bins averaged in each row; rows with 0 bins are ignored.
        penalty: weight of the squared coefficients of standardized log-inputs, relative to the mean log-likelihood per
            spike, which makes it independent of rates and bin widths.
    """
    from sklearn.linear_model import PoissonRegressor

    mean = _mean_counts(counts, bins_per_row)
    nonempty = bins_per_row > 0
    offset = LOG_OFFSET * _mean_counts(inputs, bins_per_row)
    standardizer = _fit_standardizer(np.log(inputs + offset), bins_per_row)
    features, counts, weights = (
        standardizer.transform(np.log(inputs[nonempty] + offset)),
        counts[nonempty],
        bins_per_row[nonempty],
    )
    models = [
        PoissonRegressor(alpha=penalty * unit_mean, solver="newton-cholesky").fit(features, unit_counts, weights)
        if unit_counts.any()
        else None
        for unit_counts, unit_mean in zip(counts.T, mean, strict=True)
    ]

    def predict(new_inputs: np.ndarray) -> np.ndarray:
        features = standardizer.transform(np.log(new_inputs + offset))
        rates = np.empty((len(new_inputs), len(models)))
        for unit, model in enumerate(models):
            rates[:, unit] = mean[unit] if model is None else model.predict(features)
        return rates

    return predict


def _mean_counts(counts: np.ndarray, bins_per_row: np.ndarray) -> np.ndarray:
    """Returns the (M,) mean count per bin of each unit, at least `SILENT_UNIT_SPIKES` over all bins."""
    means: np.ndarray = np.maximum(bins_per_row @ counts, SILENT_UNIT_SPIKES) / bins_per_row.sum()
    return means


def _fit_standardizer(inputs: np.ndarray, bins_per_row: np.ndarray) -> Standardizer[np.ndarray]:
    return Standardizer.fit(inputs, bins_per_row, rtol=0.0, atol=MIN_INPUT_STD)
