"""Command `init`."""

from pathlib import Path
from typing import Any

import pytest
from helpers.cli import CONFIGS, EXPERIMENTS, REPOSITORY

from blend_pl.cli import init
from blend_pl.cli.main import run_command
from blend_pl.config import PACKAGE_DIR, compose_experiment
from blend_pl.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def empty_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["simulated_hard.yaml", "simulated_lfp_distilled_multi_session.yaml"])
def test_copy_is_composed_of_copies_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_command(["init", "copy", f"experiments/{name}"])
    expected = compose_experiment([EXPERIMENTS / name])
    # Files that the copy lacks cannot be found in the package.
    monkeypatch.setattr("blend_pl.config.PACKAGE_DIR", Path("nowhere/blend_pl").absolute())
    copied = compose_experiment([Path("copy/experiments") / name])
    assert str(copied).replace(str(Path("copy").absolute()), str(REPOSITORY)) == str(expected)
    for path, content in contents(Path("copy")).items():
        assert (REPOSITORY / path).read_bytes() == content


def test_default_is_a_student_with_its_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["init", "my project"])
    copied = contents(Path("my project"))
    assert {"experiments/simulated_hard.yaml", "configs/arm/hard.yaml", "configs/arm/teacher.yaml"} <= set(copied)
    assert f"copied {len(copied)} files to my project\n" in capsys.readouterr().out


def test_next_command_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["init", "my project"])
    assert "train: cd 'my project' && blend_pl fit experiments/simulated_hard.yaml\n" in capsys.readouterr().out
    run_command(["init", ".", "experiments/mc_rtt.yaml"])
    assert "train: blend_pl fit experiments/mc_rtt.yaml\n" in capsys.readouterr().out


def test_several_experiments_share_files() -> None:
    run_command(["init", "one", "experiments/simulated_hard.yaml", "experiments/simulated_baseline.yaml"])
    for name in ("hard", "baseline"):
        run_command(["init", "two", f"experiments/simulated_{name}.yaml"])
    assert contents(Path("one")) == contents(Path("two"))


def test_own_experiment_is_copied_with_its_files_and_those_of_the_package() -> None:
    Path("experiments").mkdir()
    own = Path("experiments/own.yaml")
    own.write_text("base: [simulated.yaml, ../configs/arm/hard.yaml]\narms: {hard: {distillation: {alpha: 0.1}}}")
    run_command(["init", "copy", str(own)])
    assert Path("copy/experiments/own.yaml").read_text() == own.read_text()
    assert Path("copy/configs/arm/teacher.yaml").read_bytes() == (CONFIGS / "arm/teacher.yaml").read_bytes()


def test_changed_file_is_never_overwritten() -> None:
    changed = Path("copy/configs/arm/hard.yaml")
    changed.parent.mkdir(parents=True)
    changed.write_text("mine")
    with pytest.raises(ConfigError, match=r"hard\.yaml exists with other content, nothing was copied"):
        run_command(["init", "copy"])
    assert contents(Path("copy")) == {"configs/arm/hard.yaml": b"mine"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_copy_leaves_nothing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("copy").mkdir()
    Path("copy/notes.txt").write_text("mine")
    open_file, opened = Path.open, []

    def fail_at_the_third_file(path: Path, mode: str = "r", **options: Any) -> object:
        if mode == "xb":
            opened.append(path)
        if len(opened) == 3:
            raise error
        return open_file(path, mode, **options)

    with monkeypatch.context() as context:
        context.setattr(Path, "open", fail_at_the_third_file)
        with pytest.raises(DataError if isinstance(error, OSError) else type(error)):
            run_command(["init", "copy"])
    assert [path.name for path in Path("copy").rglob("*")] == ["notes.txt"]


def test_missing_experiment_raises() -> None:
    with pytest.raises(ConfigError, match="cannot read the config file"):
        run_command(["init", "copy", "experiments/absent.yaml"])
    assert not Path("copy").exists()


def test_file_outside_the_working_directory_raises(empty_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own.yaml").write_text("name: own")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    with pytest.raises(ConfigError, match=r"own\.yaml is not below the working directory"):
        run_command(["init", "copy", "../own.yaml"])


def test_files_of_an_environment_below_the_working_directory_keep_their_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY.parent)
    path = PACKAGE_DIR.parent / "experiments/simulated.yaml"
    assert init._relative_path(path) == Path("experiments/simulated.yaml")
