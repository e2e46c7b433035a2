"""The help of the commands of the trainer."""

import inspect
import subprocess
import sys
from typing import Any

import pytest
from helpers.cli import EXPERIMENTS

from blend_pl.callbacks import Distillation
from blend_pl.cli.help import GROUPS, OPTIONS, format_short_help, select_group
from blend_pl.cli.main import TRAINER_COMMANDS, run_command
from blend_pl.data import NLBDataModule
from blend_pl.errors import ConfigError
from blend_pl.experiment.parser import make_parser, setting_names_of
from blend_pl.masking import Masking
from blend_pl.models import NDT

CLASSES: dict[str, Any] = {
    "data": NLBDataModule,
    "model.backbone": NDT,
    "model.masking": Masking,
    "distillation": Distillation,
}


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        run_command([*arguments])
    assert exit_info.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", TRAINER_COMMANDS)
def test_short_help_fits_one_screen(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command, "--help"]) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert TRAINER_COMMANDS[command] in lines
    assert any("--ckpt_path " in line for line in lines) == (command != "fit")


def test_short_help_imports_no_heavy_package() -> None:
    code = "import sys; from blend_pl.cli.main import run_command; run_command(['fit', '-h']); print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "lightning", "numpy", "jsonargparse", "yaml"} & set(printed.splitlines()[-1].split())


def test_defaults_of_short_help_are_those_of_the_parser_and_the_classes() -> None:
    defaults = make_parser().get_defaults(skip_validation=True)
    for name, default, _ in (option for options in OPTIONS.values() for option in options):
        owner, _, argument = name.removeprefix("--").rpartition(".")
        if owner in CLASSES:
            value = inspect.signature(CLASSES[owner]).parameters[argument].default
            if argument == "loss":
                continue
        elif name == "--model.backbone":
            continue
        elif name == "--model.optimizer.lr":
            from torch.optim import AdamW

            value = inspect.signature(AdamW).parameters["lr"].default
        else:
            value = defaults[name.removeprefix("--")]
        expected = "" if value in (None, inspect.Parameter.empty) else str(value)
        assert default == (expected.lower() if isinstance(value, bool) else expected), name


def test_full_help_lists_all_settings(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "fit", "--help.full")
    for name in ("--trainer.max_epochs", "--checkpoint.save_top_k", "--early_stopping.min_delta", "--teacher_args"):
        assert f"\n  {name} " in text


def test_help_of_a_group_lists_only_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "fit", "--help.early_stopping")
    assert "--early_stopping.patience" in text
    assert "--trainer" not in text


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--help.data"], "--data.bin_ms"),
        (["--help.model"], "--model.masking.ratio"),
        (["--help.distillation"], "--distillation.alpha"),
        ([str(EXPERIMENTS / "simulated_lfp.yaml"), "--help.data"], "--data.train_on"),
        (["--model.help", "blend_pl.systems.Teacher"], "--model.masking.ratio"),
    ],
)
def test_help_of_a_group_lists_arguments_of_its_class(
    arguments: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{option} " in help_of(capsys, "fit", *arguments)


def test_unknown_group_raises() -> None:
    with pytest.raises(ConfigError, match=r"did you mean --help\.trainer\?"):
        run_command(["fit", "--help.trianer"])


def test_groups_are_settings() -> None:
    names = {name.partition(".")[0] for name in setting_names_of(make_parser())}
    assert {*GROUPS} <= names


def test_group_is_selected_with_continuation_lines() -> None:
    text = (
        "usage: x [--a.b B]\n\nhead:\n  --a.b B  first\n           second\n  --c C\n\nother:\n  -a, --a.d D\n  --ab X\n"
    )
    assert select_group(text, "a").split() == ["--a.b", "B", "first", "second", "-a,", "--a.d", "D"]


def test_short_help_names_the_command() -> None:
    assert "python -m blend_pl test FILE" in format_short_help("test", "evaluates")
