"""Observation models: loss, mean and noise of predictions in natural parameters."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from blend_pl.errors import ConfigError

MIN_COUNT = 1e-4
"""Smallest expected count per bin whose log is taken."""


class Likelihood(ABC):
    """Base class of observation models; a prediction is the natural parameter of each entry."""

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        """Returns the negative log-likelihood of each entry in nats, up to a term that depends only on the target.

        Args:
            prediction: natural parameter of each entry.
            target: recorded values, same shape.
            log_variance: predicted log-variance, same shape; only used by `Gaussian`.
        """

    @abstractmethod
    def mean(self, prediction: Tensor) -> Tensor:
        """Returns the expected value of each entry."""

    @abstractmethod
    def prediction(self, mean: Tensor) -> Tensor:
        """Returns the prediction that has an expected value; the inverse of `mean`."""

    @abstractmethod
    def average(self, predictions: Tensor) -> Tensor:
        """Returns the prediction that has the average mean of K predictions, (K, ...), without those that are NaN."""

    @abstractmethod
    def noise(self, uniform: Tensor, observed: Tensor) -> Tensor:
        """Returns random values with which masked entries are replaced, in the range of observed values.

        Args:
            uniform: (B, T, C) uniform numbers between 0 and 1.
            observed: (B, T, C) observed values.
        """


class Poisson(Likelihood):
    """Spike counts; the prediction is the log of the expected count per bin.

    Example:
        >>> log_rates = torch.tensor([0.5, 2.0]).log()
        >>> Poisson().mean(log_rates)
        tensor([0.5000, 2.0000])
        >>> Poisson().loss(log_rates, torch.tensor([0.0, 2.0]))
        tensor([0.5000, 0.6137])
    """

    def loss(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        return prediction.exp() - target * prediction

    def mean(self, prediction: Tensor) -> Tensor:
        return prediction.exp()

    def prediction(self, mean: Tensor) -> Tensor:
        """Returns the log of the expected count; that of a silent neuron is finite."""
        return mean.clamp(min=MIN_COUNT).log()

    def average(self, predictions: Tensor) -> Tensor:
        missing = predictions.isnan()
        return predictions.where(~missing, -torch.inf).logsumexp(0) - (~missing).sum(0).log()

    def noise(self, uniform: Tensor, observed: Tensor) -> Tensor:
        """Returns uniform counts between 0 and the largest count of the trial."""
        return (uniform * (observed.amax((1, 2), keepdim=True) + 1)).floor()


class UnitGaussian(Likelihood):
    """z-scored activity with an unknown constant variance; the prediction is the mean.

    The loss is the squared error, to which the negative log-likelihood is proportional.
    """

    def loss(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        return (prediction - target).square()

    def mean(self, prediction: Tensor) -> Tensor:
        return prediction

    def prediction(self, mean: Tensor) -> Tensor:
        return mean

    def average(self, predictions: Tensor) -> Tensor:
        return predictions.nanmean(0)

    def noise(self, uniform: Tensor, observed: Tensor) -> Tensor:
        """Returns standard normal values."""
        quantiles: Tensor = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
        return quantiles


class Gaussian(UnitGaussian):
    """Activity with a predicted variance; the prediction is the mean."""

    def loss(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        """See `Likelihood.loss`.

        Raises:
            ConfigError: the model predicts no variance.
        """
        if log_variance is None:
            raise ConfigError(
                "likelihoods.Gaussian needs a model that predicts variances; set model.backbone.variance to true, or "
                "choose likelihoods.UnitGaussian"
            )
        return 0.5 * (log_variance + (prediction - target).square() * (-log_variance).exp())
