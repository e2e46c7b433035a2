"""The autoencoder of spikes and LFP."""

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


def draw_patch_mask() -> torch.Tensor:
    rows, generator = torch.arange(len(ROWS)), torch.Generator().manual_seed(0)
    drawn = [
        TokenMasking().draw_mask([patches[name] for name in ROWS], BINS, 4, rows, len(ROWS), generator)
        for patches in (UNIT_PATCHES, PATCHES)
    ]
    return torch.cat(drawn, -1)  # type: ignore[arg-type]


@pytest.mark.parametrize("masked", [False, True])
def test_segment_encoding_does_not_depend_on_batch(network: MultimodalAutoencoder, masked: bool) -> None:
    batch, patch_mask = values(), draw_patch_mask() if masked else None
    together = network(batch, ROWS, patch_mask, N)
    assert together.prediction.shape == batch.shape
    for row, name in enumerate(ROWS):
        row_mask = None if patch_mask is None else patch_mask[row : row + 1]
        separate = network(batch[row : row + 1], [name], row_mask, N)
        torch.testing.assert_close(separate.prediction[0], together.prediction[row])
        torch.testing.assert_close(separate.latents[0], together.latents[row])
        counts, waves = together.prediction[row].split([N, C], -1)
        assert counts[:, UNITS[name] :].count_nonzero() == waves[:, CHANNELS[name] :].count_nonzero() == 0
        assert counts[:, : UNITS[name]].count_nonzero() > 0
        assert waves[:, : CHANNELS[name]].count_nonzero() > 0


def test_masked_and_missing_values_have_no_influence(network: MultimodalAutoencoder) -> None:
    batch, patch_mask = values(), draw_patch_mask()
    positions = torch.cat(
        [patch_mask[..., :4].repeat_interleave(4, -1)[..., :N], patch_mask[..., 4:].repeat_interleave(8, -1)[..., :C]],
        -1,
    )
    corrupted = batch.masked_fill(positions, 3.0)
    for row, name in enumerate(ROWS):
        corrupted[row, :, UNITS[name] : N] = 2.0
        corrupted[row, :, N + CHANNELS[name] :] = torch.nan
    first, second = network(batch, ROWS, patch_mask, N), network(corrupted, ROWS, patch_mask, N)
    assert torch.equal(first.prediction, second.prediction)
    assert torch.equal(first.latents, second.latents)


def test_latents_are_mean_over_visible_patches_of_both_modalities(network: MultimodalAutoencoder) -> None:
    tokens: list[torch.Tensor] = []
    network.lfp.encoder.register_forward_hook(lambda module, args, output: tokens.append(output))
    batch, patch_mask = values()[:1], draw_patch_mask()[:1]
    latents = network(batch, ["b"], None, N).latents
    torch.testing.assert_close(latents, tokens[0].unflatten(1, (BINS, 6)).mean(2))
    encoding = network(batch, ["b"], patch_mask, N)
    positions = (~torch.cat([patch_mask[0, :, :3], patch_mask[0, :, 4:7]], -1)).nonzero()
    for bin_ in range(BINS):
        rows = tokens[1][0, positions[:, 0] == bin_]
        assert bool(encoding.latents_valid[0, bin_]) == (len(rows) > 0)
        torch.testing.assert_close(encoding.latents[0, bin_], rows.mean(0) if len(rows) else torch.zeros(32))


@pytest.mark.parametrize("columns", [slice(N), slice(N, None)])
def test_both_modalities_have_influence(network: MultimodalAutoencoder, columns: slice) -> None:
    batch = values()
    changed = batch.clone()
    changed[..., columns] += 1
    assert not torch.allclose(network(batch, ROWS, None, N).latents, network(changed, ROWS, None, N).latents)


def test_every_weight_gets_gradients(network: MultimodalAutoencoder) -> None:
    encoding = network.train()(values(), ROWS, draw_patch_mask(), N)
    (encoding.prediction.square().mean() + encoding.latents.square().mean()).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_empty_batch(network: MultimodalAutoencoder) -> None:
    encoding = network(values()[:0], (), None, N)
    assert encoding.prediction.shape == (0, BINS, N + C)
    assert encoding.latents.shape == (0, BINS, network.d_model)


def test_sessions_can_be_added_and_weights_not_copied(network: MultimodalAutoencoder) -> None:
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
