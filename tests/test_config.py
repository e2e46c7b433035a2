"""Composition of YAML files."""

from pathlib import Path

import pytest
from helpers.cli import CONFIGS, EXPERIMENTS, experiment

from blend_pl.config import (
    compose,
    compose_arguments,
    compose_experiment,
    find_config,
    join_reference,
    list_configs,
    merge,
    split_reference,
    suggest_composition,
)
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


def test_later_files_override_earlier_ones(tmp_path: Path) -> None:
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


def test_bases_are_relative_to_their_folder(tmp_path: Path) -> None:
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
    # The root is read again as a base of the right file and overrides the left file's `a`.
    assert compose(path) == {"a": "root", "b": "right"}


@pytest.mark.parametrize("text", ["base: []\na: 1", "base:\na: 1", "a: 1"])
def test_base_is_optional(tmp_path: Path, text: str) -> None:
    assert compose(write(tmp_path, own=text)) == {"a": 1}


def test_merge_changes_neither_mapping() -> None:
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
def test_init_args_are_replaced_with_their_class(second: dict, init_args: dict) -> None:
    class_path = second.get("class_path", "A")
    assert merge({"a": CLASS}, {"a": second}) == {"a": {"class_path": class_path, "init_args": init_args}}
    assert CLASS["init_args"]["x"] == 1


def test_model_file_replaces_the_network_of_an_experiment() -> None:
    overlaid = compose(experiment("simulated_hard"), CONFIGS / "model/stndt.yaml")
    backbone = compose(CONFIGS / "model/stndt.yaml")["model"]["init_args"]["backbone"]
    assert overlaid["model"]["init_args"]["backbone"] == backbone
    teacher = compose(CONFIGS / "model/ndt_small.yaml", CONFIGS / "arm/teacher.yaml")["model"]
    assert teacher["class_path"].endswith("Teacher")
    assert teacher["init_args"] == compose(CONFIGS / "model/ndt_small.yaml")["model"]["init_args"]


@pytest.mark.parametrize(("first", "second"), [({"a": {"b": 1}}, {"a": None}), ({"a": 1}, {"a": {"b": 1}})])
def test_values_and_mappings_replace_each_other(first: dict, second: dict) -> None:
    assert merge(first, second) == second


def test_teacher_is_relative_to_its_file(tmp_path: Path) -> None:
    write(tmp_path / "teachers", strong="data: {class_path: D}")
    write(tmp_path / "teachers", arm="distillation: {teacher: strong.yaml, alpha: 0.5}")
    path = write(tmp_path / "experiments", own="base: [../teachers/arm.yaml]")
    expected = str((tmp_path / "teachers" / "strong.yaml").resolve())
    assert compose(path) == {"distillation": {"teacher": expected, "alpha": 0.5}}


def test_missing_teacher_file_is_left_unchanged(tmp_path: Path) -> None:
    assert compose(write(tmp_path, own="distillation: {teacher: runs/x}")) == {"distillation": {"teacher": "runs/x"}}


@pytest.mark.parametrize("value", ["null", "[]", "a_word", "{teacher: null}", "{teacher: 3}"])
def test_malformed_distillation_is_left_to_the_parser(tmp_path: Path, value: str) -> None:
    assert list(compose(write(tmp_path, own=f"distillation: {value}"))) == ["distillation"]


def test_cycle_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, a="base: [b.yaml]", b="base: [a.yaml]")
    assert "has itself as a base" in refused(path)
    assert "has itself as a base" in refused(write(tmp_path, c="base: [c.yaml]"))


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
def test_malformed_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refused(write(tmp_path, own=text))


def test_binary_file_and_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert "not valid YAML" in refused(tmp_path / "own.yaml")
    assert "cannot read" in refused(tmp_path)


