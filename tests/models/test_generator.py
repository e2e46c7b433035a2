import math

import pytest
import torch
from torch import Tensor

from blend_pl.errors import RangeError
from blend_pl.likelihoods import Poisson
from blend_pl.models import Dims, PopulationGenerator
from blend_pl.models.layers.behavior_drive import BehaviorDrive
from blend_pl.models.layers.gauss_markov import expected_rates

DIMS = Dims(channels=5, neurons=7, observed_bins=8, bins=10, context=2)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts of all bins and neurons, and behavior, with masks of what was observed."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((4, 10, 7), 1.5), generator=generator)
    behavior = torch.randn(4, 10, 2, generator=generator)
    valid = torch.rand(4, 10, 7, generator=generator) < torch.tensor([0.9, 0.9, 0.5, 0.1])[:, None, None]
    return counts, valid, behavior, behavior.isfinite()


@pytest.fixture
def model() -> PopulationGenerator:
    torch.manual_seed(0)
    return PopulationGenerator(DIMS, dropout=0.0, iterations=6, ridge=0.03)


def test_training_loss_is_the_evidence_lower_bound(
    model: PopulationGenerator, inputs: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    counts, valid, behavior, behavior_valid = inputs
    model.n_trials.fill_(30.0)  # The prior is that of all training trials.
    encoding = model(*inputs)
    assert model.drive.summary is not None
    log_rates = model.readout(model.drive(behavior, behavior_valid))
    mean, covariance = model.latents.infer(counts, valid, log_rates, model.loading, model.iterations)
    # E[log p(counts | z)] under the posterior, without the log factorial.
    expected = counts * (log_rates + mean @ model.loading) - expected_rates(log_rates, mean, covariance, model.loading)
    bound = (expected * valid).sum() / valid.sum()
    loss = (Poisson().loss(encoding.prediction, counts) * valid).sum() / valid.sum()
    precisions = [(model.readout.weight, 5.0), (model.drive.local.weight, 100.0), (model.drive.summary.weight, 100.0)]
    log_prior = sum(precision * weight.square().sum() / 2 for weight, precision in precisions)
    expected_penalty = 0.03 * model.loading.square().mean() + log_prior / (30 * valid.sum() / 4)
    assert encoding.penalty is not None
    torch.testing.assert_close(loss + encoding.penalty.mean(), expected_penalty - bound)


def test_prior_does_not_depend_on_trials_without_observed_entries(
    inputs: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    counts, valid, behavior, behavior_valid = inputs
    valid = valid.clone()
    valid[:2] = False
    gradients, precisions = [], []
    for rows in (slice(0, 4), slice(2, 4)):
        torch.manual_seed(0)
        model = PopulationGenerator(DIMS, dropout=0.0)
        model.n_trials.fill_(30.0)
        batch = tuple(values[rows] for values in (counts, valid, behavior, behavior_valid))
        model(*batch).penalty.mean().backward()
        assert model.drive.summary is not None
        gradients.append(model.drive.summary.weight.grad)
        precisions.append(model.loading_precision)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(*precisions)
    before = model.loading_precision.clone()
    assert model(counts[:2], valid[:2], behavior[:2], behavior_valid[:2]).penalty.eq(0).all()
    assert torch.equal(model.loading_precision, before)


def test_empirical_bayes_shrinks_latents_that_the_data_do_not_support() -> None:
    # The first latent drives all neurons; the others have other time constants and nothing to explain.
    torch.manual_seed(3)
    dims = Dims(channels=20, neurons=20, observed_bins=15, bins=15, context=1)
    model = PopulationGenerator(dims, (80.0, 5.0, 2000.0), hidden=2, summary=0, rank=1, dropout=0.0)
    loading = torch.full((1, 20), 0.7)
    log_rates = 0.5 + model.latents.sample(torch.randn(60, 15, 3))[..., :1] @ loading
    counts, behavior = torch.poisson(log_rates.exp()), torch.zeros(60, 15, 1)
    inputs = counts, torch.ones_like(counts, dtype=torch.bool), behavior, behavior.isfinite()
    model.n_trials.fill_(60.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        encoding = model(*inputs)
        loss = Poisson().loss(encoding.prediction, counts).mean() + encoding.penalty.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    precision = model.loading_precision
    assert precision[0] < 4  # 1 / 0.7^2 = 2
    assert (precision[1:] > 2 * precision[0]).all()
    strength = model.loading.detach().square().sum(0).sqrt().mean()
    assert strength.item() == pytest.approx(0.7, abs=0.15)


def test_posterior_follows_the_observed_neurons(
    model: PopulationGenerator, inputs: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    counts, valid, *behavior = inputs
    seen = counts[:, :8, :5], valid[:, :8, :5]
    more = (counts + 3)[:, :8, :5], valid[:, :8, :5]
    model.eval()
    prediction = model(*seen, *behavior).prediction
    assert prediction.shape == (4, 10, 7)
    assert not torch.allclose(prediction, model(*more, *behavior).prediction)


def test_missing_behavior_has_no_effect(
    model: PopulationGenerator, inputs: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    counts, valid, behavior, behavior_valid = inputs
    behavior_valid = behavior_valid.clone()
    behavior_valid[:, 3:6, 1] = False
    model.eval()
    unknown = torch.where(behavior_valid, behavior, torch.nan)
    torch.testing.assert_close(
        model(counts, valid, behavior, behavior_valid).prediction,
        model(counts, valid, unknown, behavior_valid).prediction,
    )


def test_samples_have_the_variance_of_the_latents(model: PopulationGenerator) -> None:
    behavior = torch.zeros(4000, 10, 2)
    noise = torch.randn(4000, 10, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        log_rates = model.eval().sample_log_rates(behavior, behavior.isfinite(), noise)
    torch.testing.assert_close(
        log_rates.var(0), model.loading.square().sum(0).detach().expand(10, -1), rtol=0.15, atol=1e-3
    )


def test_bin_width_scales_time_constants() -> None:
    fine, coarse = (PopulationGenerator(Dims(2, 2, 20, 20, 1, bin_ms), (100.0,)) for bin_ms in (5, 20))
    assert [model.latents.decay[0] for model in (fine, coarse)] == pytest.approx([math.exp(-0.05), math.exp(-0.2)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_close(
    model: PopulationGenerator, inputs: tuple[Tensor, Tensor, Tensor, Tensor], dtype: torch.dtype
) -> None:
    counts, valid, behavior, behavior_valid = inputs
    expected = model.eval()(*inputs).prediction
    converted = model.to(dtype)(counts.to(dtype), valid, behavior.to(dtype), behavior_valid).prediction
    assert converted.dtype == dtype
    torch.testing.assert_close(converted.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    "settings",
    [
        {"time_constants_ms": (0.0,)},
        {"ridge": -1.0},
        {"readout_precision": -1.0},
        {"iterations": 0},
        {"time_constants_ms": ()},
    ],
)
def test_settings_out_of_range_raise(settings: dict[str, object]) -> None:
    with pytest.raises(RangeError):
        PopulationGenerator(DIMS, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("summary", [0, 3])
def test_drive_of_one_bin_reaches_its_neighbors_only_without_summary(summary: int) -> None:
    torch.manual_seed(0)
    drive = BehaviorDrive(1, 30, half_width=2, summary=summary).eval()
    behavior = torch.zeros(1, 30, 1)
    pulse = behavior.clone()
    pulse[0, 15] = 1.0
    valid = behavior.isfinite()
    changed = (drive(pulse, valid) - drive(behavior, valid)).abs().amax(2)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == (list(range(13, 18)) if summary == 0 else list(range(30)))
