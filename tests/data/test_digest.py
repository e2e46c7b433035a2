"""Digests of arrays, of sessions and of data modules."""

import os
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.calcium import SPEC as CALCIUM_SPEC
from helpers.calcium import tiny_calcium
from helpers.lfp import InMemory, in_memory, recording
from helpers.sessions import TINY, session_of, tiny_module
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from blend_pl.data import NLBDataModule
from blend_pl.data.digest import DIGEST_LENGTH, content_digest
from blend_pl.data.nlb.session import session_digest

RNG = np.random.default_rng(0)
COUNTS, VELOCITY = RNG.poisson(0.5, (40, 30, 12)), RNG.normal(size=(40, 30, 2))

arrays = npst.arrays(
    st.sampled_from([np.uint8, np.int64, np.float32, np.float64, np.bool_]), npst.array_shapes(max_dims=3, max_side=4)
)


@given(array=arrays, index=st.integers(0, 10**6))
def test_digest_depends_on_every_value_and_not_on_the_layout_in_memory(array: np.ndarray, index: int) -> None:
    digest = content_digest({"x": array})
    assert len(digest) == DIGEST_LENGTH
    assert content_digest({"x": torch.from_numpy(array)}) == digest
    assert content_digest({"x": np.asfortranarray(array)}) == digest
    changed = array.copy()
    position = np.unravel_index(index % array.size, array.shape)
    changed[position] = not array[position] if array.dtype == np.bool_ else 3 if array[position] != 3 else 4
    assert content_digest({"x": changed}) != digest


@given(arrays)
def test_digest_depends_on_shape_and_type(array: np.ndarray) -> None:
    assert content_digest(array[None]) != content_digest(array)
    assert content_digest(array.astype(np.complex128)) != content_digest(array)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([["a"], "b"], ["a", ["b"]]),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": True}),
        ({"a": None}, {}),
        (np.array(["a", "b"]), np.array(["a", "c"])),
    ],
)
def test_different_content_of_similar_text_has_different_digests(first: Any, second: Any) -> None:
    assert content_digest(first) != content_digest(second)


def test_order_of_keys_and_width_of_text_arrays_do_not_count() -> None:
    assert content_digest({"a": 1, "b": (2, 3)}) == content_digest({"b": [2, 3], "a": 1})
    assert content_digest(np.array(["a", "bcd"])[:1]) == content_digest(np.array(["a"]))


def test_other_types_raise() -> None:
    with pytest.raises(TypeError, match="Path"):
        content_digest({"file": [Path("x")]})


def test_digest_of_a_session_depends_on_what_is_seen_and_scored() -> None:
    session = session_of()
    digest = session_digest(session)
    assert session_digest(session.select(torch.arange(len(session)))) == digest
    for field in fields(session):
        if field.name in ("left_out", "series_target"):  # Text that describes the other fields.
            continue
        value = getattr(session, field.name)
        changed = value + 1 if isinstance(value, int) else ~value if value.dtype == torch.bool else value + 1
        is_changed = session_digest(replace(session, **{field.name: changed})) != digest
        assert is_changed == (field.name not in ("psth", "start_bin"))


def test_digest_of_trials_depends_on_content_and_not_on_folder_batch_size_or_cache(tmp_path: Path) -> None:
    first = tiny_module(tmp_path / "a")
    assert first.digest is not None
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.nwb"):
        os.utime(path, (0, 0))
    for changes in ({}, {"batch_size": 4, "eval_batch_size": 3}, {"cache_dir": str(tmp_path / "cache")}):
        assert tiny_module(tmp_path / "b", **changes).digest == first.digest
    other_digests = [
        tiny_module(tmp_path / "b", **changes).digest
        for changes in (
            {"simulation": replace(TINY, seed=1)},
            {"holdout": 0.4},
            {"selection_split": "val"},
            {"phase": "test"},
            {"bin_ms": 10},
        )
    ]
    assert len({first.digest, *other_digests}) == 6


def test_test_trials_alone_have_no_digest(tmp_path: Path) -> None:
    module = tiny_module(tmp_path, phase="test")
    alone = NLBDataModule(module.spec, str(tmp_path), 20, "test", "simulated", TINY)
    alone.setup("predict")
    assert (module.digest is None, alone.digest) == (False, None)


def arrays_digest(spikes: Any = COUNTS, behavior: Any = VELOCITY, **changes: Any) -> str | None:
    module = NLBDataModule.from_arrays(spikes, behavior, **{"bin_ms": 20, "held_out": [0, 5, 7], **changes})
    module.setup("fit")
    return module.digest


def test_digest_of_arrays_depends_on_spikes_behavior_units_and_splits() -> None:
    digest = arrays_digest()
    assert arrays_digest(torch.from_numpy(COUNTS), name="renamed", batch_size=7) == digest
    one_spike = COUNTS.copy()
    one_spike[0, 0, 0] += 1
    nan_count = COUNTS.astype(float)
    nan_count[3, 4, 5] = np.nan
    different = [
        arrays_digest(one_spike),
        arrays_digest(nan_count),
        arrays_digest(behavior=VELOCITY * 1.001),
        arrays_digest(held_out=[0, 5, 8]),
        arrays_digest(unit_id=np.arange(12) + 1),
        arrays_digest(split=(0.6, 0.2)),
        arrays_digest(seed=1),
    ]
    assert len({digest, *different}) == 8


def test_digest_of_lfp_sessions_depends_on_content_and_division() -> None:
    digest = in_memory(held_out=["b2"]).digest
    assert in_memory(held_out=["b2"], batch_size=3).digest == digest
    # Arms that train on different sessions are compared on the same ones.
    assert in_memory(held_out=["b1"]).digest == digest
    source = recording("a1", 8000)
    spikes = source.spikes.copy()
    spikes[-1, -1] += 1
    digests = set()
    for changed, split in (
        (source, "random"),
        (source, "blocks"),
        (replace(source, spikes=spikes), "random"),
        (replace(source, lfp=source.lfp * 2), "random"),
    ):
        data = InMemory([changed], split=split)
        data.setup("fit")
        digests.add(data.digest)
    assert len(digests) == 4


def test_digest_of_calcium_depends_on_content_and_division(tmp_path: Path) -> None:
    first = tiny_calcium(tmp_path)
    assert tiny_calcium(tmp_path, n_windows=3, n_cells=5).digest == first.digest
    other = replace(CALCIUM_SPEC, cells=replace(CALCIUM_SPEC.cells, seed=CALCIUM_SPEC.cells.seed + 1))
    assert tiny_calcium(tmp_path, spec=other).digest != first.digest
    activity = next(tmp_path.rglob("SB025/*/Blank/01/frame.neuralActivity.npy"))
    values = np.load(activity)
    values.flat[0] += 1
    np.save(activity, values)
    assert tiny_calcium(tmp_path).digest != first.digest
