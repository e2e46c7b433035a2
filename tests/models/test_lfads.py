import math
from functools import partial
from typing import Any

import pytest
import torch
from helpers.lfads import NaiveLFADS
from helpers.sizes import any_dims, behavior_of, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from blend_pl.errors import ConfigError
from blend_pl.models import LFADS, Dims
from blend_pl.models.layers.fusion import Concatenation

DIMS = Dims(channels=5, neurons=8, observed_bins=7, bins=10)
SMALL: dict[str, Any] = {
    "ic_enc_dim": 4,
    "ci_enc_dim": 3,
    "con_dim": 5,
    "co_dim": 2,
    "ic_dim": 3,
    "gen_dim": 6,
    "fac_dim": 4,
    "dropout": 0.0,
}


def lfads(dims: Dims = DIMS, **changes: Any) -> LFADS:
    """Returns a small model with random values in all weights."""
    torch.manual_seed(0)
    return shaken(LFADS(dims, **{**SMALL, **changes}), by=0.3)


def counts(trials: int = 3) -> Tensor:
    return torch.randint(0, 4, (trials, 7, 5), generator=torch.Generator().manual_seed(1)).float()


def behavior(trials: int = 3) -> Tensor:
    return torch.randn(trials, 10, 2, generator=torch.Generator().manual_seed(2))


