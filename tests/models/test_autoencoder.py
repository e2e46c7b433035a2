"""The patch transformer as a masked auto-encoder, shared by sessions or one for each."""

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
ROWS = ("b", "a", "d", "c", "a")
BINS = 12

Make = Callable[[SessionDims], SessionNetwork]
KINDS: dict[str, Make] = {
    "shared": partial(PatchAutoencoder, **NETWORK),
    "counts": partial(PatchAutoencoder, embedding=CountPatches, **NETWORK),
    "separate": partial(PerSessionNetworks, build_network=partial(PatchAutoencoder, **NETWORK)),
}


@pytest.fixture(params=KINDS)
def network(request: pytest.FixtureRequest) -> SessionNetwork:
    torch.manual_seed(0)
    return KINDS[request.param](SessionDims.from_sessions(SESSIONS, BINS)).eval()


@pytest.fixture
def shared() -> PatchAutoencoder:
    torch.manual_seed(0)
    made = KINDS["shared"](SessionDims.from_sessions(SESSIONS, BINS)).eval()
    assert isinstance(made, PatchAutoencoder)
    return made


def values() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(0, 5, (len(ROWS), BINS, 24)).float()


def hidden(ratio: float = 0.6) -> torch.Tensor:
    patches = [PATCHES[name] for name in ROWS]
    rows, generator = torch.arange(len(ROWS)), torch.Generator().manual_seed(0)
    dropped = TokenMasking(ratio).draw_mask(patches, BINS, 3, rows, len(ROWS), generator)
    assert dropped is not None
    return dropped


def test_an_encoding_has_the_shape_of_its_batch(network: SessionNetwork) -> None:
    encoding = network(values(), ROWS)
    assert encoding.prediction.shape == (5, BINS, 24)
    assert encoding.latents.shape == (5, BINS, network.d_model)
    for row, name in enumerate(ROWS):
        assert encoding.prediction[row, :, : SESSIONS[name]].count_nonzero() > 0
        assert encoding.prediction[row, :, SESSIONS[name] :].count_nonzero() == 0


@pytest.mark.parametrize("masked", [False, True])
def test_a_segment_is_encoded_as_if_it_were_alone(network: SessionNetwork, masked: bool) -> None:
    """Nothing of the others, of their number or of how wide they are."""
    batch, dropped = values(), hidden() if masked else None
    together = network(batch, ROWS, dropped)
    for row, name in enumerate(ROWS):
        own = None if dropped is None else dropped[row : row + 1]
        alone = network(batch[row : row + 1, :, : SESSIONS[name]], [name], own)
        torch.testing.assert_close(alone.prediction[0], together.prediction[row, :, : SESSIONS[name]])
        torch.testing.assert_close(alone.latents[0], together.latents[row])


def test_what_is_hidden_or_not_there_changes_no_bit(network: SessionNetwork) -> None:
    batch, dropped = values(), hidden()
    spoilt = batch.masked_fill(dropped.repeat_interleave(8, -1)[..., :24], 7.0)
    for row, name in enumerate(ROWS):
        spoilt[row, :, SESSIONS[name] :] = torch.nan
    first, second = network(batch, ROWS, dropped), network(spoilt, ROWS, dropped)
    assert torch.equal(first.prediction, second.prediction)
    assert torch.equal(first.latents, second.latents)


def test_latents_are_the_plain_mean_over_the_patches_of_a_bin(shared: PatchAutoencoder) -> None:
    """And over nothing else: no row of zeros beside them."""
    tokens: list[torch.Tensor] = []
    shared.encoder.register_forward_hook(lambda module, args, output: tokens.append(output))
    batch = values()[:1]
    latents = shared(batch, ["b"]).latents
    torch.testing.assert_close(latents, tokens[0].unflatten(1, (BINS, 3)).mean(2))
    dropped = hidden()[:1]
    encoding = shared(batch, ["b"], dropped)
    places = (~dropped[0, :, :3]).nonzero()
    for bin_ in range(BINS):
        rows = tokens[1][0, places[:, 0] == bin_]
        assert bool(encoding.latents_valid[0, bin_]) == (len(rows) > 0)
        wanted = rows.mean(0) if len(rows) else torch.zeros(shared.d_model)
        torch.testing.assert_close(encoding.latents[0, bin_], wanted)


