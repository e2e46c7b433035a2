import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.models.layers.gauss_markov import OrnsteinUhlenbeck, expected_rates

TIME_CONSTANTS = [3.0, 12.0]


def covariance_of(time_constants: list[float], bins: int) -> np.ndarray:
    """Returns the (T K, T K) prior covariance of all latents, bins first."""
    lags = np.abs(np.arange(bins)[:, None] - np.arange(bins))
    covariance = np.zeros((bins, len(time_constants), bins, len(time_constants)))
    for k, time_constant in enumerate(time_constants):
        covariance[:, k, :, k] = np.exp(-lags / time_constant)
    return covariance.reshape(bins * len(time_constants), -1)


@pytest.fixture
def trial() -> dict[str, torch.Tensor]:
    """Counts of 8 of 12 bins and 5 neurons, some unobserved, with loadings and base rates."""
    generator = torch.Generator().manual_seed(0)
    return {
        "counts": torch.poisson(torch.full((3, 8, 5), 2.0), generator=generator),
        "valid": torch.rand(3, 8, 5, generator=generator) < 0.8,
        "log_rates": torch.randn(3, 12, 5, generator=generator) * 0.3,
        "loading": torch.randn(2, 5, generator=generator) * 0.5,
    }


def test_precision_is_the_inverse_of_the_covariance() -> None:
    diagonal, off_diagonal = OrnsteinUhlenbeck(TIME_CONSTANTS, 7).precision()
    inverse = np.linalg.inv(covariance_of(TIME_CONSTANTS, 7)).reshape(7, 2, 7, 2)
    for k in range(2):
        expected = np.diag(diagonal[:, k]) + sum(np.diag([float(off_diagonal[k])] * 6, side) for side in (-1, 1))
        np.testing.assert_allclose(inverse[:, k, :, k], expected, atol=1e-4)


def test_samples_have_the_covariance_of_the_prior() -> None:
    noise = torch.randn(40_000, 5, 2, generator=torch.Generator().manual_seed(0))
    samples = OrnsteinUhlenbeck(TIME_CONSTANTS, 5).sample(noise).flatten(1).numpy()
    np.testing.assert_allclose(np.cov(samples.T), covariance_of(TIME_CONSTANTS, 5), atol=0.03)


def test_posterior_is_a_fixed_point_of_the_evidence_lower_bound(trial: dict[str, torch.Tensor]) -> None:
    processes = OrnsteinUhlenbeck(TIME_CONSTANTS, 12)
    mean, covariance = processes.infer(**trial, iterations=40)
    rates = trial["valid"] * expected_rates(trial["log_rates"][:, :8], mean[:, :8], covariance[:, :8], trial["loading"])
    prior = np.linalg.inv(covariance_of(TIME_CONSTANTS, 12))
    loading = trial["loading"].numpy()
    for row in range(3):
        precision = prior.reshape(12, 2, 12, 2).copy()
        gradient = -(prior @ mean[row].flatten().numpy()).reshape(12, 2)
        for t in range(8):
            precision[t, :, t] += (loading * rates[row, t].numpy()) @ loading.T
            residual = trial["valid"][row, t] * trial["counts"][row, t] - rates[row, t]
            gradient[t] += loading @ residual.numpy()
        np.testing.assert_allclose(gradient, 0, atol=2e-3)
        inverse = np.linalg.inv(precision.reshape(24, 24)).reshape(12, 2, 12, 2)
        expected = np.stack([inverse[t, :, t] for t in range(12)])
        np.testing.assert_allclose(covariance[row].numpy(), expected, atol=1e-3)


def test_unobserved_counts_have_no_effect(trial: dict[str, torch.Tensor]) -> None:
    processes = OrnsteinUhlenbeck(TIME_CONSTANTS, 12)
    other = {**trial, "counts": torch.where(trial["valid"], trial["counts"], 50.0)}
    torch.testing.assert_close(processes.infer(**trial), processes.infer(**other))


def test_without_observations_the_posterior_is_the_prior(trial: dict[str, torch.Tensor]) -> None:
    trial["valid"] = torch.zeros_like(trial["valid"])
    mean, covariance = OrnsteinUhlenbeck(TIME_CONSTANTS, 12).infer(**trial)
    torch.testing.assert_close(mean, torch.zeros_like(mean))
    torch.testing.assert_close(covariance, torch.eye(2).expand_as(covariance), atol=1e-4, rtol=0)


@settings(max_examples=20, deadline=None)
@given(
    log_rate=st.floats(-7, 4),
    scale=st.floats(0, 2),
    time_constant=st.floats(0.3, 500),
    bins=st.integers(1, 30),
    count=st.integers(0, 60),
)
def test_inference_is_finite(log_rate: float, scale: float, time_constant: float, bins: int, count: int) -> None:
    counts = torch.full((2, bins, 4), float(count))
    log_rates = torch.full((2, bins, 4), log_rate)
    loading = scale * torch.randn(3, 4, generator=torch.Generator().manual_seed(bins))
    processes = OrnsteinUhlenbeck([time_constant, 5.0, 40.0], bins)
    mean, covariance = processes.infer(counts, torch.ones_like(counts, dtype=torch.bool), log_rates, loading, 12)
    assert mean.isfinite().all()
    assert covariance.isfinite().all()
    assert (torch.linalg.eigvalsh(covariance) > 0).all()