def draw_noise(model: LFADS, trials: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns the noise that the model draws in training mode after this seed."""
    torch.manual_seed(seed)
    return torch.randn(trials, 3), torch.randn(model.n_encoded_bins, trials, 2)


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("training", [False, True])
def test_equals_loop_over_torch_cells(context: int, training: bool) -> None:
    model = lfads(Dims(5, 8, 7, 10, context), kl_increase_steps=0).train(training)
    inputs_ = counts(), behavior() if context else None
    noise = draw_noise(model, 3, 5) if training else (torch.zeros(3, 3), torch.zeros(model.n_encoded_bins, 3, 2))
    rates, states, means, log_variances, samples = NaiveLFADS(model)(*inputs_, *noise)
    torch.manual_seed(5)
    encoding = model(*inputs_)
    torch.testing.assert_close(encoding.prediction, rates, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoding.features[0], states, atol=1e-5, rtol=1e-5)
    assert model.n_encoded_bins == (10 if context else 7)
    if training:
        driving = model.input_prior.kl_divergence(means, log_variances, samples)
        read = torch.cat([inputs_[0], torch.zeros(3, model.n_encoded_bins - 7, 5)], 1)
        if context:
            read = model.fusion(read, inputs_[1])
        mean, log_variance = model.initial_posterior(model.initial_encoder(read)[1]).chunk(2, -1)
        prior = Normal(model.initial_prior, math.sqrt(0.1))
        at_start = kl_divergence(Normal(mean, (log_variance / 2).exp()), prior).sum(-1)
        expected = (model.kl_initial * at_start + model.kl_inputs * driving) / 80
        torch.testing.assert_close(encoding.penalty, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("clip", [1.0, 1.5])
def test_clipping_initial_state_bounds_all_states(clip: float) -> None:
    model = lfads(cell_clip=clip).eval()
    with torch.no_grad():
        model.initial_state.weight.mul_(50)
    encoding = model(counts())
    rates, *_ = NaiveLFADS(model)(counts(), None, torch.zeros(3, 3), torch.zeros(7, 3, 2))
    model.cell_clip = 100.0
    assert not torch.allclose(model(counts()).prediction, rates, atol=1e-2)
    torch.testing.assert_close(encoding.prediction, rates, atol=1e-5, rtol=1e-5)


def test_cell_clip_below_one_raises() -> None:
    with pytest.raises(ConfigError, match=r"at least 1, not 0\.5"):
        LFADS(DIMS, cell_clip=0.5)


@settings(max_examples=30, deadline=None)
@given(dims=any_dims(), trials=st.integers(1, 3))
def test_any_sizes_train_all_weights(dims: Dims, trials: int) -> None:
    model = LFADS(dims, **{**SMALL, "dropout": 0.3}, kl_increase_steps=0)
    counts = torch.randint(0, 3, (trials, dims.observed_bins, dims.channels)).float()
    encoding = model(counts, behavior_of(dims, trials))
    assert encoding.prediction.shape == (trials, dims.bins, dims.neurons)
    assert [feature.shape for feature in encoding.features] == [(trials, dims.bins, size) for size in (6, 4)]
    assert encoding.latents is encoding.features[1]
    assert encoding.penalty.shape == (trials,)
    (encoding.prediction.sum() + encoding.penalty.sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_every_weight_gets_gradients() -> None:
    model = lfads(Dims(5, 8, 7, 10, 2), kl_increase_steps=0)
    encoding = model(counts(), behavior())
    (encoding.prediction.exp().mean() + encoding.penalty.mean()).backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_posteriors_are_sampled_only_in_training() -> None:
    model = lfads()
    assert not torch.equal(model(counts()).prediction, model(counts()).prediction)
    model.eval()
    assert torch.equal(model(counts()).prediction, model(counts()).prediction)
    assert model(counts()).penalty is None


@pytest.mark.parametrize("seed", range(3))
def test_dropout_acts_in_training_only(seed: int) -> None:
    model = lfads(dropout=0.5)

    def rates(dropout: float) -> Tensor:
        model.dropout.p = dropout
        torch.manual_seed(seed)
        return model(counts()).prediction

    assert not torch.allclose(rates(0.5), rates(0.0))
    model.eval()
    assert torch.equal(rates(0.5), rates(0.0))


def test_kl_weights_increase_with_steps_and_are_restored() -> None:
    model, free = lfads(kl_increase_steps=4), lfads(kl_increase_steps=0)

    def share(model: LFADS) -> float:
        penalties = []
        for network in (model, free):
            torch.manual_seed(7)
            penalties.append(network(counts()).penalty.sum().item())
        return penalties[0] / penalties[1]

    assert [share(model) for _ in range(3)] == pytest.approx([0.2, 0.4, 0.6])
    model.eval()(counts())
    resumed = lfads(kl_increase_steps=4)
    resumed.load_state_dict(model.state_dict())
    assert [share(resumed) for _ in range(3)] == pytest.approx([0.8, 1, 1])


def test_forward_bins_use_prior_mean_of_inputs() -> None:
    model = lfads().eval()
    captured = []
    model.generator.register_forward_hook(lambda _, inputs, __: captured.append(inputs))
    states = model(counts()).features[0]
    ((inferred, last),) = captured
    torch.testing.assert_close(last[0], states[:, 6])
    torch.testing.assert_close(inferred[:, 1:], inferred[:, :-1] * model.input_prior.ar_coefficient())


@pytest.mark.parametrize("fusion", [Concatenation, partial(Concatenation, size=5)])
def test_behavior_of_each_bin_has_influence(fusion: type[Concatenation]) -> None:
    model = lfads(Dims(5, 8, 7, 10, 2), fusion=fusion).eval()
    moved = behavior()
    moved[:, 9] += 3
    difference = (model(counts(), moved).prediction - model(counts(), behavior()).prediction).abs().amax((0, 2))
    assert difference.min() > 0
    shifted = behavior().requires_grad_()
    model(counts(), shifted).prediction.sum().backward()
    assert shifted.grad is not None
    assert shifted.grad.abs().amax((0, 2)).min() > 0


def test_controller_input_excludes_current_bin() -> None:
    model = lfads().eval()
    inputs_ = counts(1).requires_grad_()
    model._controller_inputs(inputs_)[0, 3].sum().backward()
    assert inputs_.grad is not None
    captured = inputs_.grad.abs().amax((0, 2)) > 0
    assert captured.tolist() == [True, True, True, False, True, True, True]


def test_trials_do_not_mix() -> None:
    model = lfads().eval()
    separate = torch.cat([model(trial[None]).prediction for trial in counts(4)])
    torch.testing.assert_close(model(counts(4)).prediction, separate, atol=1e-5, rtol=1e-5)


def test_training_lowers_negative_evidence_bound() -> None:
    torch.manual_seed(0)
    model = LFADS(DIMS, **SMALL, kl_initial=1.0, kl_inputs=1.0, kl_increase_steps=0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    rates = torch.linspace(0, 3, 10).sin()[:, None] + torch.linspace(-2, 0, 8)
    target = torch.poisson(rates.exp().expand(32, 10, 8))
    losses = []
    for _ in range(60):
        encoding = model(target[:, :7, :5])
        loss = (encoding.prediction.exp() - target * encoding.prediction).mean() + encoding.penalty.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < losses[0] - 0.2
    ideal = (rates.exp() - rates.exp() * rates).mean().item()
    assert losses[-1] < ideal + 0.15
