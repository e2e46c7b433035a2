from pathlib import Path

import pytest
from helpers.cli import REPOSITORY, experiment

from blend_pl.config import compose, merge
from blend_pl.errors import ConfigError


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        compose(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_later_files_win_and_the_own_settings_last(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        own="base: [first.yaml, second.yaml]\nc: own",
        first="{a: first, b: first, c: first}",
        second="{b: second, c: second}",
    )
    assert compose(path) == {"a": "first", "b": "second", "c": "own"}


def test_mappings_are_merged_in_depth_and_lists_replaced(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        own="base: [first.yaml]\nmodel: {init_args: {layers: 2}, tags: [z]}",
        first="model: {class_path: A, init_args: {layers: 4, heads: 1}, tags: [x, y]}",
    )
    assert compose(path) == {"model": {"class_path": "A", "init_args": {"layers": 2, "heads": 1}, "tags": ["z"]}}


def test_bases_have_bases_relative_to_their_own_folder(tmp_path: Path) -> None:
    write(tmp_path / "configs" / "data", data="base: [../common.yaml]\nbins: 5")
    write(tmp_path / "configs", common="seed: 3")
    path = write(tmp_path / "experiments", own="base: [../configs/data/data.yaml]")
    assert compose(path) == {"seed": 3, "bins": 5}


def test_two_files_may_share_a_base(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        own="base: [left.yaml, right.yaml]",
        left="base: [root.yaml]\na: left",
        right="base: [root.yaml]\nb: right",
        root="{a: root, b: root}",
    )
    # The right file builds on the root once more, whose `a` comes after the left file's.
    assert compose(path) == {"a": "root", "b": "right"}


@pytest.mark.parametrize("text", ["base: []\na: 1", "base:\na: 1", "a: 1"])
def test_no_base_is_no_trouble(tmp_path: Path, text: str) -> None:
    assert compose(write(tmp_path, own=text)) == {"a": 1}


def test_merge_leaves_both_mappings_alone() -> None:
    first, second = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(first, second) == {"a": {"b": 1, "c": 2}}
    assert (first, second) == ({"a": {"b": 1}}, {"a": {"c": 2}})


CLASS = {"class_path": "A", "init_args": {"x": 1, "y": {"class_path": "C", "init_args": {"u": 1}}}}


@pytest.mark.parametrize(
    ("second", "init_args"),
    [
        ({"class_path": "B", "init_args": {"z": 2}}, {"z": 2}),
        ({"class_path": "B", "init_args": {}}, {}),
        ({"class_path": "B"}, CLASS["init_args"]),
        ({"class_path": "A", "init_args": {"x": 2}}, {**CLASS["init_args"], "x": 2}),
        ({"init_args": {"x": 2}}, {**CLASS["init_args"], "x": 2}),
        (
            {"init_args": {"y": {"class_path": "D", "init_args": {"v": 2}}}},
            {"x": 1, "y": {"class_path": "D", "init_args": {"v": 2}}},
        ),
    ],
)
def test_arguments_of_a_class_go_with_it_when_another_brings_its_own(second: dict, init_args: dict) -> None:
    class_path = second.get("class_path", "A")
    assert merge({"a": CLASS}, {"a": second}) == {"a": {"class_path": class_path, "init_args": init_args}}
    assert CLASS["init_args"]["x"] == 1


def test_a_model_file_takes_the_place_of_an_experiments_model() -> None:
    configs = REPOSITORY / "configs" / "model"
    overlaid = merge(compose(experiment("simulated_hard")), compose(configs / "stndt.yaml"))
    assert (
        overlaid["model"]["init_args"]["backbone"] == compose(configs / "stndt.yaml")["model"]["init_args"]["backbone"]
    )
    teacher = merge(compose(configs / "ndt_small.yaml"), compose(configs / "teacher.yaml"))["model"]
    assert teacher["class_path"].endswith("Teacher")
    assert teacher["init_args"] == compose(configs / "ndt_small.yaml")["model"]["init_args"]


@pytest.mark.parametrize(("first", "second"), [({"a": {"b": 1}}, {"a": None}), ({"a": 1}, {"a": {"b": 1}})])
def test_a_value_replaces_a_mapping_and_the_other_way_round(first: dict, second: dict) -> None:
    assert merge(first, second) == second


def test_teacher_is_read_relative_to_its_file(tmp_path: Path) -> None:
    write(tmp_path / "teachers", strong="{}")
    write(tmp_path / "teachers", arm="distillation: {teacher: strong.yaml, alpha: 0.5}")
    path = write(tmp_path / "experiments", own="base: [../teachers/arm.yaml]")
    expected = str((tmp_path / "teachers" / "strong.yaml").resolve())
    assert compose(path) == {"distillation": {"teacher": expected, "alpha": 0.5}}


def test_teacher_that_is_not_beside_the_file_stays_as_it_is(tmp_path: Path) -> None:
    assert compose(write(tmp_path, own="distillation: {teacher: runs/x}")) == {"distillation": {"teacher": "runs/x"}}


@pytest.mark.parametrize("value", ["null", "[]", "a_word", "{teacher: null}", "{teacher: 3}"])
def test_other_ways_to_write_distillation_are_left_to_the_command_line(tmp_path: Path, value: str) -> None:
    assert list(compose(write(tmp_path, own=f"distillation: {value}"))) == ["distillation"]


def test_cycle_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, a="base: [b.yaml]", b="base: [a.yaml]")
    assert "builds on itself" in refused(path)
    assert "builds on itself" in refused(write(tmp_path, c="base: [c.yaml]"))


def test_missing_base_is_named(tmp_path: Path) -> None:
    message = refused(write(tmp_path, own="base: [gone.yaml]"))
    assert "gone.yaml" in message
    assert "No such file" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no settings"),
        ("- a\n- b", "holds no settings"),
        ("a: [1\nb: {", "not valid YAML"),
        ("base: other.yaml", "write a list of files"),
        ("base: [3]", "write a list of files"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refused(write(tmp_path, own=text))


def test_binary_file_and_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert "not valid YAML" in refused(tmp_path / "own.yaml")
    assert "cannot read" in refused(tmp_path)


@pytest.mark.parametrize(("experiment", "system"), [("mc_maze_teacher", "Teacher"), ("mc_maze_hard", "Student")])
def test_another_network_leaves_a_teacher_a_teacher_and_a_student_a_student(experiment: str, system: str) -> None:
    first = compose(REPOSITORY / "experiments" / f"{experiment}.yaml")
    model = merge(first, compose(REPOSITORY / "configs/model/stndt.yaml"))["model"]
    assert model["class_path"] == f"blend_pl.systems.{system}"
    assert model["init_args"]["backbone"]["class_path"] == "blend_pl.models.STNDT"
