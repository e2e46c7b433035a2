import math

import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Normal

from blend_pl.errors import ConfigError
from blend_pl.likelihoods import Gaussian, Likelihood, Poisson, UnitGaussian


def test_poisson_loss_equals_torch() -> None:
    log_rate, counts = torch.randn(4, 5, 6), torch.randint(0, 5, (4, 5, 6)).float()
    expected = torch.nn.functional.poisson_nll_loss(log_rate, counts, log_input=True, full=False, reduction="none")
    torch.testing.assert_close(Poisson().loss(log_rate, counts), expected)


def test_poisson_loss_is_minimal_at_mean() -> None:
    counts = torch.tensor([0.0, 1.0, 3.0, 2.0])
    prediction = torch.full((4,), 0.1, requires_grad=True)
    optimizer = torch.optim.SGD([prediction], 0.1)
    common = torch.zeros(4)
    for _ in range(300):
        optimizer.zero_grad()
        Poisson().loss(prediction.mean() + common, counts).mean().backward()
        optimizer.step()
    torch.testing.assert_close(Poisson().mean(prediction.mean().detach()), counts.mean(), atol=1e-4, rtol=0)


def test_random_counts_are_between_zero_and_largest_count() -> None:
    observed = torch.randint(0, 4, (5, 30, 20)).float()
    noise = Poisson().noise(torch.rand(observed.shape), observed)
    assert torch.equal(noise, noise.floor())
    assert (noise.amin((1, 2)) == 0).all()
    assert torch.equal(noise.amax((1, 2)), observed.amax((1, 2)))


def test_gaussian_loss_equals_torch() -> None:
    mean, target, log_variance = torch.randn(3, 4, 5, 6).unbind()
    expected = -Normal(mean, (0.5 * log_variance).exp()).log_prob(target) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(Gaussian().loss(mean, target, log_variance), expected)


def test_squared_error_is_twice_gaussian_loss_of_unit_variance() -> None:
    mean, target = torch.randn(2, 4, 5, 6).unbind()
    expected = 2 * Gaussian().loss(mean, target, torch.zeros_like(mean))
    torch.testing.assert_close(UnitGaussian().loss(mean, target), expected)
    assert torch.equal(UnitGaussian().mean(mean), mean)


def test_gaussian_loss_without_variance_raises() -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone\.variance"):
        Gaussian().loss(torch.zeros(2), torch.zeros(2))


def test_random_activity_is_standard_normal() -> None:
    level = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    noise = UnitGaussian().noise(torch.cat([level, torch.tensor([0.0, 1.0])]), torch.empty(0))
    assert noise.isfinite().all()
    assert kstest(noise.numpy(), "norm").pvalue > 0.01


@pytest.mark.parametrize("likelihood", [Poisson(), UnitGaussian(), Gaussian()])
def test_prediction_inverts_the_mean(likelihood: Likelihood) -> None:
    mean = torch.tensor([0.001, 0.5, 3.0])
    torch.testing.assert_close(likelihood.mean(likelihood.prediction(mean)), mean)


def test_log_rate_of_a_silent_neuron_is_finite() -> None:
    assert Poisson().prediction(torch.zeros(1)).isfinite().all()


@pytest.mark.parametrize("likelihood", [Poisson(), UnitGaussian()])
def test_average_leaves_out_missing_predictions(likelihood: Likelihood) -> None:
    predictions = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    some = predictions.clone()
    some[1, 0] = torch.nan
    some[:, 1] = torch.nan
    average = likelihood.average(some)
    torch.testing.assert_close(average[0], likelihood.average(predictions[[0, 2], 0]))
    assert average[1].isnan().all()
    torch.testing.assert_close(average[2:], likelihood.average(predictions[:, 2:]))


def test_average_has_the_mean_rate() -> None:
    predictions = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Poisson().average(predictions).exp(), predictions.exp().mean(0))
