"""Tests of the W&B logger, offline and without an account."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
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
    fit,
    start,
    teacher_args,
)
from helpers.kill import Interrupted
from helpers.wandb_files import of_kind
from jsonargparse import Namespace

from blend_pl.errors import ConfigError
from blend_pl.experiment.tracking import configure_wandb, select_logger
from blend_pl.sweep.file import read_sweep

LOGGER = ["--config", REPOSITORY / "configs" / "logger" / "wandb.yaml"]
TOKENS = {"WANDB_API_KEY": "5ec2e7" * 6 + "abcd", "EVALAI_TOKEN": "ev41t0ken" * 3, "DANDI_API_KEY": "d4nd1" * 8}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("wandb")
    variables = {f"WANDB_{name}_DIR": str(folder / name) for name in ("CACHE", "DATA", "CONFIG")}
    variables |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", **TOKENS}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables
        # Its threads would hang later forks of this process.
        wandb.teardown()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


def logger_args(output: Path) -> list[str | Path]:
    return [*LOGGER, *data_args(output)]


def data_args(output: Path) -> list[str]:
    return [f"--data.root={output / 'data'}", *SIMULATION]


@pytest.fixture(scope="module")
def run(output: Path, environment: dict[str, str]) -> Path:
    """Runs a trial of a sweep with the command and the environment of W&B's agent."""
    path = EXPERIMENTS / "sweeps" / "baseline.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SET", "simulated")
        patch.chdir(REPOSITORY)
        patch.setenv("WANDB_SWEEP_ID", "agentssweep")
        command = agent_command(path, draw_values(read_sweep(path), 0), output, patch)
        trial = call(*command[4:], f"--output={output}", *TINY, *data_args(output)).run_dir
    # Otherwise W&B gives the run id of the agent to every later run of this process.
    wandb.teardown()
    return trial


def log_of(run: Path) -> Path:
    """Returns the file of the only W&B run in a run folder."""
    (log,) = run.glob("wandb/offline-run-*/*.wandb")
    return log


def test_trial_uses_drawn_values_and_writes_its_score(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "simulated")
    sweep = read_sweep(EXPERIMENTS / "sweeps" / "baseline.yaml")
    results = json.loads((run / "results.json").read_text())
    assert results["selected"].keys() == {sweep.metric}
    masking = results["config"]["model"]["init_args"]["masking"]
    values = draw_values(sweep, 0)
    assert all(masking[name] == values[f"model.masking.{name}"] for name in ("mode", "ratio"))


def model_artifacts(run: Path) -> list[Any]:
    """Returns the artifacts of type model."""
    return [artifact for artifact in of_kind(log_of(run), "artifact") if artifact.type == "model"]


def test_settings_metrics_and_scores_are_logged(run: Path) -> None:
    log = log_of(run)
    (start_record,) = of_kind(log, "run")[:1]
    assert (start_record.sweep_id, start_record.display_name) == ("agentssweep", f"simulated_baseline/{run.name}")
    logged = {item.key: json.loads(item.value_json) for record in of_kind(log, "config") for item in record.update}
    logged |= {item.key: json.loads(item.value_json) for item in start_record.config.update}
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert {key: logged[key] for key in ("name", "seed_everything")} == {
        "name": "simulated_baseline",
        "seed_everything": 0,
    }
    assert logged["data"]["init_args"]["bin_ms"] == settings["data"]["init_args"]["bin_ms"] == 20
    history: dict[str, list[Any]] = {}
    for record in of_kind(log, "history"):
        for item in record.item:
            history.setdefault(item.key or "/".join(item.nested_key), []).append(json.loads(item.value_json))
    results = json.loads((run / "results.json").read_text())
    assert history["best/val/co_bps"] == [results["selected"]["best/val/co_bps"]]
    assert max(history["val/co_bps"]) == pytest.approx(history["best/val/co_bps"][0])
    for name, score in results["scores"].items():
        assert history[f"eval/{name}"][-1] == pytest.approx(score, rel=1e-5)
    for kind in ("rates", "psths", "trajectories", "velocities", "scores"):
        assert len(list(run.glob(f"wandb/offline-run-*/files/media/images/figures/{kind}_*.png"))) == 1, kind
    (table,) = run.glob("wandb/offline-run-*/files/media/table/*.json")
    rows = json.loads(table.read_text())["data"]
    assert [row[1] for row in rows] == [pytest.approx(score) for score in results["scores"].values()]


