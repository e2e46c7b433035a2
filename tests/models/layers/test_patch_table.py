"""Patch embeddings of sessions."""

import pytest
import torch

from blend_pl.errors import DataError
from blend_pl.models.layers.patch_table import PatchTable


@pytest.fixture
def table() -> PatchTable:
    torch.manual_seed(0)
    return PatchTable({"a": 5, "b": 9, "c": 7}, patch=4, d_model=3)


def test_each_patch_of_each_session_has_a_vector(table: PatchTable) -> None:
    assert [table.n_patches(name) for name in "abc"] == [2, 3, 2]
    assert table.weight.shape == (7, 3)
    assert torch.equal(table(["a", "c"]), torch.stack([table.session_embeddings("a"), table.session_embeddings("c")]))
    assert len(table.weight.unique(dim=0)) == 7
    assert table.channel_mask(["a", "c"]).flatten(1).sum(1).tolist() == [5, 7]
    assert table.rows_by_n_patches(["a", "b", "c", "b"]) == {2: [0, 2], 3: [1, 3]}


def test_new_session_averages_patches_of_related_sessions(table: PatchTable) -> None:
    before = table.weight.detach().clone()
    table.register("new", 16, related_sessions=["a", "b"])
    new = table.session_embeddings("new")
    torch.testing.assert_close(new[:2], (table.session_embeddings("a") + table.session_embeddings("b")[:2]) / 2)
    assert torch.equal(new[2], table.session_embeddings("b")[2])
    torch.testing.assert_close(new[3], (table.session_embeddings("a")[-1] + table.session_embeddings("b")[-1]) / 2)
    assert torch.equal(table.weight[:7], before)


def test_invalid_sessions_raise(table: PatchTable) -> None:
    with pytest.raises(DataError, match="registered already"):
        table.register("a", 3)
    with pytest.raises(DataError, match="no channels"):
        table.register("d", 0)
    with pytest.raises(DataError, match="session x is not registered in this network; call register_session first"):
        table(["x"])
