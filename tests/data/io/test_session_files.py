"""Tests of the search for files of sessions, their names, and copies among them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend_pl.data.io.session_files import find_session_files, require_distinct_recordings, session_names
from blend_pl.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_hidden_and_simulated_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/day1.nwb", "a/._day1.nwb", ".trash/day0.nwb", "day2.nwb", "simulated/x/day3.nwb", "notes.txt")
    found = find_session_files(["**/*.nwb", "*.nwb"], tmp_path, "data.spec.nwb")
    assert found == [tmp_path / "a/day1.nwb", tmp_path / "day2.nwb"]
    assert find_session_files([".trash/*.nwb"], tmp_path, "data.spec.nwb") == [tmp_path / ".trash/day0.nwb"]
    assert find_session_files(["simulated/**/*.nwb"], tmp_path, "s") == [tmp_path / "simulated/x/day3.nwb"]


def test_links_to_one_file_count_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/day1.nwb")
    (tmp_path / "b.nwb").symlink_to(tmp_path / "a/day1.nwb")
    assert find_session_files(["**/*.nwb"], tmp_path, "s") == [tmp_path / "a/day1.nwb"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("x/*.nwb", r"no file matches x/\*\.nwb in .*set data\.root or data\.spec\.nwb"),
        ("/x/*.nwb", r"data\.spec\.nwb has '/x/\*\.nwb': .*below data\.root"),
        ("._*.txt", r"no file matches"),
    ],
)
def test_pattern_without_a_file_raises(tmp_path: Path, pattern: str, message: str) -> None:
    touch(tmp_path, "._day1.nwb")
    with pytest.raises(DataError, match=message):
        find_session_files([pattern], tmp_path, "data.spec.nwb")


def test_only_hidden_files_raise(tmp_path: Path) -> None:
    touch(tmp_path, "._day1.nwb")
    with pytest.raises(DataError, match="no file matches"):
        find_session_files(["**/*.nwb"], tmp_path, "data.spec.nwb")


@given(
    st.sets(
        st.tuples(
            st.sampled_from(["", "rat1/", "rat2/", "rat1/b/"]), st.sampled_from("12"), st.sampled_from([".nwb", ".h5"])
        ),
        min_size=1,
    )
)
def test_names_are_unique_and_stems_where_those_are(files: set[tuple[str, str, str]]) -> None:
    paths = [Path("data") / "".join(parts) for parts in sorted(files)]
    names = session_names(paths, Path("data"))
    assert len(set(names)) == len(paths)
    stems = [path.stem for path in paths]
    for path, name in zip(paths, names, strict=True):
        assert name.startswith(path.relative_to("data").with_suffix("").as_posix()) or name == path.stem
        assert (name == path.stem) or stems.count(path.stem) > 1 or path.parent == Path("data")


def test_copies_of_a_recording_raise_with_both_paths() -> None:
    rng = np.random.default_rng(0)
    activity = rng.normal(size=(5000, 3)).astype(np.float32)
    distinct = {Path("a.nwb"): activity, Path("b.nwb"): activity[:-1], Path("c.nwb"): activity + 1}
    require_distinct_recordings(distinct, "data.spec.nwb")
    with pytest.raises(DataError, match=r"b/a\.nwb and a\.nwb contain the same recording; .*narrow data\.spec\.nwb"):
        require_distinct_recordings({**distinct, Path("b/a.nwb"): activity.copy()}, "data.spec.nwb")
