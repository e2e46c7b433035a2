"""Tests of the patch autoencoder, shared by all sessions or with one network per session."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from helpers.lfp import NETWORK
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from blend_pl.errors import ConfigError, DataError
from blend_pl.masking import TokenMasking
from blend_pl.models import Encoding, PatchAutoencoder, PerSessionNetworks
from blend_pl.models.autoencoder import mean_over_patches, visible_indices
from blend_pl.models.layers.patches import CountPatches
from blend_pl.models.layers.rope import rotary_cos_sin
from blend_pl.models.layers.rotary_transformer import RotaryAttention
from blend_pl.models.session_network import SessionDims, SessionNetwork

SESSIONS = {"a": 13, "b": 24, "c": 9, "d": 5}
PATCHES = {"a": 2, "b": 3, "c": 2, "d": 1}
ROW_SESSIONS = ("b", "a", "d", "c", "a")
BINS = 12

NetworkFactory = Callable[[SessionDims], SessionNetwork]
FACTORIES: dict[str, NetworkFactory] = {
    "shared": partial(PatchAutoencoder, **NETWORK),
    "counts": partial(PatchAutoencoder, embedding=CountPatches, **NETWORK),
    "separate": partial(PerSessionNetworks, build_network=partial(PatchAutoencoder, **NETWORK)),
}


@pytest.fixture(params=FACTORIES)
def network(request: pytest.FixtureRequest) -> SessionNetwork:
    torch.manual_seed(0)
    return FACTORIES[request.param](SessionDims.from_sessions(SESSIONS, BINS)).eval()


@pytest.fixture
def shared_network() -> PatchAutoencoder:
    torch.manual_seed(0)
    network = FACTORIES["shared"](SessionDims.from_sessions(SESSIONS, BINS)).eval()
    assert isinstance(network, PatchAutoencoder)
    return network


def values() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(0, 5, (len(ROW_SESSIONS), BINS, 24)).float()


def draw_patch_mask(ratio: float = 0.6) -> torch.Tensor:
    patches = [PATCHES[name] for name in ROW_SESSIONS]
    rows, generator = torch.arange(len(ROW_SESSIONS)), torch.Generator().manual_seed(0)
    patch_mask = TokenMasking(ratio).draw_mask(patches, BINS, 3, rows, len(ROW_SESSIONS), generator)
    assert patch_mask is not None
    return patch_mask


def test_encoding_has_shape_of_batch(network: SessionNetwork) -> None:
    encoding = network(values(), ROW_SESSIONS)
    assert encoding.prediction.shape == (5, BINS, 24)
    assert encoding.latents.shape == (5, BINS, network.d_model)
    for row, name in enumerate(ROW_SESSIONS):
        assert encoding.prediction[row, :, : SESSIONS[name]].count_nonzero() > 0
        assert encoding.prediction[row, :, SESSIONS[name] :].count_nonzero() == 0


@pytest.mark.parametrize("masked", [False, True])
def test_segment_encoding_does_not_depend_on_batch(network: SessionNetwork, masked: bool) -> None:
    """Other segments, their number and their channels do not change the encoding of a segment."""
    batch, patch_mask = values(), draw_patch_mask() if masked else None
    together = network(batch, ROW_SESSIONS, patch_mask)
    for row, name in enumerate(ROW_SESSIONS):
        row_mask = None if patch_mask is None else patch_mask[row : row + 1]
        separate = network(batch[row : row + 1, :, : SESSIONS[name]], [name], row_mask)
        torch.testing.assert_close(separate.prediction[0], together.prediction[row, :, : SESSIONS[name]])
        torch.testing.assert_close(separate.latents[0], together.latents[row])


def test_masked_and_missing_values_have_no_influence(network: SessionNetwork) -> None:
    batch, patch_mask = values(), draw_patch_mask()
    corrupted = batch.masked_fill(patch_mask.repeat_interleave(8, -1)[..., :24], 7.0)
    for row, name in enumerate(ROW_SESSIONS):
        corrupted[row, :, SESSIONS[name] :] = torch.nan
    first, second = network(batch, ROW_SESSIONS, patch_mask), network(corrupted, ROW_SESSIONS, patch_mask)
    assert torch.equal(first.prediction, second.prediction)
    assert torch.equal(first.latents, second.latents)


def test_latents_are_mean_over_visible_patches(shared_network: PatchAutoencoder) -> None:
    tokens: list[torch.Tensor] = []
    shared_network.encoder.register_forward_hook(lambda module, args, output: tokens.append(output))
    batch = values()[:1]
    latents = shared_network(batch, ["b"]).latents
    torch.testing.assert_close(latents, tokens[0].unflatten(1, (BINS, 3)).mean(2))
    patch_mask = draw_patch_mask()[:1]
    encoding = shared_network(batch, ["b"], patch_mask)
    positions = (~patch_mask[0, :, :3]).nonzero()
    for bin_ in range(BINS):
        rows = tokens[1][0, positions[:, 0] == bin_]
        assert bool(encoding.latents_valid[0, bin_]) == (len(rows) > 0)
        expected = rows.mean(0) if len(rows) else torch.zeros(shared_network.d_model)
        torch.testing.assert_close(encoding.latents[0, bin_], expected)


def test_mean_over_patches() -> None:
    tokens, times = torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[0, 0, 2]])
    means, valid = mean_over_patches(tokens, times, 3)
    assert means[0, :, 0].tolist() == [3.0, 0.0, 9.0]
    assert valid[0].tolist() == [True, False, True]


def test_encoder_receives_only_visible_tokens(shared_network: PatchAutoencoder) -> None:
    lengths: list[int] = []
    shared_network.encoder.register_forward_hook(
        lambda module, args, output: lengths.append(args[0].shape[0] * args[0].shape[1])
    )
    shared_network(values(), ROW_SESSIONS, draw_patch_mask())
    # Three groups of sessions with the same number of patches, without padding.
    expected = sum(PATCHES[name] * BINS - round(0.6 * PATCHES[name] * BINS) for name in ROW_SESSIONS)
    assert sum(lengths) == expected
    assert len(lengths) == 3


def test_different_numbers_of_visible_tokens_raise() -> None:
    assert visible_indices(torch.tensor([[True, False, True, False]])).tolist() == [[1, 3]]
    with pytest.raises(ValueError, match="mask the same number in each row"):
        visible_indices(torch.tensor([[True, False], [False, False]]))


def test_latents_are_invariant_to_patch_permutation(shared_network: PatchAutoencoder) -> None:
    """The embeddings of the patches are permuted too. Reversing time, in contrast, changes the latents."""
    batch = values()[:1]
    swapped = batch.unflatten(-1, (3, 8))[:, :, [2, 0, 1]].flatten(-2)
    before = shared_network(batch, ["b"]).latents
    rows = shared_network.table.session_embeddings("b")
    with torch.no_grad():
        rows.copy_(rows[[2, 0, 1]].clone())
    torch.testing.assert_close(shared_network(swapped, ["b"]).latents, before)
    assert not torch.allclose(shared_network(batch.flip(1), ["b"]).latents.flip(1), before, atol=1e-3)


def test_rope_base_is_used_by_encoder_and_predictor(shared_network: PatchAutoencoder) -> None:
    other = PatchAutoencoder(SessionDims.from_sessions(SESSIONS, BINS), **NETWORK, rope_base=100.0).eval()
    other.load_state_dict(shared_network.state_dict())
    assert {shared_network.encoder.rope_base, shared_network.predictor.rope_base} == {10_000.0}
    assert {other.encoder.rope_base, other.predictor.rope_base} == {100.0}
    assert not torch.allclose(
        other(values(), ROW_SESSIONS).latents, shared_network(values(), ROW_SESSIONS).latents, atol=1e-4
    )


def test_attention_matches_definition() -> None:
    torch.manual_seed(0)
    attention, tokens = RotaryAttention(8, 2), torch.randn(1, 5, 8)
    zero_positions = torch.zeros(1, 5, dtype=torch.long)
    cosine, sine = (part[:, None] for part in rotary_cos_sin(zero_positions, 4))
    q, k, v = attention.qkv(tokens).view(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    expected = (q @ k.mT / 2).softmax(-1) @ v
    torch.testing.assert_close(attention(tokens, cosine, sine), attention.out(expected.transpose(1, 2).flatten(-2)))


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that is created."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_attention_matrix_is_not_stored(shared_network: PatchAutoencoder) -> None:
    shared_network.train()
    bins = 600
    with LargestTensor() as largest:
        shared_network(torch.randn(1, bins, 24), ["b"]).latents.sum().backward()
    assert largest.elements < (3 * bins) ** 2 / 4


def test_every_weight_gets_gradients(network: SessionNetwork) -> None:
    network.train()
    encoding = network(values(), ROW_SESSIONS, draw_patch_mask())
    (encoding.prediction.square().mean() + encoding.latents.square().mean()).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_empty_batch(network: SessionNetwork) -> None:
    encoding = network(values()[:0], ())
    assert encoding.prediction.shape == (0, BINS, 24)
    assert encoding.latents.shape == (0, BINS, network.d_model)


def test_new_session_uses_existing_weights(network: SessionNetwork) -> None:
    before = network(values()[:1], ["b"]).latents
    network.register_session("new", 20, related_sessions=["b", "a"])
    assert network.n_patches("new") == 3
    assert network(values()[:1], ["new"]).latents.isfinite().all()
    assert torch.equal(network(values()[:1], ["b"]).latents, before)
    with pytest.raises(DataError, match="registered already"):
        network.register_session("new", 20, related_sessions=["b"])


def test_session_with_one_related_session_has_same_encoding(network: SessionNetwork) -> None:
    network.register_session("twin", 24, related_sessions=["b"])
    batch = values()[:1]
    assert torch.equal(network(batch, ["twin"]).latents, network(batch, ["b"]).latents)


def test_per_session_networks_share_no_weights() -> None:
    torch.manual_seed(0)
    network = FACTORIES["separate"](SessionDims.from_sessions(SESSIONS, BINS))
    network(values()[:2], ROW_SESSIONS[:2]).latents.sum().backward()
    has_gradient = [
        any(w.grad is not None and w.grad.any() for w in single.parameters()) for single in network.networks
    ]
    assert has_gradient == [True, True, False, False]
    with pytest.raises(DataError, match="name a related session"):
        network.register_session("new", 3)
    with pytest.raises(DataError, match="the session new is not registered in any network"):
        network(values()[:1], ["new"])


def test_per_session_networks_are_initialized_from_shared_network(shared_network: PatchAutoencoder) -> None:
    separate = FACTORIES["separate"](SessionDims.from_sessions({"a": 13, "c": 9}, BINS)).eval()
    separate.init_from(shared_network)
    batch, rows = values()[:2], ["a", "c"]
    torch.testing.assert_close(separate(batch, rows).latents, shared_network(batch, rows).latents)
    reloaded = FACTORIES["separate"](SessionDims.from_sessions({"c": 9}, BINS)).eval()
    reloaded.init_from(separate)
    torch.testing.assert_close(reloaded(batch[1:], ["c"]).latents, shared_network(batch[1:], ["c"]).latents)


def test_incompatible_networks_raise(shared_network: PatchAutoencoder) -> None:
    wider = PatchAutoencoder(SessionDims.from_sessions(SESSIONS, BINS), **{**NETWORK, "d_model": 64})
    with pytest.raises(ConfigError, match="has other sizes"):
        wider.init_from(shared_network)
    with pytest.raises(ConfigError, match="cannot be initialized from per-session networks"):
        shared_network.init_from(FACTORIES["separate"](SessionDims.from_sessions(SESSIONS, BINS)))
    with pytest.raises(ConfigError, match="3 heads do not divide a width of 32"):
        PatchAutoencoder(SessionDims.from_sessions(SESSIONS, BINS), **{**NETWORK, "num_heads": 3})


def test_mixed_precision_trains(network: SessionNetwork) -> None:
    network.train()
    for patch_mask in (None, draw_patch_mask()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            encoding: Encoding = network(values(), ROW_SESSIONS, patch_mask)
        (encoding.prediction.float().square().mean() + encoding.latents.float().square().mean()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_state_dict_loads_for_same_sessions(shared_network: PatchAutoencoder) -> None:
    torch.manual_seed(5)
    other: nn.Module = FACTORIES["shared"](SessionDims.from_sessions(SESSIONS, BINS)).eval()
    other.load_state_dict(shared_network.state_dict())
    assert torch.equal(other(values(), ROW_SESSIONS).latents, shared_network(values(), ROW_SESSIONS).latents)
