"""The sweep files, with the argument vectors that W&B's own agent builds from them."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.agent import drawn, vector_of_the_agent
from helpers.cli import (
    EXPERIMENTS,
    REPOSITORY,
    SIMULATION,
    TINY,
    call,
    experiment,
    finish,
    start,
    teacher_args,
    write_set,
)

from blend_pl.cli.trainer import BlendCLI
from blend_pl.config import compose_arguments
from blend_pl.errors import ConfigError
from blend_pl.sweep.file import read_sweep

SWEEPS = EXPERIMENTS / "sweeps"
FILES = sorted(SWEEPS.glob("*.yaml"))
SETS = ("area2_bump", "dmfc_rsg", "mc_maze", "mc_maze_large", "mc_maze_medium", "mc_maze_small", "mc_rtt", "simulated")
ARMS = ("baseline", "distilled")
over_sets = pytest.mark.parametrize("name", SETS)
over_files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands name experiments relative to the checkout, of the simulated set."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("SET", "simulated")


@over_sets
@over_files
def test_trial_command_equals_that_of_wandb_agent(
    path: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET", name)
    sweep = read_sweep(path)
    assert sweep.name == f"{name}_{path.stem}"
    values = drawn(sweep, 0)
    command = vector_of_the_agent(path, values, tmp_path, monkeypatch)
    assert command[:5] == ["/usr/bin/env", "python", "-m", "blend_pl", "fit"]
    assert sweep.build_command(values) == [sys.executable, *command[2:]]


def fit(command: list[str], folder: Path, *more: str) -> BlendCLI:
    return call(*command[4:], f"--output={folder / 'runs'}", f"--data.root={folder}", *TINY, teacher_args(), *more)


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The parser of `fit`."""
    folder = tmp_path_factory.mktemp("parser")
    words = ["--config", str(experiment("simulated_baseline")), *SIMULATION]
    return fit(["", "", "", "", "fit", *words], folder)._parser("fit")


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Settings by the names that options have, in which `init_args` may be left out."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    inside = {**{key: value for key, value in settings.items() if key != "init_args"}, **settings.get("init_args", {})}
    parts = [flat(value, f"{prefix}.{key}" if prefix else key) for key, value in inside.items()]
    return {name: value for part in parts for name, value in part.items()}


