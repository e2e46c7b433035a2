import math
from functools import partial

import pytest
import torch
from helpers.sizes import any_dims, behavior_of, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from blend_pl.models import NDT, Dims
from blend_pl.models.layers.embedding import CountEmbedding, IdentityEmbedding, LinearEmbedding, SinusoidalPositions
from blend_pl.models.layers.fusion import Concatenation

DIMS = Dims(channels=5, neurons=8, observed_bins=7, bins=9)


def plain(model: NDT, dims: Dims, layers: int, heads: int, window: tuple[int, int]) -> nn.Module:
    """Returns the transformer encoder of torch with the weights of the model."""
    width = model.norm.normalized_shape[0]
    feedforward = model.layers[0].feedforward.linear1.out_features
    layer = nn.TransformerEncoderLayer(width, heads, feedforward, 0.0, "relu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
    names = {
        "self_attn.in_proj_weight": "attention.qkv.weight",
        "self_attn.in_proj_bias": "attention.qkv.bias",
        "self_attn.out_proj.weight": "attention.out_proj.weight",
        "self_attn.out_proj.bias": "attention.out_proj.bias",
        **{f"linear{i}.{kind}": f"feedforward.linear{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")},
        **{f"norm1.{kind}": f"norm.{kind}" for kind in ("weight", "bias")},
        **{f"norm2.{kind}": f"feedforward.norm.{kind}" for kind in ("weight", "bias")},
    }
    for torch_layer, layer in zip(encoder.layers, model.layers, strict=True):
        state = layer.state_dict()
        torch_layer.load_state_dict({name: state[names[name]] for name in torch_layer.state_dict()})
    encoder.norm.load_state_dict(model.norm.state_dict())
    lag = torch.arange(dims.bins)[:, None] - torch.arange(dims.bins)[None, :]
    forward, backward = window
    forbidden = ((-lag > forward) & (forward >= 0)) | ((lag > backward) & (backward >= 0))
    return partial(encoder, mask=forbidden)  # type: ignore[return-value]


@pytest.mark.parametrize("window", [(-1, -1), (2, 3), (0, 1)])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("kind", ["identity", "linear", "counts"])
def test_equals_composition_of_torch_layers(window: tuple[int, int], context: int, kind: str) -> None:
    torch.manual_seed(1)
    dims = Dims(5, 8, 7, 9, context)
    embedding = {
        "identity": IdentityEmbedding,
        "linear": partial(LinearEmbedding, d_model=6),
        "counts": CountEmbedding,
    }[kind]
    limits = {"context_forward": window[0], "context_backward": window[1]}
    model = shaken(NDT(dims, 3, 2, 16, **limits, embedding=embedding)).eval()
    counts, behavior = torch.randint(0, 4, (3, 7, 5)).float(), torch.randn(3, 9, 2)

    padded = torch.zeros(3, 9, 8)
    padded[:, :7, :5] = counts
    if kind == "identity":
        tokens = padded * math.sqrt(8)
    elif kind == "linear":
        tokens = model.input_embedding.embedding.linear(padded) * math.sqrt(6)
    else:
        tokens = model.input_embedding.embedding.embedding.weight[padded.long()].reshape(3, 9, 16) * math.sqrt(16)
    if context:
        tokens = torch.cat([tokens, model.input_embedding.fusion.embedding(behavior) * math.sqrt(2)], dim=-1)
    latents = plain(model, dims, 3, 2, window)(tokens + model.positions.embedding.weight)
    expected = latents @ model.readout.weight.T + model.readout.bias

    encoding = model(counts, behavior if context else None)
    torch.testing.assert_close(encoding.latents, latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoding.prediction, expected, atol=1e-5, rtol=1e-5)
    assert [feature.shape for feature in encoding.features] == [latents.shape] * 3
    torch.testing.assert_close(model.norm(encoding.features[-1]), latents, atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    dims=any_dims(),
    heads=st.integers(1, 4),
    sinusoidal=st.booleans(),
)
def test_any_sizes_work(dims: Dims, heads: int, sinusoidal: bool) -> None:
    positions = {"positions": SinusoidalPositions} if sinusoidal else {}
    model = NDT(dims, num_layers=1, num_heads=heads, dim_feedforward=4, **positions)
    encoding = model(torch.rand(2, dims.observed_bins, dims.channels), behavior_of(dims, 2))
    assert encoding.prediction.shape == (2, dims.bins, dims.neurons)
    assert encoding.prediction.isfinite().all()


