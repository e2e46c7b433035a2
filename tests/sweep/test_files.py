"""Tests of the sweep files, with the commands that W&B's agent builds from them."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.agent import agent_command, draw_values
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

from blend_pl.config import compose_arguments
from blend_pl.errors import ConfigError
from blend_pl.experiment import Experiment
from blend_pl.experiment.parser import make_parser
from blend_pl.sweep.file import read_sweep

SWEEPS = EXPERIMENTS / "sweeps"
FILES = sorted(SWEEPS.glob("*.yaml"))
SETS = ("area2_bump", "dmfc_rsg", "mc_maze", "mc_maze_large", "mc_maze_medium", "mc_maze_small", "mc_rtt", "simulated")
ARMS = ("baseline", "distilled")
over_sets = pytest.mark.parametrize("name", SETS)
over_files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes to the checkout, which commands are relative to, and selects the simulated set."""
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
    values = draw_values(sweep, 0)
    command = agent_command(path, values, tmp_path, monkeypatch)
    assert command[:5] == ["/usr/bin/env", "python", "-m", "blend_pl", "fit"]
    assert sweep.build_command(values) == [sys.executable, *command[2:]]


def fit(command: list[str], folder: Path, *extra_args: str) -> Experiment:
    return call(
        *command[4:], f"--output={folder / 'runs'}", f"--data.root={folder}", *TINY, teacher_args(), *extra_args
    )


@pytest.fixture(scope="module")
def parser() -> Any:
    """Returns the parser of `fit`."""
    return make_parser()


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Maps option names, without `init_args`, to values."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    entries = {**{key: value for key, value in settings.items() if key != "init_args"}, **settings.get("init_args", {})}
    flat_entries = [flatten(value, f"{prefix}.{key}" if prefix else key) for key, value in entries.items()]
    return {name: value for flat_entry in flat_entries for name, value in flat_entry.items()}


@pytest.mark.slow
@over_sets
@over_files
def test_parameters_reach_the_parser(path: Path, name: str, parser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", name)
    sweep = read_sweep(path)
    values = draw_values(sweep, 0)
    parsed = flatten(parser.parse_args(compose_arguments(sweep.build_command(values)[4:])).as_dict())
    loss = yaml.safe_load(values.pop("distillation.loss", "null"))
    assert {name: parsed[name] for name in values} == values
    if loss:
        expected = flatten(loss if isinstance(loss, dict) else {"class_path": loss}, "distillation.loss")
        assert {name: parsed[name] for name in expected} == expected


def test_each_arm_has_one_sweep_file() -> None:
    assert [path.stem for path in FILES] == list(ARMS)


def test_both_arms_draw_the_same_parameters_of_the_network() -> None:
    baseline, distilled = (yaml.safe_load((SWEEPS / f"{arm}.yaml").read_text()) for arm in ARMS)
    distillation = {name: entry for name, entry in distilled["parameters"].items() if name.startswith("distillation.")}
    assert distilled["parameters"] == {**distillation, **baseline["parameters"]}


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
    run = fit(agent_command(path, draw_values(sweep, 1), tmp_path, monkeypatch), folder, *data).run_dir
    assert sweep.metric in json.loads((run / "results.json").read_text())["selected"]


@pytest.mark.slow
def test_sweep_command_with_real_trials(tmp_path: Path) -> None:
    content = yaml.safe_load((SWEEPS / "distilled.yaml").read_text())
    content["command"][-1:-1] = [*SIMULATION, f"--data.root={tmp_path}", *TINY, teacher_args()]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    output = tmp_path / "runs"
    finish(start("sweep", tmp_path / "small.yaml", "--trials", "3", "--workers", "2", "--output", output))
    runs = sorted((output / "sweeps" / "simulated_small").glob("trial-*/results.json"))
    assert len(runs) == 3
    results = [json.loads(run.read_text()) for run in runs]
    assert len({teacher for result in results for teacher in result["teachers"]}) == 1, "all trials share one teacher"
    assert "3 trials finished, 0 failed" in (output / "sweeps" / "simulated_small" / "sweep.md").read_text()


@pytest.mark.slow
def test_killed_sweep_resumes_its_trial(tmp_path: Path) -> None:
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
    assert not (run / "results.json").exists(), "the trial finished before the sweep was killed"
    finish(start(*words))
    assert "Restored all states from the checkpoint" in (run / "log.txt").read_text()
    assert json.loads((run / "results.json").read_text())["epoch"] == 150
    assert [path.name for path in run.parent.glob("trial-*")] == ["trial-0000"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": {"name": "eval/co_bps", "goal": "maximize"}}, "only by the score that selects the checkpoint"),
        ({"metric": {"name": "best/val/co_bps", "goal": "minimize"}}, "is selected to maximize it"),
        ({"metric": "co_bps"}, "needs a name and a goal"),
        ({"method": "hyperband"}, "use one of bayes, random, grid"),
        ({"method": "grid"}, "is continuous"),
        ({"early_terminate": {"type": "hyperband"}}, "early_stopping"),
        ({"programme": "x"}, "unknown key programme"),
        ({"run_cap": 0}, "an integer of at least 1"),
        ({"parameters": {}}, "must be a mapping"),
        ({"parameters": {"run_dir": {"value": "x"}}}, "sets parameter run_dir for each trial"),
        ({"parameters": {"data.selection_split": {"value": "val"}}}, "select by the trials that are reported"),
        ({"parameters": {"x": {"value": None}}}, 'the string "null"'),
        ({"command": "python"}, "must be a list of words"),
        ({"command": ["${interpreter}", "-m", "${program}", "${args}"]}, "does not run `fit`"),
        ({"command": ["${program}", "fit", "${args_no_boolean_flags}"]}, "which `sweep` does not support"),
        ({"command": ["${program}", "fit", "--data.selection_split=val", "${args}"]}, "select by the trials"),
        ({"command": ["${program}", "fit", "--config", "no.yaml", "${args}"]}, "cannot read the config file no.yaml"),
    ],
)
def test_invalid_sweep_raises_one_line_error(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = yaml.safe_load((SWEEPS / "baseline.yaml").read_text())
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    with pytest.raises(ConfigError) as error:
        read_sweep(path)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"), [("", "contains no sweep"), ("a: [", "not valid YAML"), ("method: grid", "is missing")]
)
def test_file_without_sweep_raises(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sweep(tmp_path / "x.yaml")


def test_environment_variable_selects_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = {}
    for name in ("mc_rtt", "mc_maze"):
        monkeypatch.setenv("SET", name)
        sweeps[name] = read_sweep(SWEEPS / "baseline.yaml")
        assert f"experiments/{name}_baseline.yaml" in sweeps[name].command
    assert sweeps["mc_rtt"].name != sweeps["mc_maze"].name
    monkeypatch.delenv("SET")
    with pytest.raises(ConfigError, match="environment variable SET is not set"):
        read_sweep(SWEEPS / "baseline.yaml")


def test_trials_in_one_process_share_their_composition(tmp_path: Path) -> None:
    content = yaml.safe_load((SWEEPS / "baseline.yaml").read_text())
    content["command"][-1:-1] = ["--config=configs/model/causal.yaml", "--data.bin_ms=20"]
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(content))
    program, reference, fit_args = read_sweep(path).split_command()
    assert program == [sys.executable, "-m", "blend_pl"]
    assert reference == "experiments/simulated_baseline.yaml+configs/model/causal.yaml"
    assert fit_args == ["--data.bin_ms=20"]
