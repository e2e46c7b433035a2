"""Spikes and LFP in one auto-encoder."""

import pytest
import torch
from helpers.lfp import NETWORK

from blend_pl.errors import ConfigError, DataError
from blend_pl.masking import TokenMasking
from blend_pl.models import MultimodalAutoencoder, PatchAutoencoder
from blend_pl.models.session_network import SessionDims

CHANNELS = {"a": 13, "b": 24, "c": 9}
UNITS = {"a": 5, "b": 11, "c": 3}
ROWS = ("b", "a", "c", "a")
BINS, N, C = 12, 14, 26
UNIT_PATCHES, PATCHES = {"a": 2, "b": 3, "c": 1}, {"a": 2, "b": 3, "c": 2}


@pytest.fixture
def network() -> MultimodalAutoencoder:
    torch.manual_seed(0)
    lfp = PatchAutoencoder(SessionDims.from_sessions(CHANNELS, BINS), **NETWORK)
    return MultimodalAutoencoder(lfp, UNITS, unit_patch=4).eval()


def values() -> torch.Tensor:
    torch.manual_seed(1)
    counts = torch.randint(0, 5, (len(ROWS), BINS, N)).float()
    return torch.cat([counts, torch.randn(len(ROWS), BINS, C)], -1)


def hidden() -> torch.Tensor:
    rows, generator = torch.arange(len(ROWS)), torch.Generator().manual_seed(0)
    drawn = [
        TokenMasking().draw_mask([patches[name] for name in ROWS], BINS, 4, rows, len(ROWS), generator)
        for patches in (UNIT_PATCHES, PATCHES)
    ]
    return torch.cat(drawn, -1)  # type: ignore[arg-type]


@pytest.mark.parametrize("masked", [False, True])
def test_a_segment_is_encoded_as_if_it_were_alone(network: MultimodalAutoencoder, masked: bool) -> None:
    batch, dropped = values(), hidden() if masked else None
    together = network(batch, ROWS, dropped, N)
    assert together.prediction.shape == batch.shape
    for row, name in enumerate(ROWS):
        own = None if dropped is None else dropped[row : row + 1]
        alone = network(batch[row : row + 1], [name], own, N)
        torch.testing.assert_close(alone.prediction[0], together.prediction[row])
        torch.testing.assert_close(alone.latents[0], together.latents[row])
        counts, waves = together.prediction[row].split([N, C], -1)
        assert counts[:, UNITS[name] :].count_nonzero() == waves[:, CHANNELS[name] :].count_nonzero() == 0
        assert counts[:, : UNITS[name]].count_nonzero() > 0
        assert waves[:, : CHANNELS[name]].count_nonzero() > 0


def test_what_is_hidden_or_not_there_changes_no_bit(network: MultimodalAutoencoder) -> None:
    batch, dropped = values(), hidden()
    places = torch.cat(
        [dropped[..., :4].repeat_interleave(4, -1)[..., :N], dropped[..., 4:].repeat_interleave(8, -1)[..., :C]], -1
    )
    spoilt = batch.masked_fill(places, 3.0)
    for row, name in enumerate(ROWS):
        spoilt[row, :, UNITS[name] : N] = 2.0
        spoilt[row, :, N + CHANNELS[name] :] = torch.nan
    first, second = network(batch, ROWS, dropped, N), network(spoilt, ROWS, dropped, N)
    assert torch.equal(first.prediction, second.prediction)
    assert torch.equal(first.latents, second.latents)


def test_latents_are_the_plain_mean_over_the_patches_of_both(network: MultimodalAutoencoder) -> None:
    tokens: list[torch.Tensor] = []
    network.lfp.encoder.register_forward_hook(lambda module, args, output: tokens.append(output))
    batch, dropped = values()[:1], hidden()[:1]
    latents = network(batch, ["b"], None, N).latents
    torch.testing.assert_close(latents, tokens[0].unflatten(1, (BINS, 6)).mean(2))
    encoding = network(batch, ["b"], dropped, N)
    places = (~torch.cat([dropped[0, :, :3], dropped[0, :, 4:7]], -1)).nonzero()
    for bin_ in range(BINS):
        rows = tokens[1][0, places[:, 0] == bin_]
        assert bool(encoding.latents_valid[0, bin_]) == (len(rows) > 0)
        torch.testing.assert_close(encoding.latents[0, bin_], rows.mean(0) if len(rows) else torch.zeros(32))


@pytest.mark.parametrize("columns", [slice(N), slice(N, None)])
def test_both_kinds_are_seen(network: MultimodalAutoencoder, columns: slice) -> None:
    batch = values()
    changed = batch.clone()
    changed[..., columns] += 1
    assert not torch.allclose(network(batch, ROWS, None, N).latents, network(changed, ROWS, None, N).latents)


def test_every_weight_learns(network: MultimodalAutoencoder) -> None:
    encoding = network.train()(values(), ROWS, hidden(), N)
    (encoding.prediction.square().mean() + encoding.latents.square().mean()).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_an_empty_share_of_a_batch(network: MultimodalAutoencoder) -> None:
    encoding = network(values()[:0], (), None, N)
    assert encoding.prediction.shape == (0, BINS, N + C)
    assert encoding.latents.shape == (0, BINS, network.d_model)


def test_sessions_come_later_and_weights_do_not(network: MultimodalAutoencoder) -> None:
    network.register_session("twin", 24, ["b"], 11)
    batch = values()[:1]
    assert torch.equal(network(batch, ["twin"], None, N).latents, network(batch, ["b"], None, N).latents)
    with pytest.raises(DataError, match="the session silent has no channels"):
        network.register_session("silent", 24, ["b"])
    with pytest.raises(ConfigError, match="cannot be initialized from another network"):
        network.init_from(network)
    with pytest.raises(ConfigError, match="3 neurons do not divide"):
        MultimodalAutoencoder(
            PatchAutoencoder(SessionDims.from_sessions(CHANNELS, BINS), **NETWORK), UNITS, unit_patch=3
        )
