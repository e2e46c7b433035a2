"""The patch transformer at its published size: what masking saves, what raggedness wastes, what attention keeps."""

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


def dropped(patches: list[int], ratio: float = 0.6) -> Tensor | None:
    rows = torch.arange(len(patches), device=DEVICE)
    generator = torch.Generator(DEVICE).manual_seed(0)
    return TokenMasking(ratio).draw_mask(patches, BINS, max(patches), rows, len(patches), generator)


@pytest.mark.parametrize("kind", ["spikes", "lfp"])
def test_a_step_with_most_tokens_masked_costs_at_most_half(kind: str) -> None:
    torch.manual_seed(0)
    patch, channels = (64, 192) if kind == "spikes" else (32, 96)
    make = partial(PatchAutoencoder, patch=patch, **({"embedding": CountPatches} if kind == "spikes" else {}))
    model = make(SessionDims.from_sessions({"a": channels}, BINS)).to(DEVICE)
    batch = 1 if DEVICE == "cpu" else 16
    values = torch.poisson(torch.full((batch, BINS, channels), 0.2, device=DEVICE))

    def step(hidden: Tensor | None) -> None:
        encoding = model(values, ["a"] * batch, hidden)
        encoding.prediction.square().mean().backward()

    masked, whole = seconds(partial(step, dropped([3] * batch))), seconds(partial(step, None))
    print(f"\n{kind} on {DEVICE}: masked {masked:.2f} s, unmasked {whole:.2f} s, {batch} segment(s) of 3 patches")
    print(f"ratio: {masked / whole:.2f}")
    assert masked <= 0.5 * whole


class Tokens(nn.Module):
    """Counts the tokens that an encoder is given."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.count = encoder, 0

    def forward(self, tokens: Tensor, times: Tensor) -> Tensor:
        self.count += tokens.shape[0] * tokens.shape[1]
        return tokens


@pytest.mark.parametrize("ratio", [0.0, 0.6])
def test_ragged_sessions_waste_no_tokens(ratio: float) -> None:
    """Monkey I has 96 or 192 channels, its units fill 1 to 6 patches; monkey C's are in between."""
    rng = np.random.default_rng(0)
    sessions = {str(number): int(units) for number, units in enumerate(rng.integers(40, 380, 27))}
    model = PatchAutoencoder(SessionDims.from_sessions(sessions, BINS), patch=64, embedding=CountPatches, num_layers=1)
    model.encoder, model.predictor = Tokens(model.encoder), Tokens(model.predictor)
    plan = BalancedSessionSampler([np.arange(80)] * len(sessions), 64)
    names = [str(number) for number in next(iter(plan)).sessions]
    patches = [model.n_patches(name) for name in names]
    model(torch.zeros(64, BINS, max(sessions.values())), names, dropped(patches, ratio))
    needed = sum(BINS * p - round(ratio * BINS * p) for p in patches)
    padded = len(patches) * (BINS * max(patches) - round(ratio * BINS * max(patches)))
    print(f"\n64 segments of {len(set(names))} sessions, {min(patches)} to {max(patches)} patches, ratio {ratio}")
    print(f"tokens: {model.encoder.count} encoded, {needed} needed; padded to the widest {padded}")
    print(f"ratio: {model.encoder.count / needed - 1:.1%} wasted, {padded / needed - 1:.0%} if padded")
    assert model.encoder.count < 1.05 * needed
    assert model.predictor.count < 1.05 * BINS * sum(patches)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple) else (out,):
            if isinstance(made, Tensor):
                self.elements = max(self.elements, made.numel())
        return out


def test_attention_makes_no_matrix_of_all_pairs() -> None:
    torch.manual_seed(0)
    model = PatchAutoencoder(SessionDims.from_sessions({"a": 192}, BINS), num_layers=1, predictor_num_layers=1).to(
        DEVICE
    )
    with Largest() as largest:
        model(torch.randn(1, BINS, 192, device=DEVICE), ["a"]).prediction.sum().backward()
    pairs = (6 * BINS) ** 2
    print(f"\n{6 * BINS} tokens: the largest tensor has {largest.elements} elements, all pairs of one head {pairs}")
    print(f"ratio: {largest.elements / pairs:.2f}")
    assert largest.elements < pairs