@pytest.mark.slow
@over_sets
@over_files
def test_parameters_reach_the_parser(path: Path, name: str, parser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", name)
    sweep = read_sweep(path)
    values = drawn(sweep, 0)
    parsed = flat(parser.parse_args(compose_arguments(sweep.build_command(values)[3:])[1:]).as_dict())
    loss = yaml.safe_load(values.pop("distillation.loss", "null"))
    assert {name: parsed[name] for name in values} == values
    if loss:
        wanted = flat(loss if isinstance(loss, dict) else {"class_path": loss}, "distillation.loss")
        assert {name: parsed[name] for name in wanted} == wanted


def test_there_is_one_file_an_arm() -> None:
    assert [path.stem for path in FILES] == list(ARMS)


def test_both_arms_draw_the_same_parameters_of_the_network() -> None:
    baseline, distilled = (yaml.safe_load((SWEEPS / f"{arm}.yaml").read_text()) for arm in ARMS)
    more = {name: entry for name, entry in distilled["parameters"].items() if name.startswith("distillation.")}
    assert distilled["parameters"] == {**more, **baseline["parameters"]}


@pytest.mark.slow
@pytest.mark.usefixtures("teachers_here")
@over_sets
@over_files
def test_trial_of_every_sweep_trains(
    path: Path, name: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET", name)
    folder = tmp_path_factory.getbasetemp() / "sweeps" / name
    data = write_set(experiment(f"{name}_baseline"), folder)
    sweep = read_sweep(path)
    run = fit(vector_of_the_agent(path, drawn(sweep, 1), tmp_path, monkeypatch), folder, *data).run_dir
    assert sweep.metric in json.loads((run / "results.json").read_text())["selected"]


@pytest.mark.slow
def test_the_command_sweeps_with_real_trials(tmp_path: Path) -> None:
    content = yaml.safe_load((SWEEPS / "distilled.yaml").read_text())
    content["command"][-1:-1] = [*SIMULATION, f"--data.root={tmp_path}", *TINY, teacher_args()]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    output = tmp_path / "runs"
    finish(start("sweep", tmp_path / "small.yaml", "--trials", "3", "--workers", "2", "--output", output))
    runs = sorted((output / "sweeps" / "simulated_small").glob("trial-*/results.json"))
    assert len(runs) == 3
    results = [json.loads(run.read_text()) for run in runs]
    assert len({teacher for result in results for teacher in result["teachers"]}) == 1, "one teacher for all"
    assert "3 trials finished, 0 failed" in (output / "sweeps" / "simulated_small" / "sweep.md").read_text()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_its_trial(tmp_path: Path) -> None:
    content = yaml.safe_load((SWEEPS / "baseline.yaml").read_text())
    content["command"][-1:-1] = [*SIMULATION, f"--data.root={tmp_path}", *TINY, "--trainer.max_epochs=150"]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    output = tmp_path / "runs"
    words = ["sweep", tmp_path / "small.yaml", "--trials", "1", "--output", output]
    killed = start(*words)
    run = output / "sweeps" / "simulated_small" / "trial-0000"
    end = time.monotonic() + 100
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < end, (run / "log.txt").read_text()
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    assert not (run / "results.json").exists(), "too late to tell anything"
    finish(start(*words))
    assert "Restored all states from the checkpoint" in (run / "log.txt").read_text()
    assert json.loads((run / "results.json").read_text())["epoch"] == 150
    assert [path.name for path in run.parent.glob("trial-*")] == ["trial-0000"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"metric": {"name": "eval/co_bps", "goal": "maximize"}}, "only the score that chose the checkpoint"),
        ({"metric": {"name": "best/val/co_bps", "goal": "minimize"}}, "is chosen to maximize it"),
        ({"metric": "co_bps"}, "a name and a goal"),
        ({"method": "hyperband"}, "take one of bayes, random, grid"),
        ({"method": "grid"}, "has no end of values"),
        ({"early_terminate": {"type": "hyperband"}}, "early_stopping"),
        ({"programme": "x"}, "unknown key programme"),
        ({"run_cap": 0}, "whole number from 1"),
        ({"parameters": {}}, "is a mapping"),
        ({"parameters": {"run_dir": {"value": "x"}}}, "set for each trial"),
        ({"parameters": {"data.selection_split": {"value": "val"}}}, "select on the trials that are reported"),
        ({"parameters": {"x": {"value": None}}}, 'the string "null"'),
        ({"command": "python"}, "is a list of words"),
        ({"command": ["${interpreter}", "-m", "${program}", "${args}"]}, "runs no fit"),
        ({"command": ["${program}", "fit", "${args_no_boolean_flags}"]}, "which fit does not take"),
        ({"command": ["${program}", "fit", "--data.selection_split=val", "${args}"]}, "select on the trials"),
        ({"command": ["${program}", "fit", "--config", "no.yaml", "${args}"]}, "cannot read the config file no.yaml"),
    ],
)
def test_a_bad_sweep_is_refused_on_one_line(changes: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    content = yaml.safe_load((SWEEPS / "baseline.yaml").read_text())
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    with pytest.raises(ConfigError) as error:
        read_sweep(path)
    assert complaint in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "complaint"), [("", "holds no sweep"), ("a: [", "not valid YAML"), ("method: grid", "is missing")]
)
def test_what_is_no_sweep_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_sweep(tmp_path / "x.yaml")


def test_environment_variable_chooses_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = {}
    for name in ("mc_rtt", "mc_maze"):
        monkeypatch.setenv("SET", name)
        sweeps[name] = read_sweep(SWEEPS / "baseline.yaml")
        assert f"experiments/{name}_baseline.yaml" in sweeps[name].command
    assert sweeps["mc_rtt"].name != sweeps["mc_maze"].name
    monkeypatch.delenv("SET")
    with pytest.raises(ConfigError, match="environment variable SET is not set"):
        read_sweep(SWEEPS / "baseline.yaml")


def test_trials_that_share_a_process_name_their_composition_once(tmp_path: Path) -> None:
    content = yaml.safe_load((SWEEPS / "baseline.yaml").read_text())
    content["command"][-1:-1] = ["--config=configs/model/causal.yaml", "--data.bin_ms=20"]
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(content))
    program, reference, fit_args = read_sweep(path).split_command()
    assert program == [sys.executable, "-m", "blend_pl"]
    assert reference == "experiments/simulated_baseline.yaml+configs/model/causal.yaml"
    assert fit_args == ["--data.bin_ms=20"]
