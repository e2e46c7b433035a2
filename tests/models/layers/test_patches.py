"""Rotary positions, patches, and what is learned of one session alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.errors import ConfigError, DataError
from blend_pl.models.layers.patches import CountPatches, PatchTable, SessionDims, WaveformPatches
from blend_pl.models.layers.rope import apply_rotary, rotary_cos_sin


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 90))
def test_a_rotated_product_depends_on_the_distance_alone(first: int, second: int, shift: int) -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, dtype=torch.float64)

    def product(a: int, b: int) -> float:
        turned = [
            apply_rotary(v, *rotary_cos_sin(torch.tensor(float(t), dtype=torch.float64), 8))
            for v, t in ((q, a), (k, b))
        ]
        return float(turned[0] @ turned[1])

    assert math.isclose(product(first, second), product(first + shift, second + shift), abs_tol=1e-4)


def test_a_rotation_keeps_lengths_and_turns() -> None:
    vector = torch.randn(4, 6)
    turned = apply_rotary(vector, *rotary_cos_sin(torch.arange(4), 6))
    torch.testing.assert_close(turned.norm(dim=-1), vector.norm(dim=-1))
    assert torch.equal(turned[0], vector[0])
    assert not torch.allclose(turned[1], vector[1])


def test_counts_are_clamped_and_neurons_that_are_not_there_say_nothing() -> None:
    embed = CountPatches(patch=2, d_model=6)
    values = torch.tensor([[0.0, 9.0], [5.0, 5.0]]).view(1, 2, 1, 2)
    tokens = embed(values, torch.ones(1, 1, 2, dtype=torch.bool))
    assert tokens.shape == (1, 2, 1, 6)
    assert torch.equal(tokens[0, 0, 0, 3:], tokens[0, 1, 0, 3:])
    absent = embed(values, torch.tensor([[[True, False]]]))
    assert absent[..., 3:].count_nonzero() == 0
    assert torch.equal(absent[..., :3], tokens[..., :3])


def test_a_token_of_counts_begins_as_a_sum_over_spikes() -> None:
    embed, present = CountPatches(patch=2, d_model=6), torch.ones(1, 1, 2, dtype=torch.bool)
    one, two = (embed(torch.tensor([k, 2 * k]).view(1, 1, 1, 2), present) for k in (1.0, 2.0))
    assert one.count_nonzero() == 6
    torch.testing.assert_close(two, 2 * one)
    assert embed(torch.zeros(1, 1, 1, 2), present).count_nonzero() == 0


def test_a_width_that_neurons_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="5 neurons do not divide a token of width 32"):
        CountPatches(5, 32)


def test_a_convolution_sees_the_past_alone() -> None:
    torch.manual_seed(0)
    embed = WaveformPatches(patch=3, d_model=4, kernel=3, dilation=2)
    values = torch.randn(1, 12, 2, 3)
    present = torch.ones(1, 2, 3, dtype=torch.bool)
    changed = values.clone()
    changed[:, 5] += 1
    moved = (embed(values, present) != embed(changed, present)).any(-1).any(-1)[0]
    assert moved.nonzero()[:, 0].tolist() == [5, 7, 9]


def test_a_channel_that_is_not_there_is_not_read() -> None:
    embed = WaveformPatches(patch=3, d_model=4)
    values, present = torch.randn(1, 6, 1, 3), torch.tensor([[[True, True, False]]])
    spoilt = values.clone()
    spoilt[..., 2] = torch.nan
    assert torch.equal(embed(values, present), embed(spoilt, present))


@pytest.fixture
def table() -> PatchTable:
    torch.manual_seed(0)
    return PatchTable({"a": 5, "b": 9, "c": 7}, patch=4, d_model=3)


def test_every_patch_of_every_session_has_its_own_vector(table: PatchTable) -> None:
    assert [table.n_patches(name) for name in "abc"] == [2, 3, 2]
    assert table.weight.shape == (7, 3)
    assert torch.equal(table(["a", "c"]), torch.stack([table.session_embeddings("a"), table.session_embeddings("c")]))
    assert len(table.weight.unique(dim=0)) == 7
    assert table.channel_mask(["a", "c"]).flatten(1).sum(1).tolist() == [5, 7]
    assert table.rows_by_n_patches(["a", "b", "c", "b"]) == {2: [0, 2], 3: [1, 3]}


def test_a_new_session_is_like_others_patch_by_patch(table: PatchTable) -> None:
    before = table.weight.detach().clone()
    table.register("new", 16, related_sessions=["a", "b"])
    new = table.session_embeddings("new")
    torch.testing.assert_close(new[:2], (table.session_embeddings("a") + table.session_embeddings("b")[:2]) / 2)
    assert torch.equal(new[2], table.session_embeddings("b")[2])
    torch.testing.assert_close(new[3], (table.session_embeddings("a")[-1] + table.session_embeddings("b")[-1]) / 2)
    assert torch.equal(table.weight[:7], before)


def test_sessions_that_cannot_be_registered(table: PatchTable) -> None:
    with pytest.raises(DataError, match="registered already"):
        table.register("a", 3)
    with pytest.raises(DataError, match="no channels"):
        table.register("d", 0)
    with pytest.raises(DataError, match="does not know the session x; register_session it first"):
        table(["x"])


def test_sizes_are_those_of_the_widest_session() -> None:
    dims = SessionDims.from_sessions({"a": 3, "b": 8}, bins=20)
    assert (dims.channels, dims.neurons, dims.bins, dims.context) == (8, 8, 20, 0)
    assert dims.for_session("a") == SessionDims.from_sessions({"a": 3}, 20)
