"""Tests of reading and caching sessions of all layouts."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import pytest
from helpers.lfp_files import flint_trials, write_flint_v5, write_lfp_nwb, write_makin

from blend_pl.data.lfp import reading
from blend_pl.data.lfp.reading import read_sessions
from blend_pl.data.lfp.simulation import LFPSimulation
from blend_pl.data.lfp.spec import LFPSeriesNames, LFPSpec
from blend_pl.errors import ConfigError, DataError

SPEC = LFPSpec(
    "all", makin=["indy_20160407_02"], flint=["e1_2"], nwb=["own/*.nwb"], names=LFPSeriesNames(velocity="vel")
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_makin(tmp_path, seconds=10)
    write_flint_v5(tmp_path / "Flint_2012_e1.mat", [flint_trials([(0.0, 3.0)]), flint_trials([(0.0, 5.0)])])
    write_lfp_nwb(tmp_path / "own/day1.nwb", seconds=10)
    return tmp_path


def test_all_layouts_are_read_once_and_cached(root: Path) -> None:
    first = read_sessions(SPEC, root)
    assert [recording.name for recording in first] == ["indy_20160407_02", "e1_2", "day1"]
    assert [recording.subject for recording in first] == ["I", "C", "M7"]
    must_not_read = Mock(side_effect=AssertionError("read again"))
    with patch.multiple(reading, read_makin=must_not_read, read_flint=must_not_read, read_nwb=must_not_read):
        cached = read_sessions(SPEC, root)
    for recording, expected in zip(cached, first, strict=True):
        for name in ("spikes", "lfp", "behavior"):
            np.testing.assert_array_equal(getattr(recording, name), getattr(expected, name))
        assert (recording.unit_id, recording.channel_id, recording.bin_ms) == (
            expected.unit_id,
            expected.channel_id,
            expected.bin_ms,
        )
        assert isinstance(recording.unit_id, tuple)


def test_changed_contents_or_settings_are_read_again(root: Path) -> None:
    before = read_sessions(SPEC, root)
    write_makin(root, seconds=12)
    after = read_sessions(SPEC, root)
    assert (before[0].n_bins, after[0].n_bins) == (999, 1199)
    unsorted = read_sessions(replace(SPEC, unsorted=True), root)
    assert [r.spikes.shape[1] for r in unsorted] == [7, 4, 3]
    other = read_sessions(replace(SPEC, names=LFPSeriesNames(position="pos")), root)
    assert not np.array_equal(other[2].behavior, after[2].behavior)


def test_cache_dir_replaces_the_default_cache(root: Path, tmp_path: Path) -> None:
    read_sessions(SPEC, root, cache_dir=tmp_path / "other_cache")
    assert len(list((tmp_path / "other_cache").glob("*.pt"))) == 3
    assert not (root / "cache").exists()


def test_simulated_sessions_are_read_from_their_files(tmp_path: Path) -> None:
    simulation = LFPSimulation(n_makin=1, n_flint=2, n_nwb=1, seconds=12, n_units=(5, 6), n_channels=(3, 4))
    spec = LFPSpec(
        "simulated",
        makin=["indy_20160622_01"],
        flint=["e1_1", "e2_1"],
        nwb=["own_*.nwb"],
        names=LFPSeriesNames(velocity="hand_vel"),
    )
    recordings = read_sessions(spec, tmp_path, "simulated", simulation)
    assert [recording.subject for recording in recordings] == ["I", "C", "C", "N"]
    assert all(1198 <= recording.n_bins <= 1200 for recording in recordings)
    assert all(np.isfinite(recording.behavior).all() for recording in recordings)
    with pytest.raises(DataError, match="there is no indy_20160624_03"):
        read_sessions(replace(spec, makin=["indy_20160624_03"]), tmp_path, "simulated", simulation)


def test_contradictory_specs_raise() -> None:
    with pytest.raises(ConfigError, match="lists no session"):
        LFPSpec("none")
    for names in (LFPSeriesNames(), LFPSeriesNames(velocity="v", position="p")):
        with pytest.raises(ConfigError, match="either a velocity or a position"):
            LFPSpec("own", nwb=["*.nwb"], names=names)
