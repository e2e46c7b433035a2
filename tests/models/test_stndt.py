import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from helpers.sizes import any_dims, behavior_of, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from blend_pl.errors import ConfigError
from blend_pl.masking import Masking
from blend_pl.models import STNDT, Dims
from blend_pl.models.layers.contrastive import ContrastiveLoss
from blend_pl.models.layers.embedding import CountEmbedding, IdentityEmbedding, LinearEmbedding, SinusoidalPositions
from blend_pl.models.stndt import SpatialAttention, SpatiotemporalLayer
from blend_pl.multirun.stacking import ModuleStack

DIMS = Dims(channels=5, neurons=8, observed_bins=7, bins=10)
EMBEDDINGS: dict[str, Callable[[int], Any]] = {
    "identity": IdentityEmbedding,
    "linear": LinearEmbedding,
    "counts": partial(CountEmbedding, size=1),
}
SILENT = ContrastiveLoss(weight=0.0)
KINDS = ("weight", "bias")


def attention_of(weight: Tensor, bias: Tensor, heads: int, out: nn.Linear | None = None) -> nn.MultiheadAttention:
    """Returns attention of torch with given query, key and, with an output map, value weights; the rest is random."""
    width = weight.shape[1]
    attention = nn.MultiheadAttention(width, heads, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight[: len(weight)] = weight
        attention.in_proj_bias[: len(bias)] = bias
        if out is not None:
            attention.out_proj.load_state_dict(out.state_dict())
    return attention


def plain_layer(layer: SpatiotemporalLayer, tokens: Tensor, columns: Tensor, forbidden: Tensor) -> Tensor:
    """Computes the layer with attention, norms and linear maps of torch."""
    temporal, heads = layer.temporal, layer.spatial.num_heads
    normed = temporal.norm(tokens)
    self_attention = temporal.attention
    attention = attention_of(self_attention.qkv.weight, self_attention.qkv.bias, heads, self_attention.out_proj)
    tokens = tokens + attention(normed, normed, normed, attn_mask=forbidden)[0]
    tokens = tokens + plain_feedforward(temporal.feedforward, tokens)
    normed = layer.norm_spatial(columns)
    weights = attention_of(layer.spatial.qk.weight, layer.spatial.qk.bias, heads)(normed, normed, normed)[1]
    mixed = torch.stack([(a @ z.T).T for a, z in zip(weights, layer.norm(tokens), strict=True)])
    tokens = tokens + mixed
    return tokens + plain_feedforward(layer.feedforward, tokens)


def plain_feedforward(part: Any, tokens: Tensor) -> Tensor:
    return part.linear2(torch.relu(part.linear1(part.norm(tokens))))


@pytest.mark.parametrize("window", [(-1, -1), (2, 3)])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_equals_composition_of_torch_layers(window: tuple[int, int], context: int, kind: str) -> None:
    torch.manual_seed(1)
    dims = Dims(5, 8, 7, 10, context)
    embedding = EMBEDDINGS[kind]
    limits = {"context_forward": window[0], "context_backward": window[1]}
    model = shaken(STNDT(dims, 3, 2, 16, **limits, contrast=SILENT, embedding=embedding)).eval()
    counts, behavior = torch.randint(0, 4, (3, 7, 5)).float(), torch.randn(3, 10, 2)

    padded = torch.zeros(3, 10, 8)
    padded[:, :7, :5] = counts
    tokens = model.input_embedding.embedding(padded) * math.sqrt(8)
    expanded = padded
    if context:
        extra = model.input_embedding.fusion.embedding(behavior) * math.sqrt(2)
        tokens, expanded = (torch.cat([part, extra], dim=-1) for part in (tokens, padded))
    spatial = model.embedding_spatial(expanded.transpose(1, 2)) * math.sqrt(10)
    features = [tokens + model.positions.embedding.weight]
    lag = torch.arange(10)[:, None] - torch.arange(10)[None, :]
    forbidden = ((-lag > window[0]) & (window[0] >= 0)) | ((lag > window[1]) & (window[1] >= 0))
    spatial = spatial + model.positions_spatial.embedding.weight
    for layer in model.layers:
        features.append(plain_layer(layer, features[-1], spatial, forbidden))
        spatial = features[-1].transpose(1, 2)
    expected = model.norm(features[-1]) @ model.readout.weight.T + model.readout.bias

    encoding = model(counts, behavior if context else None)
    for feature, expected_feature in zip(encoding.features, features[1:], strict=True):
        torch.testing.assert_close(feature, expected_feature, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoding.latents, model.norm(features[-1]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoding.prediction, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    dims=any_dims(),
    heads=st.integers(1, 4),
    trials=st.integers(1, 3),
)
def test_any_sizes_train(dims: Dims, heads: int, trials: int) -> None:
    model = STNDT(dims, num_layers=1, num_heads=heads, dim_feedforward=4)
    counts = torch.randint(0, 3, (trials, dims.observed_bins, dims.channels)).float()
    encoding = model(counts, behavior_of(dims, trials))
    assert encoding.prediction.shape == (trials, dims.bins, dims.neurons)
    assert encoding.penalty.shape == (trials,)
    (encoding.prediction.sum() + encoding.penalty.sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@given(width=st.integers(1, 6), bins=st.integers(1, 7), heads=st.integers(1, 4))
def test_spatial_weights_sum_to_one(width: int, bins: int, heads: int) -> None:
    weights = SpatialAttention(bins, heads)(torch.randn(2, width, bins))
    assert weights.shape == (2, width, width)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, width))


def test_both_streams_have_influence() -> None:
    torch.manual_seed(0)
    model, counts = STNDT(DIMS, num_layers=2).eval(), torch.rand(2, 7, 5)
    expanded = model(counts).prediction
    for layer in model.layers:
        layer.spatial.forward = lambda columns: torch.eye(8).expand(2, 8, 8)  # type: ignore[method-assign]
    assert not torch.allclose(model(counts).prediction, expanded, atol=1e-3)


def test_penalty_is_none_in_evaluation() -> None:
    counts = torch.randint(0, 3, (4, 7, 5)).float()
    model = STNDT(DIMS, num_layers=1)
    assert model(counts).penalty.shape == (4,)
    assert model.eval()(counts).penalty is None
    assert STNDT(DIMS, num_layers=1, contrast=SILENT)(counts).penalty is None


def test_contrast_trains_both_embeddings_without_behavior() -> None:
    torch.manual_seed(0)
    model = STNDT(Dims(5, 8, 7, 10, 2), num_layers=1)
    penalty = model(torch.randint(0, 3, (4, 7, 5)).float(), torch.full((4, 10, 2), torch.nan)).penalty
    penalty.sum().backward()
    assert penalty.isfinite().all()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {
        f"{part}.linear.{kind}" for part in ("input_embedding.embedding", "embedding_spatial") for kind in KINDS
    }


def test_contrast_does_not_corrupt_unobserved_entries() -> None:
    torch.manual_seed(0)
    model, counts = STNDT(DIMS, num_layers=1), torch.ones(4, 7, 5)
    inputs_of_calls = []
    model.embedding_spatial.register_forward_hook(lambda _, inputs, __: inputs_of_calls.append(inputs[0]))
    model(counts)
    _, views = inputs_of_calls
    assert not views[:, 5:].any()
    assert not views[:, :, 7:].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding": partial(LinearEmbedding, d_model=6)}, "tokens of width N"),
        ({"embedding": CountEmbedding}, "tokens of width N"),
        ({"embedding": IdentityEmbedding}, r"contrast\.weight to 0"),
    ],
)
def test_incompatible_embedding_raises(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        STNDT(DIMS, **settings)


def test_dropouts_act_in_training_only() -> None:
    counts = torch.rand(2, 7, 5)

    def varies(**rates: float) -> bool:
        off = {"dropout": 0.0, "dropout_embedding": 0.0, "dropout_rates": 0.0}
        model = STNDT(DIMS, num_layers=1, **{**off, **rates})
        first, second = (model(counts).prediction for _ in range(2))
        model.eval()
        assert torch.equal(model(counts).prediction, model(counts).prediction)
        return not torch.equal(first, second)

    assert not varies()
    assert all(varies(**{name: 0.5}) for name in ("dropout", "dropout_embedding", "dropout_rates"))


def test_fixup_scales_only_temporal_layers() -> None:
    models = []
    for fixup in (True, False):
        torch.manual_seed(0)
        models.append(STNDT(DIMS, num_layers=3, fixup=fixup).state_dict())
    scaled, plain = models
    for name, value in plain.items():
        shrunk = "temporal" in name and name.endswith(("linear1.weight", "linear2.weight", "out_proj.weight"))
        torch.testing.assert_close(scaled[name], value * (0.67 * 3**-0.25 if shrunk else 1.0))


def test_trials_do_not_mix() -> None:
    torch.manual_seed(0)
    model = STNDT(DIMS, num_layers=2, positions=SinusoidalPositions).eval()
    counts: Tensor = torch.rand(4, 7, 5)
    separate = torch.cat([model(trial[None]).prediction for trial in counts])
    torch.testing.assert_close(model(counts).prediction, separate, atol=1e-5, rtol=1e-5)


def silent(contrast: ContrastiveLoss, reach: int = 2) -> STNDT:
    """Returns a network without dropout, in float64."""
    off = {"dropout": 0.0, "dropout_embedding": 0.0, "dropout_rates": 0.0}
    return STNDT(DIMS, num_layers=1, dim_feedforward=4, context_forward=reach, contrast=contrast, **off).double()


def test_stacked_networks_equal_single_networks() -> None:
    torch.manual_seed(0)
    members, counts = [silent(SILENT, reach) for reach in (1, 3, -1)], torch.randint(0, 4, (3, 4, 7, 5)).double()
    separate = [member(trials).prediction for member, trials in zip(members, counts, strict=True)]
    for prediction in separate:
        prediction.square().sum().backward()
    stack = ModuleStack(members)
    gradients = [{name: p.grad for name, p in member.named_parameters() if p.grad is not None} for member in members]
    together = stack(lambda member, trials: member(trials).prediction, counts)
    torch.testing.assert_close(together, torch.stack(separate))
    together.square().sum().backward()
    for name in gradients[0]:
        expected = torch.stack([gradient[name] for gradient in gradients])
        torch.testing.assert_close(stack.parameters[name].grad, expected)


def test_stacked_networks_have_independent_views() -> None:
    torch.manual_seed(0)
    contrast = ContrastiveLoss(corruption=Masking(0.3, "full", zero_ratio=0.5, random_ratio=0.5))
    members, counts = [silent(contrast) for _ in range(2)], torch.randint(0, 4, (6, 7, 5)).double()
    members[1].load_state_dict(members[0].state_dict())
    stack, inputs = ModuleStack(members), counts.expand(2, *counts.shape)
    with torch.no_grad():
        separate = torch.stack([members[0](counts).penalty.mean() for _ in range(100)])
        drawn = torch.stack([stack(lambda member, trials: member(trials).penalty.mean(), inputs) for _ in range(100)]).T
    # The networks are equal; only their random views differ.
    assert abs(torch.corrcoef(drawn)[0, 1]) < 0.3
    for each in drawn:
        assert abs(each.mean() - separate.mean()) < 0.5 * separate.std()
        assert float(each.std()) == pytest.approx(float(separate.std()), rel=0.4)
    penalty = stack(lambda member, trials: member(trials).penalty.sum(), inputs)
    penalty.sum().backward()
    assert stack.parameters["embedding_spatial.linear.weight"].grad.abs().sum((1, 2)).all()