def test_pooling_copies_and_scales_nothing() -> None:
    tokens, times = torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[0, 0, 2]])
    means, valid = mean_over_patches(tokens, times, 3)
    assert means[0, :, 0].tolist() == [3.0, 0.0, 9.0]
    assert valid[0].tolist() == [True, False, True]


def test_the_encoder_sees_visible_tokens_alone(shared: PatchAutoencoder) -> None:
    lengths: list[int] = []
    shared.encoder.register_forward_hook(
        lambda module, args, output: lengths.append(args[0].shape[0] * args[0].shape[1])
    )
    shared(values(), ROWS, hidden())
    # Three groups of equally many patches, without padding.
    wanted = sum(PATCHES[name] * BINS - round(0.6 * PATCHES[name] * BINS) for name in ROWS)
    assert sum(lengths) == wanted
    assert len(lengths) == 3


def test_rows_that_show_unequally_many_tokens_are_refused() -> None:
    assert visible_indices(torch.tensor([[True, False, True, False]])).tolist() == [[1, 3]]
    with pytest.raises(ValueError, match="mask the same number in each row"):
        visible_indices(torch.tensor([[True, False], [False, False]]))


def test_positions_are_times(shared: PatchAutoencoder) -> None:
    """A permutation of the patches of a bin, with their vectors, permutes nothing but themselves."""
    batch = values()[:1]
    swapped = batch.unflatten(-1, (3, 8))[:, :, [2, 0, 1]].flatten(-2)
    before = shared(batch, ["b"]).latents
    rows = shared.table.session_embeddings("b")
    with torch.no_grad():
        rows.copy_(rows[[2, 0, 1]].clone())
    torch.testing.assert_close(shared(swapped, ["b"]).latents, before)
    assert not torch.allclose(shared(batch.flip(1), ["b"]).latents.flip(1), before, atol=1e-3)


def test_the_base_of_rotary_positions_is_that_of_encoder_and_predictor(shared: PatchAutoencoder) -> None:
    other = PatchAutoencoder(SessionDims.from_sessions(SESSIONS, BINS), **NETWORK, rope_base=100.0).eval()
    other.load_state_dict(shared.state_dict())
    assert {shared.encoder.rope_base, shared.predictor.rope_base} == {10_000.0}
    assert {other.encoder.rope_base, other.predictor.rope_base} == {100.0}
    assert not torch.allclose(other(values(), ROWS).latents, shared(values(), ROWS).latents, atol=1e-4)


def test_attention_equals_its_definition() -> None:
    torch.manual_seed(0)
    attention, tokens = RotaryAttention(8, 2), torch.randn(1, 5, 8)
    none = torch.zeros(1, 5, dtype=torch.long)
    cosine, sine = (part[:, None] for part in rotary_cos_sin(none, 4))
    q, k, v = attention.qkv(tokens).view(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    wanted = (q @ k.mT / 2).softmax(-1) @ v
    torch.testing.assert_close(attention(tokens, cosine, sine), attention.out(wanted.transpose(1, 2).flatten(-2)))


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple) else (out,):
            if isinstance(made, torch.Tensor):
                self.elements = max(self.elements, made.numel())
        return out


def test_no_matrix_of_all_pairs_is_made(shared: PatchAutoencoder) -> None:
    shared.train()
    bins = 600
    with Largest() as largest:
        shared(torch.randn(1, bins, 24), ["b"]).latents.sum().backward()
    assert largest.elements < (3 * bins) ** 2 / 4