@pytest.mark.parametrize("fusion", [Concatenation, partial(Concatenation, size=5)])
def test_context_changes_the_output(fusion: type[Concatenation]) -> None:
    torch.manual_seed(0)
    model = NDT(Dims(5, 8, 7, 9, 2), num_layers=2, fusion=fusion).eval()
    counts, behavior = torch.rand(1, 7, 5), torch.randn(1, 9, 2)
    assert not torch.allclose(model(counts, behavior).prediction, model(counts, behavior + 1).prediction)


def test_layer_ignores_bins_outside_window() -> None:
    torch.manual_seed(0)
    model = NDT(Dims(4, 4, 10, 10), num_layers=1, context_forward=2, context_backward=3).eval()

    def influence(bin_: int) -> set[int]:
        counts = torch.rand(1, 10, 4, requires_grad=True)
        model(counts).prediction[0, bin_].sum().backward()
        assert counts.grad is not None
        return {j for j in range(10) if counts.grad[0, j].abs().sum() > 0}

    assert influence(5) == {2, 3, 4, 5, 6, 7}
    assert influence(0) == {0, 1, 2}


def test_initial_weights_match_paper() -> None:
    torch.manual_seed(0)
    model, unscaled = (NDT(Dims(30, 40, 7, 9), num_layers=3, fixup=fixup) for fixup in (True, False))
    assert model.readout.bias.abs().max() == 0
    assert 0.09 < model.readout.weight.abs().max() <= 0.1
    for name in (
        "feedforward.linear1.weight",
        "feedforward.linear2.weight",
        "attention.out_proj.weight",
        "attention.qkv.weight",
    ):
        scaled, plain_ = (module.layers[0].get_parameter(name).std().item() for module in (model, unscaled))
        factor = 1.0 if "qkv" in name else 0.67 * 3**-0.25
        assert scaled / plain_ == pytest.approx(factor, rel=0.1)


def test_dropouts_act_in_training_only() -> None:
    counts = torch.rand(2, 7, 5)

    def varies(**rates: float) -> bool:
        off = {"dropout": 0.0, "dropout_embedding": 0.0, "dropout_rates": 0.0}
        model = NDT(DIMS, num_layers=1, **{**off, **rates})
        first, second = (model(counts).prediction for _ in range(2))
        model.eval()
        assert torch.equal(model(counts).prediction, model(counts).prediction)
        return not torch.equal(first, second)

    assert not varies()
    assert all(varies(**{name: 0.5}) for name in ("dropout", "dropout_embedding", "dropout_rates"))


def test_trials_do_not_mix() -> None:
    torch.manual_seed(0)
    model = NDT(DIMS, num_layers=2).eval()
    counts: Tensor = torch.rand(4, 7, 5)
    separate = torch.cat([model(trial[None]).prediction for trial in counts])
    torch.testing.assert_close(model(counts).prediction, separate, atol=1e-5, rtol=1e-5)


LONG = Dims(channels=5, neurons=9, observed_bins=60, bins=70)


def windowed(**rates: float) -> list[NDT]:
    torch.manual_seed(0)
    return [
        NDT(LONG, num_layers=2, num_heads=2, dim_feedforward=8, context_forward=1, context_backward=2, **rates)
        for _ in "ab"
    ]


def loss(model: NDT, parameters: dict[str, Tensor], buffers: dict[str, Tensor], counts: Tensor) -> Tensor:
    return functional_call(model, (parameters, buffers), (counts,)).prediction.exp().mean()


def test_stacked_networks_have_same_gradients() -> None:
    models = windowed(dropout=0.0, dropout_embedding=0.0, dropout_rates=0.0)
    assert models[0].window.bias is not None
    parameters, buffers = stack_module_state(models)
    counts = torch.rand(2, 3, 60, 5)
    together = vmap(partial(loss, models[0]))(parameters, buffers, counts)
    together.sum().backward()
    for number, model in enumerate(models):
        separate = model(counts[number]).prediction.exp().mean()
        torch.testing.assert_close(together[number], separate)
        separate.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameters[name].grad[number], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13),
    reason="vmap of older versions of torch has no rule for Tensor.view(dtype); multirun then trains one after another",
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("shared", [True, False])
def test_stacked_networks_have_independent_dropout(shared: bool) -> None:
    models = windowed(dropout=0.5)
    parameters, buffers = stack_module_state(models[:1] * 2)
    counts = torch.rand(3, 60, 5).expand(2, -1, -1, -1)
    run = vmap(partial(loss, models[0]), in_dims=(0, 0, None if shared else 0), randomness="different")
    first, second = run(parameters, buffers, counts[0] if shared else counts)
    assert first != second
