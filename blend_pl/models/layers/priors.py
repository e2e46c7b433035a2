"""Gaussian priors of LFADS, and divergences from them in nats."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gaussian_kl_divergence(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor
) -> Tensor:
    """Returns KL(N(mean, variance) || N(prior mean, prior variance)) of each entry; the arguments are broadcast."""
    log_variance_ratio = log_variance - prior_log_variance
    distance = (mean - prior_mean).square() * (-prior_log_variance).exp()
    return 0.5 * (log_variance_ratio.exp() + distance - 1 - log_variance_ratio)


class AutoregressivePrior(nn.Module):
    """u_t ~ N(a u_{t-1}, s^2) in each dimension, stationary from the first bin (LFADS, Methods).

    a = exp(-1 / tau); tau and s^2 are learned.

    Args:
        size: number of dimensions.
        tau: initial autocorrelation time, in bins.
        variance: initial s^2.
    """

    def __init__(self, size: int, tau: float = 10.0, variance: float = 0.1) -> None:
        super().__init__()
        self.log_tau = nn.Parameter(torch.full((size,), tau).log())
        self.log_variance = nn.Parameter(torch.full((size,), variance).log())

    def ar_coefficient(self) -> Tensor:
        """Returns a, (size,)."""
        return (-(-self.log_tau).exp()).exp()

    def kl_divergence(self, mean: Tensor, log_variance: Tensor, sample: Tensor) -> Tensor:
        """Returns the KL divergence of the posteriors from the prior.

        The divergence of a bin is exact given the sample of the previous bin; in expectation over samples, the sum is
        the divergence of the whole sequence.

        Args:
            mean: (B, T, size), posterior means.
            log_variance: (B, T, size), posterior log-variances.
            sample: (B, T, size), samples from the posteriors.

        Returns:
            (B,) nats, summed over bins and dimensions.
        """
        coefficient = self.ar_coefficient()
        expected = F.pad(sample[:, :-1] * coefficient, (0, 0, 1, 0))
        # -expm1(-2 / tau) equals 1 - a^2 and does not round to 0 for large tau.
        stationary_log_variance = self.log_variance - (-torch.expm1(-2 * (-self.log_tau).exp())).log()
        innovation_log_variance = self.log_variance.expand(sample.shape[1] - 1, -1)
        return gaussian_kl_divergence(
            mean, log_variance, expected, torch.cat([stationary_log_variance[None], innovation_log_variance])
        ).sum((1, 2))

    def forecast(self, last_sample: Tensor, bins: int) -> Tensor:
        """Returns expected values of the next bins, (B, bins, size): the last sample (B, size) times a^1 .. a^bins."""
        lag = torch.arange(1, bins + 1, device=last_sample.device, dtype=last_sample.dtype)
        return last_sample[:, None] * self.ar_coefficient() ** lag[:, None]
