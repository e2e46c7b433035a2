"""The patch transformer at its published size: time saved by masking, padding of ragged sessions, attention memory."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from measure import DEVICE, seconds
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from blend_pl.data.lfp.batches import BalancedSessionSampler
from blend_pl.masking import TokenMasking
from blend_pl.models import PatchAutoencoder
from blend_pl.models.layers.patches import CountPatches
from blend_pl.models.session_network import SessionDims

pytestmark = pytest.mark.benchmark

BINS = 500
"""5 s at 10 ms."""


def draw_mask(patches: list[int], ratio: float = 0.6) -> Tensor | None:
    rows = torch.arange(len(patches), device=DEVICE)
    generator = torch.Generator(DEVICE).manual_seed(0)
    return TokenMasking(ratio).draw_mask(patches, BINS, max(patches), rows, len(patches), generator)


@pytest.mark.parametrize("kind", ["spikes", "lfp"])
def test_masked_step_costs_at_most_half(kind: str) -> None:
    torch.manual_seed(0)
    patch, channels = (64, 192) if kind == "spikes" else (32, 96)
    make = partial(PatchAutoencoder, patch=patch, **({"embedding": CountPatches} if kind == "spikes" else {}))
    model = make(SessionDims.from_sessions({"a": channels}, BINS)).to(DEVICE)
    batch = 1 if DEVICE == "cpu" else 16
    values = torch.poisson(torch.full((batch, BINS, channels), 0.2, device=DEVICE))

    def step(token_mask: Tensor | None) -> None:
        encoding = model(values, ["a"] * batch, token_mask)
        encoding.prediction.square().mean().backward()

    masked, unmasked = seconds(partial(step, draw_mask([3] * batch))), seconds(partial(step, None))
    print(f"\n{kind} on {DEVICE}: masked {masked:.2f} s, unmasked {unmasked:.2f} s, {batch} segment(s) of 3 patches")
    print(f"ratio: {masked / unmasked:.2f}")
    assert masked <= 0.5 * unmasked


class TokenCounter(nn.Module):
    """Counts the tokens that are passed to an encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.count = encoder, 0

    def forward(self, tokens: Tensor, times: Tensor) -> Tensor:
        self.count += tokens.shape[0] * tokens.shape[1]
        return tokens


@pytest.mark.parametrize("ratio", [0.0, 0.6])
def test_ragged_sessions_need_no_padding(ratio: float) -> None:
    """Monkey I has 96 or 192 channels, and units that fill 1 to 6 patches; monkey C is in between."""
    rng = np.random.default_rng(0)
    sessions = {str(number): int(units) for number, units in enumerate(rng.integers(40, 380, 27))}
    model = PatchAutoencoder(SessionDims.from_sessions(sessions, BINS), patch=64, embedding=CountPatches, num_layers=1)
    model.encoder, model.predictor = TokenCounter(model.encoder), TokenCounter(model.predictor)
    sampler = BalancedSessionSampler([np.arange(80)] * len(sessions), 64)
    names = [str(number) for number in next(iter(sampler)).sessions]
    patches = [model.n_patches(name) for name in names]
    model(torch.zeros(64, BINS, max(sessions.values())), names, draw_mask(patches, ratio))
    needed = sum(BINS * p - round(ratio * BINS * p) for p in patches)
    padded = len(patches) * (BINS * max(patches) - round(ratio * BINS * max(patches)))
    print(f"\n64 segments of {len(set(names))} sessions, {min(patches)} to {max(patches)} patches, ratio {ratio}")
    print(f"tokens: {model.encoder.count} encoded, {needed} needed; padded to the widest {padded}")
    print(f"ratio: {model.encoder.count / needed - 1:.1%} wasted, {padded / needed - 1:.0%} if padded")
    assert model.encoder.count < 1.05 * needed
    assert model.predictor.count < 1.05 * BINS * sum(patches)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor created."""

    n_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            if isinstance(output, Tensor):
                self.n_elements = max(self.n_elements, output.numel())
        return outputs


def test_attention_creates_no_matrix_of_all_pairs() -> None:
    torch.manual_seed(0)
    model = PatchAutoencoder(SessionDims.from_sessions({"a": 192}, BINS), num_layers=1, predictor_num_layers=1).to(
        DEVICE
    )
    with LargestTensor() as largest:
        model(torch.randn(1, BINS, 192, device=DEVICE), ["a"]).prediction.sum().backward()
    pairs = (6 * BINS) ** 2
    print(f"\n{6 * BINS} tokens: the largest tensor has {largest.n_elements} elements, all pairs of one head {pairs}")
    print(f"ratio: {largest.n_elements / pairs:.2f}")
    assert largest.n_elements < pairs
