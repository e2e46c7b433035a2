import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from blend_pl.models.layers.priors import AutoregressivePrior, gaussian_kl_divergence


@given(
    mean=st.floats(-3, 3),
    log_variance=st.floats(-4, 4),
    prior_mean=st.floats(-3, 3),
    prior_log_variance=st.floats(-4, 4),
)
def test_kl_divergence_equals_torch(
    mean: float, log_variance: float, prior_mean: float, prior_log_variance: float
) -> None:
    values = [torch.tensor(x, dtype=torch.double) for x in (mean, log_variance, prior_mean, prior_log_variance)]
    posterior, prior = Normal(values[0], (values[1] / 2).exp()), Normal(values[2], (values[3] / 2).exp())
    expected = kl_divergence(posterior, prior)
    torch.testing.assert_close(gaussian_kl_divergence(*values), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("tau", [0.5, 10.0, 1e6])
def test_autoregressive_divergence_sums_over_bins(tau: float) -> None:
    torch.manual_seed(0)
    prior = AutoregressivePrior(2, tau, 0.3).double()
    mean, log_variance, sample = torch.randn(3, 4, 6, 2, dtype=torch.double)
    memory, spread = math.exp(-1 / tau), math.sqrt(0.3)
    first = Normal(0.0, math.sqrt(0.3 / (1 - memory**2)))
    posteriors = [Normal(mean[:, t], (log_variance[:, t] / 2).exp()) for t in range(6)]
    expected = kl_divergence(posteriors[0], first).sum(-1)
    for t in range(1, 6):
        expected = expected + kl_divergence(posteriors[t], Normal(memory * sample[:, t - 1], spread)).sum(-1)
    torch.testing.assert_close(prior.kl_divergence(mean, log_variance, sample), expected, atol=1e-4, rtol=1e-4)


def test_expected_divergence_equals_divergence_of_sequence() -> None:
    torch.manual_seed(0)
    prior, bins, draws = AutoregressivePrior(1, 3.0, 0.5).double(), 4, 200_000
    mean, log_variance = torch.randn(2, 1, bins, 1, dtype=torch.double)
    lag = (torch.arange(bins)[:, None] - torch.arange(bins)).abs()
    covariance = 0.5 / (1 - math.exp(-2 / 3)) * math.exp(-1 / 3) ** lag.double()
    joint = MultivariateNormal(torch.zeros(bins, dtype=torch.double), covariance)
    posterior = MultivariateNormal(mean.flatten(), log_variance.exp().flatten().diag())
    samples = mean + (log_variance / 2).exp() * torch.randn(draws, bins, 1, dtype=torch.double)
    estimate = prior.kl_divergence(mean.expand(draws, -1, -1), log_variance.expand(draws, -1, -1), samples).mean()
    assert estimate.item() == pytest.approx(kl_divergence(posterior, joint).item(), rel=0.01)


def test_divergence_of_prior_is_zero() -> None:
    prior = AutoregressivePrior(3)
    sample = torch.randn(2, 1, 3)
    stationary = math.log(0.1 / (1 - math.exp(-0.2)))
    cost = prior.kl_divergence(torch.zeros(2, 1, 3), torch.full((2, 1, 3), stationary), sample)
    torch.testing.assert_close(cost, torch.zeros(2), atol=1e-5, rtol=0)


def test_forecast_is_prior_mean() -> None:
    prior = AutoregressivePrior(2, 4.0)
    last = torch.tensor([[1.0, -2.0]])
    expected = torch.stack([last * math.exp(-k / 4) for k in range(1, 4)], 1)
    torch.testing.assert_close(prior.forecast(last, 3), expected)
    assert prior.forecast(last, 0).shape == (1, 0, 2)
