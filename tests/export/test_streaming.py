"""Equality of the streaming program and the student on whole trials."""

from functools import partial
from typing import Any

import pytest
import torch
from helpers.export import CAUSAL, student
from helpers.sizes import any_dims
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.export.program import max_relative_error
from blend_pl.export.streaming import StreamingNDT, causal_window, stream_trial, streaming_unsupported_reason
from blend_pl.likelihoods import Likelihood, Poisson, UnitGaussian
from blend_pl.models import LFADS, NDT, STNDT, Dims
from blend_pl.models.layers.embedding import CountEmbedding, LinearEmbedding, SinusoidalPositions


@settings(max_examples=25, deadline=None)
@given(
    dims=any_dims(observed=(2, 9), forward=4, context=0),
    num_layers=st.integers(1, 3),
    num_heads=st.integers(1, 3),
    back=st.integers(-1, 15),
    embedding=st.sampled_from([None, partial(LinearEmbedding, d_model=5), CountEmbedding]),
    positions=st.sampled_from([None, SinusoidalPositions]),
    likelihood=st.sampled_from([Poisson(), UnitGaussian()]),
    seed=st.integers(0, 100),
)
def test_streaming_equals_whole_trial(
    dims: Dims,
    num_layers: int,
    num_heads: int,
    back: int,
    embedding: Any,
    positions: Any,
    likelihood: Likelihood,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layers_by_name = {
        name: layer for name, layer in (("embedding", embedding), ("positions", positions)) if layer is not None
    }
    network = NDT(dims, num_layers, num_heads, 8, context_forward=0, context_backward=back, **layers_by_name).eval()
    counts = torch.poisson(torch.full((1, dims.observed_bins, dims.channels), 0.5))
    after = torch.zeros(dims.bins - dims.observed_bins, dims.channels)
    with torch.no_grad():
        whole = likelihood.mean(network(counts).prediction)[0]
        rates = stream_trial(StreamingNDT(network, likelihood), torch.cat([counts[0], after]))
    assert rates.shape == whole.shape
    assert max_relative_error([whole], [rates]) < 1e-5


def test_state_holds_attention_window() -> None:
    step = StreamingNDT(student(**CAUSAL).backbone, Poisson())
    bin_number, keys, values = step.initial_state()
    assert keys.shape == values.shape == (2, 2, 3, 3)
    with torch.no_grad():
        _, following, next_keys, _ = step(torch.ones(1, 4), bin_number, keys, values)
    assert following == 1
    assert torch.equal(next_keys[:, :, :2], keys[:, :, 1:])
    assert next_keys[:, :, 2].any()


def test_entries_before_trial_are_masked() -> None:
    step = StreamingNDT(student(**CAUSAL).backbone, Poisson())
    bin_number, keys, values = step.initial_state()
    with torch.no_grad():
        rates, *_ = step(torch.ones(1, 4), bin_number, keys, values)
        others, *_ = step(torch.ones(1, 4), bin_number, keys + 5, values - 7)
    assert torch.equal(rates, others)


def test_bins_beyond_trial_raise() -> None:
    step = StreamingNDT(student(**CAUSAL).backbone, Poisson())
    with torch.no_grad(), pytest.raises(IndexError):
        stream_trial(step, torch.zeros(11, 4))


@pytest.mark.parametrize(("backward", "expected"), [(0, 0), (3, 3), (20, 9), (-1, 9)])
def test_causal_window(backward: int, expected: int) -> None:
    assert causal_window(student(num_layers=1, context_forward=0, context_backward=backward).backbone) == expected


@pytest.mark.parametrize("ahead", [1, -1])
@pytest.mark.parametrize("backward", [2, -1])
def test_noncausal_network_reason_names_setting(ahead: int, backward: int) -> None:
    network = student(num_layers=1, context_forward=ahead, context_backward=backward).backbone
    assert "--model.backbone.context_forward 0" in str(streaming_unsupported_reason(network))


@pytest.mark.parametrize("kind", [STNDT, LFADS])
def test_other_backbone_reason_names_config(kind: Any) -> None:
    reason = str(streaming_unsupported_reason(student(kind).backbone))
    assert reason.startswith(f"{kind.__name__} processes whole trials")
    assert "--config configs/model/causal.yaml" in reason