def test_every_weight_learns(network: SessionNetwork) -> None:
    network.train()
    encoding = network(values(), ROWS, hidden())
    (encoding.prediction.square().mean() + encoding.latents.square().mean()).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_an_empty_share_of_a_batch(network: SessionNetwork) -> None:
    encoding = network(values()[:0], ())
    assert encoding.prediction.shape == (0, BINS, 24)
    assert encoding.latents.shape == (0, BINS, network.d_model)


def test_a_new_session_runs_through_the_weights_of_those_it_is_like(network: SessionNetwork) -> None:
    before = network(values()[:1], ["b"]).latents
    network.register_session("new", 20, related_sessions=["b", "a"])
    assert network.n_patches("new") == 3
    assert network(values()[:1], ["new"]).latents.isfinite().all()
    assert torch.equal(network(values()[:1], ["b"]).latents, before)
    with pytest.raises(DataError, match="registered already"):
        network.register_session("new", 20, related_sessions=["b"])


def test_a_session_like_one_other_is_encoded_like_it(network: SessionNetwork) -> None:
    network.register_session("twin", 24, related_sessions=["b"])
    batch = values()[:1]
    assert torch.equal(network(batch, ["twin"]).latents, network(batch, ["b"]).latents)


def test_separate_networks_have_nothing_in_common() -> None:
    torch.manual_seed(0)
    network = KINDS["separate"](SessionDims.from_sessions(SESSIONS, BINS))
    network(values()[:2], ROWS[:2]).latents.sum().backward()
    moved = [any(w.grad is not None and w.grad.any() for w in each.parameters()) for each in network.networks]
    assert moved == [True, True, False, False]
    with pytest.raises(DataError, match="name a related session"):
        network.register_session("new", 3)
    with pytest.raises(DataError, match="the session new is not registered in any network"):
        network(values()[:1], ["new"])


def test_networks_of_single_sessions_begin_as_one_of_all(shared: PatchAutoencoder) -> None:
    separate = KINDS["separate"](SessionDims.from_sessions({"a": 13, "c": 9}, BINS)).eval()
    separate.init_from(shared)
    batch, rows = values()[:2], ["a", "c"]
    torch.testing.assert_close(separate(batch, rows).latents, shared(batch, rows).latents)
    again = KINDS["separate"](SessionDims.from_sessions({"c": 9}, BINS)).eval()
    again.init_from(separate)
    torch.testing.assert_close(again(batch[1:], ["c"]).latents, shared(batch[1:], ["c"]).latents)


def test_networks_that_do_not_fit_are_refused(shared: PatchAutoencoder) -> None:
    wider = PatchAutoencoder(SessionDims.from_sessions(SESSIONS, BINS), **{**NETWORK, "d_model": 64})
    with pytest.raises(ConfigError, match="has other sizes"):
        wider.init_from(shared)
    with pytest.raises(ConfigError, match="cannot be initialized from per-session networks"):
        shared.init_from(KINDS["separate"](SessionDims.from_sessions(SESSIONS, BINS)))
    with pytest.raises(ConfigError, match="3 heads do not divide a width of 32"):
        PatchAutoencoder(SessionDims.from_sessions(SESSIONS, BINS), **{**NETWORK, "num_heads": 3})


def test_mixed_precision_trains(network: SessionNetwork) -> None:
    network.train()
    for dropped in (None, hidden()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            encoding: Encoding = network(values(), ROWS, dropped)
        (encoding.prediction.float().square().mean() + encoding.latents.float().square().mean()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_a_state_is_loaded_where_sessions_are_the_same(shared: PatchAutoencoder) -> None:
    torch.manual_seed(5)
    other: nn.Module = KINDS["shared"](SessionDims.from_sessions(SESSIONS, BINS)).eval()
    other.load_state_dict(shared.state_dict())
    assert torch.equal(other(values(), ROWS).latents, shared(values(), ROWS).latents)