def test_best_checkpoint_is_an_artifact(run: Path) -> None:
    (artifact,) = model_artifacts(run)
    assert (artifact.type, artifact.name) == ("model", "simulated_baseline")
    assert sorted(artifact.aliases) == ["latest", run.name]
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert set(files) == {"best.ckpt", "config.yaml", "results.json"}
    assert torch.load(files["best.ckpt"], weights_only=True)["global_step"] > 0


def test_no_file_contains_a_token(run: Path) -> None:
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        for token in TOKENS.values():
            assert token.encode() not in content, path


def test_missing_wandb_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("blend_pl.experiment.tracking.find_spec", lambda name: None)
    logger = Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace())
    for loggers in (logger, [Namespace(class_path="other"), logger]):
        with pytest.raises(ConfigError, match=r"blend-pl\[wandb\]"):
            configure_wandb(loggers, tmp_path, "x", resumed=False)


@pytest.mark.parametrize("logger", [False, True, [], Namespace(class_path="other")])
def test_agent_changes_only_the_default_logger(logger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_agent = select_logger(logger, tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "agentssweep")
    assert select_logger(logger, tmp_path) == without_agent != select_logger(None, tmp_path)


@pytest.mark.slow
def test_each_fit_is_a_separate_wandb_run(run: Path, output: Path) -> None:
    first, second = (fit("simulated_baseline", output, *logger_args(output)) for _ in range(2))
    third = fit("simulated_baseline", output, *logger_args(output), f"--run_dir={first}")
    assert second.name == f"{first.name}-2"
    assert third == first != run
    ids = {path.stem for path in output.glob("simulated_baseline/*/wandb/offline-run-*/*.wandb")}
    assert len(ids) == 4


@pytest.mark.slow
@pytest.mark.parametrize("option", ["ckpt_path", "resume"])
def test_resumed_fit_continues_its_wandb_run(option: str, output: Path, environment: dict[str, str]) -> None:
    run = output / f"resumed-{option}"
    killed = {"epoch": 1, "batch": 0, "how": "raise", "mark": output / option}
    command = ["--config", experiment("simulated_baseline"), *TINY, *logger_args(output), f"--run_dir={run}"]
    command += ["--trainer.callbacks+=helpers.kill.Kill", *(f"--trainer.callbacks.{k}={v}" for k, v in killed.items())]
    with pytest.raises(Interrupted):
        call("fit", *command)
    # As at the end of its process.
    wandb.finish(exit_code=1)
    call("fit", *command, {"ckpt_path": f"--ckpt_path={run}/checkpoints/last.ckpt", "resume": "--resume=true"}[option])
    logs = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert len(logs) == 2
    assert len({log.stem for log in logs}) == 1


@pytest.mark.slow
def test_student_of_agent_and_its_teacher_are_two_wandb_runs(output: Path, environment: dict[str, str]) -> None:
    runs = output / "agent"
    arguments = [
        "--config",
        experiment("simulated_hard"),
        f"--output={runs}",
        *TINY,
        teacher_args(),
        *logger_args(output),
    ]
    finish(start("fit", *arguments, WANDB_RUN_ID="agentsrun", WANDB_SWEEP_ID="agentssweep", **environment))
    (student,) = runs.glob("simulated_hard/seed*")
    (teacher,) = runs.glob("simulated_teacher/seed*")
    assert log_of(student).stem == "run-agentsrun"
    assert log_of(teacher).stem != "run-agentsrun"
    assert of_kind(log_of(student), "run")[0].sweep_id == "agentssweep"
    (start_record,) = of_kind(log_of(teacher), "run")[:1]
    assert (start_record.sweep_id, start_record.project) == ("", "blend_pl")


@pytest.mark.slow
def test_two_ranks_write_one_wandb_run(output: Path, environment: dict[str, str]) -> None:
    runs = output / "ranks"
    arguments = ["--config", experiment("simulated_baseline"), f"--output={runs}", *TINY, *logger_args(output)]
    finish(start("fit", *arguments, "--trainer.devices=2", "--trainer.strategy=ddp", **environment))
    (run,) = runs.glob("simulated_baseline/seed*")
    assert len(model_artifacts(run)) == 1
