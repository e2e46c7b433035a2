"""Link, loss and mean of each observation model in one place."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from blend_pl.errors import ConfigError


class Likelihood(ABC):
    """How a prediction, in natural parameters, explains the target."""

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of every entry, up to a constant of the target; nats.

        Args:
            prediction: natural parameter of every entry.
            target: what was recorded, same shape.
            log_variance: same shape, for models that say how certain they are; others leave it unread.
        """

    @abstractmethod
    def mean(self, prediction: Tensor) -> Tensor:
        """Expected value of every entry."""

    @abstractmethod
    def average(self, predictions: Tensor) -> Tensor:
        """The prediction whose mean is the average of the means of (K, ...) predictions."""

    @abstractmethod
    def noise(self, uniform: Tensor, observed: Tensor) -> Tensor:
        """Entries that mean nothing but look like observed ones, to put in the place of hidden ones.

        Args:
            uniform: (B, T, C) uniform between 0 and 1.
            observed: (B, T, C) what was observed.
        """


class Poisson(Likelihood):
    """Spike counts; the prediction is the log of the expected count per bin."""

    def loss(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        return prediction.exp() - target * prediction

    def mean(self, prediction: Tensor) -> Tensor:
        return prediction.exp()

    def average(self, predictions: Tensor) -> Tensor:
        return predictions.logsumexp(0) - math.log(len(predictions))

    def noise(self, uniform: Tensor, observed: Tensor) -> Tensor:
        """Counts between 0 and the trial's largest one."""
        return (uniform * (observed.amax((1, 2), keepdim=True) + 1)).floor()


class UnitGaussian(Likelihood):
    """z-scored activity with an unknown but equal variance; the prediction is the mean.

    The loss is the squared error, of which the negative log-likelihood is a multiple.
    """

    def loss(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        return (prediction - target).square()

    def mean(self, prediction: Tensor) -> Tensor:
        return prediction

    def average(self, predictions: Tensor) -> Tensor:
        return predictions.mean(0)

    def noise(self, uniform: Tensor, observed: Tensor) -> Tensor:
        """Standard normal values."""
        quantiles: Tensor = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
        return quantiles


class Gaussian(UnitGaussian):
    """Activity with a variance that the model predicts; the prediction is the mean."""

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