@pytest.mark.parametrize(("name", "system"), [("mc_maze_teacher", "Teacher"), ("mc_maze_hard", "Student")])
def test_another_network_keeps_the_system(name: str, system: str) -> None:
    model = compose(experiment(name), CONFIGS / "model/stndt.yaml")["model"]
    assert model["class_path"] == f"blend_pl.systems.{system}"
    assert model["init_args"]["backbone"]["class_path"] == "blend_pl.models.STNDT"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A set, an overlay, and arms, of which one names an overlay as its teacher."""
    write(
        tmp_path,
        rats="data: {class_path: D}\nmodel: {class_path: S, init_args: {size: 8}}",
        wide="model: {init_args: {size: 16}}",
        csv="trainer: {logger: true}",
        teacher="role: teacher\nmodel: {class_path: T}",
        hard="role: student\nmodel: {class_path: S}\ndistillation: {teacher: teacher.yaml, alpha: 0.5}",
        ensemble="base: [hard.yaml]\ndistillation: {teacher: [teacher.yaml, teacher.yaml]}",
        control="base: [hard.yaml]\nrole: control\ndistillation: {alpha: 1.0}",
        rats_hard="base: [rats.yaml, hard.yaml]",
    )
    return tmp_path


def composed(folder: Path, *names: str) -> dict:
    return compose_experiment([folder / f"{name}.yaml" for name in names])


def teacher_reference(folder: Path, *names: str) -> str:
    return join_reference((folder / f"{name}.yaml").resolve() for name in (*names, "teacher"))


def test_overlay_teacher_is_composed_with_the_files_before_the_arm(files: Path) -> None:
    student = composed(files, "rats", "wide", "hard")
    reference = teacher_reference(files, "rats", "wide")
    assert student["distillation"] == {"teacher": reference, "alpha": 0.5}
    teacher = compose_experiment(split_reference(reference))
    assert teacher == composed(files, "rats", "wide", "teacher")
    assert teacher["model"] == {"class_path": "T", "init_args": {"size": 16}}
    assert teacher["name"] == "rats_wide_teacher"


def test_files_after_the_arm_change_the_student_only(files: Path) -> None:
    student = composed(files, "rats", "hard", "wide")
    assert student["model"] == {"class_path": "S", "init_args": {"size": 16}}
    assert student["distillation"]["teacher"] == teacher_reference(files, "rats")


def test_overlay_teacher_is_composed_within_a_base(files: Path) -> None:
    long_form = composed(files, "rats", "hard")
    assert composed(files, "rats_hard") == long_form
    assert composed(files, "rats_hard", "csv")["distillation"] == long_form["distillation"]
    assert composed(files, "rats", "csv", "hard")["distillation"] == long_form["distillation"]
    write(files, own="base: [rats.yaml]\ndistillation: {teacher: teacher.yaml}")
    assert composed(files, "own")["distillation"] == {"teacher": teacher_reference(files, "rats")}


def test_several_overlay_teachers(files: Path) -> None:
    assert composed(files, "rats", "ensemble")["distillation"]["teacher"] == [teacher_reference(files, "rats")] * 2


def test_composition_does_not_depend_on_the_current_directory(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = composed(files, "rats", "hard")
    monkeypatch.chdir(files)
    assert composed(Path(), "rats", "hard") == student


def test_arm_replaces_an_earlier_arm(files: Path) -> None:
    assert "distillation" not in composed(files, "rats", "hard", "teacher")
    assert composed(files, "rats", "hard", "control")["distillation"]["alpha"] == 1.0
    assert composed(files, "rats_hard", "teacher")["model"] == composed(files, "rats", "teacher")["model"]


def test_files_add_settings_to_a_later_arm(files: Path) -> None:
    write(
        files, rats="data: {class_path: D}\nmodel: {class_path: S}\narms: {teacher: {model: {init_args: {dropout: 1}}}}"
    )
    assert composed(files, "rats", "hard")["model"] == {"class_path": "S"}
    assert composed(files, "rats", "teacher")["model"] == {"class_path": "T", "init_args": {"dropout": 1}}
    assert "arms" not in composed(files, "rats", "teacher")


def test_arms_of_a_backbone_do_not_change_another_backbone(tmp_path: Path) -> None:
    backbone = "model: {init_args: {backbone: {class_path: %s, init_args: {width: 4}}}}\n"
    arms = "arms: {student: {model: {init_args: {backbone: {init_args: {dropout: 0.1}}}}}}"
    write(tmp_path, ndt=backbone % "NDT" + arms, lfads=backbone % "LFADS", student="role: student")
    files = {name: tmp_path / f"{name}.yaml" for name in ("ndt", "lfads", "student")}
    of_ndt = compose(files["ndt"], files["student"])["model"]["init_args"]["backbone"]
    assert of_ndt == {"class_path": "NDT", "init_args": {"width": 4, "dropout": 0.1}}
    of_lfads = compose(files["ndt"], files["lfads"], files["student"])["model"]["init_args"]["backbone"]
    assert of_lfads == {"class_path": "LFADS", "init_args": {"width": 4}}


@pytest.mark.parametrize("arms", ["[]", "{teacher: 3}", "x"])
def test_malformed_arms_are_refused(tmp_path: Path, arms: str) -> None:
    if arms != "[]":
        assert "write settings by arm" in refused(write(tmp_path, own=f"arms: {arms}"))
    else:
        assert compose(write(tmp_path, own=f"arms: {arms}")) == {}


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["rats"], "rats"),
        (["rats", "wide", "hard"], "rats_wide_hard"),
        (["rats", "hard", "csv"], "rats_hard"),
        (["rats", "short", "hard"], "rats_hard"),
        (["rats_hard", "hard"], "rats_hard"),
        (["rats", "rats_hard"], "rats_hard"),
        (["named"], "mice"),
        (["named", "wide"], "mice_wide"),
        (["rats", "named"], "mice"),
    ],
)
def test_name_says_what_was_composed(files: Path, names: list[str], name: str) -> None:
    write(files, named="name: mice\ndata: {class_path: D}", short="trainer: {max_epochs: 3}")
    assert composed(files, *names)["name"] == name


def test_arguments_name_files_in_several_options_or_joined(files: Path) -> None:
    rats, hard = files / "rats.yaml", files / "hard.yaml"
    separate = compose_arguments(["--config", str(rats), "--data.bins=3", f"--config={hard}"])
    assert separate == compose_arguments(["--config", f"{rats}+{hard}", "--data.bins=3"])
    assert separate[0] == "--config"
    assert separate[-1] == "--data.bins=3"


@pytest.mark.parametrize("reference", ["runs/a+b", "a+b.yaml", "wandb:e/p/a:v1", "runs/x/best.ckpt"])
def test_other_references_are_one_path(reference: str) -> None:
    assert split_reference(reference) == [Path(reference)]


@pytest.mark.parametrize(
    ("name", "composition"),
    [
        ("mc_maze_stndt_hard", "mc_maze model/stndt arm/hard"),
        ("mc_maze_large_lfads_self", "mc_maze_large model/lfads arm/self"),
        ("area2_bump_multitask", "area2_bump arm/multitask"),
        ("simulated_stndt_hard", "simulated model/stndt_small arm/hard"),
        ("simulated_causal_hard", "simulated arm/hard model/causal"),
        ("simulated_small_hard", "simulated arm/hard model/half_width"),
        ("simulated_lfads_from_ndt_hard", "simulated arm/hard model/lfads_small"),
        ("bugeon_single_animal_alpha1", "bugeon_single_animal arm/reconstruction_only"),
        ("bugeon_simulated_soft", "bugeon_simulated model/gaussian arm/gaussian_soft"),
        ("bugeon_simulated_gaussian_teacher", "bugeon_simulated model/gaussian arm/teacher"),
        ("simulated_lfp_ss_lfp", "simulated_lfp arm/lfp_single_session"),
        ("flint_ms_distilled", "flint arm/distilled_multi_session"),
        ("makin_teacher", "makin arm/spike_teacher"),
    ],
)
def test_former_experiment_is_refused_with_its_composition(name: str, composition: str) -> None:
    path = EXPERIMENTS / f"{name}.yaml"
    base, *overlays = composition.split()
    files = [EXPERIMENTS / f"{base}.yaml", *(CONFIGS / f"{overlay}.yaml" for overlay in overlays)]
    assert f"write --config {join_reference(files)}" in refused(path)


@pytest.mark.parametrize("name", ["nothing_hard", "mc_maze_nothing", "mc", "mc_maze_stndt_nothing"])
def test_other_missing_experiments_get_no_suggestion(name: str) -> None:
    assert suggest_composition(EXPERIMENTS / f"{name}.yaml") is None
    assert "check its name" in refused(EXPERIMENTS / f"{name}.yaml")


@pytest.fixture
def empty_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


BASELINE = Path("experiments/simulated_baseline.yaml")


@pytest.mark.parametrize(
    "name", ["experiments/simulated.yaml", "./configs/arm/hard.yaml", "experiments/../configs/arm"]
)
def test_missing_path_is_searched_for_in_the_package(empty_dir: Path, name: str) -> None:
    assert find_config(Path(name)).samefile(EXPERIMENTS / ".." / name)


@pytest.mark.parametrize("name", ["experiments/absent.yaml", "README.md", "../experiments/simulated.yaml", "", "."])
def test_other_missing_path_is_unchanged(empty_dir: Path, name: str) -> None:
    assert find_config(Path(name)) == Path(name)


def test_file_of_the_working_directory_precedes_the_installed_file(empty_dir: Path) -> None:
    own = write(Path("experiments"), simulated_baseline="{name: own}")
    assert find_config(BASELINE) == own
    assert compose(BASELINE) == {"name": "own"}


def test_installed_experiment_is_composed_in_an_empty_folder(empty_dir: Path) -> None:
    assert compose_experiment([BASELINE]) == compose_experiment([EXPERIMENTS / BASELINE.name])
    separate = [Path("experiments/simulated.yaml"), Path("configs/arm/hard.yaml")]
    composed = compose_experiment(separate)
    assert composed == compose_experiment([EXPERIMENTS / "simulated.yaml", CONFIGS / "arm/hard.yaml"])
    teacher = split_reference(composed["distillation"]["teacher"])
    assert [path.is_absolute() and path.exists() for path in teacher] == [True, True]


def test_own_experiment_has_installed_bases(empty_dir: Path) -> None:
    own = write(Path("experiments"), own="base: [simulated.yaml, ../configs/arm/hard.yaml]\nname: own")
    expected = compose(EXPERIMENTS / "simulated_hard.yaml")
    assert compose(own) == {**expected, "name": "own"}


def test_own_teacher_has_installed_bases(empty_dir: Path) -> None:
    write(
        Path("configs/arm"), mine="base: [hard.yaml]\ndistillation: {teacher: wide.yaml}", wide="base: [teacher.yaml]"
    )
    config = compose(Path("experiments/simulated.yaml"), Path("configs/arm/mine.yaml"))
    teacher = split_reference(config["distillation"]["teacher"])
    assert teacher[-1] == (empty_dir / "configs/arm/wide.yaml").resolve()
    assert compose(*teacher) == compose(EXPERIMENTS / "simulated.yaml", CONFIGS / "arm/teacher.yaml")


def test_suggestion_names_installed_files(empty_dir: Path) -> None:
    write(Path("configs/arm"), own="role: control")
    missing = Path("experiments/mc_maze_stndt_hard.yaml")
    overlays = "experiments/mc_maze.yaml+configs/model/stndt.yaml+configs/arm/hard.yaml"
    assert suggest_composition(missing) == overlays
    assert suggest_composition(Path("experiments/mc_maze_own.yaml")) == "experiments/mc_maze.yaml+configs/arm/own.yaml"


def test_list_joins_own_and_installed_files(empty_dir: Path) -> None:
    write(Path("configs/arm"), own="role: control", hard="role: student")
    names = {*(path.name for path in (CONFIGS / "arm").glob("*.yaml")), "own.yaml"}
    assert list_configs(Path("configs/arm")) == [Path("configs/arm") / name for name in sorted(names)]
