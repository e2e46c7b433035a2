"""Link, loss and mean of each observation model in one place."""

import math
from abc import ABC, abstractmethod

from torch import Tensor


class Likelihood(ABC):
    """How a prediction, in natural parameters, explains the target."""

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Negative log-likelihood of every entry, up to a constant of the target; nats."""

    @abstractmethod
    def mean(self, prediction: Tensor) -> Tensor:
        """Expected value of every entry."""

    @abstractmethod
    def average(self, predictions: Tensor) -> Tensor:
        """The prediction whose mean is the average of the means of (K, ...) predictions."""


class Poisson(Likelihood):
    """Spike counts; the prediction is the log of the expected count per bin."""

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return prediction.exp() - target * prediction

    def mean(self, prediction: Tensor) -> Tensor:
        return prediction.exp()

    def average(self, predictions: Tensor) -> Tensor:
        return predictions.logsumexp(0) - math.log(len(predictions))
