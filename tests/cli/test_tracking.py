"""What W&B is told of a run, without an account and without a network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
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
    fit,
    start,
    teacher_args,
)
from helpers.kill import Interrupted
from helpers.wandb_files import of_kind
from jsonargparse import Namespace

from blend_pl.cli.tracking import configure_wandb, select_logger
from blend_pl.errors import ConfigError
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
        # Its threads would hang whoever forks this process later.
        wandb.teardown()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


def options(output: Path) -> list[str | Path]:
    return [*LOGGER, *session(output)]


def session(output: Path) -> list[str]:
    return [f"--data.root={output / 'data'}", *SIMULATION]


@pytest.fixture(scope="module")
def run(output: Path, environment: dict[str, str]) -> Path:
    """A trial of a sweep, run by the words and in the sweep that W&B's agent runs it with."""
    path = EXPERIMENTS / "sweeps" / "baseline.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SET", "simulated")
        patch.chdir(REPOSITORY)
        patch.setenv("WANDB_SWEEP_ID", "agentssweep")
        command = vector_of_the_agent(path, drawn(read_sweep(path), 0), output, patch)
        trial = call(*command[4:], f"--output={output}", *TINY, *session(output)).run_dir
    # W&B would give the id that the agent chose to every later run of this process.
    wandb.teardown()
    return trial


def log_of(run: Path) -> Path:
    """The only W&B run of a run."""
    (log,) = run.glob("wandb/offline-run-*/*.wandb")
    return log


def test_a_trial_trains_with_what_was_drawn_and_leaves_its_score(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "simulated")
    sweep = read_sweep(EXPERIMENTS / "sweeps" / "baseline.yaml")
    results = json.loads((run / "results.json").read_text())
    assert results["selected"].keys() == {sweep.metric}
    masking = results["config"]["model"]["init_args"]["masking"]
    wanted = drawn(sweep, 0)
    assert all(masking[name] == wanted[f"model.masking.{name}"] for name in ("mode", "ratio"))


def models(run: Path) -> list[Any]:
    """The artifacts that are models."""
    return [artifact for artifact in of_kind(log_of(run), "artifact") if artifact.type == "model"]


def test_wandb_has_settings_metrics_and_scores(run: Path) -> None:
    log = log_of(run)
    (begun,) = of_kind(log, "run")[:1]
    assert (begun.sweep_id, begun.display_name) == ("agentssweep", f"simulated_baseline/{run.name}")
    told = {item.key: json.loads(item.value_json) for record in of_kind(log, "config") for item in record.update}
    told |= {item.key: json.loads(item.value_json) for item in begun.config.update}
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert {key: told[key] for key in ("name", "seed_everything")} == {
        "name": "simulated_baseline",
        "seed_everything": 0,
    }
    assert told["data"]["init_args"]["bin_ms"] == settings["data"]["init_args"]["bin_ms"] == 20
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


def test_the_best_checkpoint_is_an_artifact(run: Path) -> None:
    (artifact,) = models(run)
    assert (artifact.type, artifact.name) == ("model", "simulated_baseline")
    assert sorted(artifact.aliases) == ["latest", run.name]
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert set(files) == {"best.ckpt", "config.yaml", "results.json"}
    assert torch.load(files["best.ckpt"], weights_only=True)["global_step"] > 0


def test_no_token_is_written_anywhere(run: Path) -> None:
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        for token in TOKENS.values():
            assert token.encode() not in content, path


def test_without_wandb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("blend_pl.cli.tracking.find_spec", lambda name: None)
    logger = Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace())
    for loggers in (logger, [Namespace(class_path="other"), logger]):
        with pytest.raises(ConfigError, match=r"blend-pl\[wandb\]"):
            configure_wandb(loggers, tmp_path, "x", resumed=False)


@pytest.mark.parametrize("named", [False, True, [], Namespace(class_path="other")])
def test_an_agent_changes_no_choice(named: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = select_logger(named, tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "agentssweep")
    assert select_logger(named, tmp_path) == without != select_logger(None, tmp_path)


@pytest.mark.slow
def test_fits_of_one_folder_are_runs_of_their_own(run: Path, output: Path) -> None:
    first, second = (fit("simulated_baseline", output, *options(output)) for _ in range(2))
    third = fit("simulated_baseline", output, *options(output), f"--run_dir={first}")
    assert second.name == f"{first.name}-2"
    assert third == first != run
    ids = {path.stem for path in output.glob("simulated_baseline/*/wandb/offline-run-*/*.wandb")}
    assert len(ids) == 4


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ckpt_path", "resume"])
def test_a_resumed_fit_goes_on_in_its_run(way: str, output: Path, environment: dict[str, str]) -> None:
    run = output / f"resumed-{way}"
    killed = {"epoch": 1, "batch": 0, "how": "raise", "mark": output / way}
    command = ["--config", experiment("simulated_baseline"), *TINY, *options(output), f"--run_dir={run}"]
    command += ["--trainer.callbacks+=helpers.kill.Kill", *(f"--trainer.callbacks.{k}={v}" for k, v in killed.items())]
    with pytest.raises(Interrupted):
        call("fit", *command)
    # As the end of its process would.
    wandb.finish(exit_code=1)
    call("fit", *command, {"ckpt_path": f"--ckpt_path={run}/checkpoints/last.ckpt", "resume": "--resume=true"}[way])
    logs = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert len(logs) == 2
    assert len({log.stem for log in logs}) == 1


@pytest.mark.slow
def test_an_agents_student_and_its_teacher_are_two_runs(output: Path, environment: dict[str, str]) -> None:
    where = output / "agent"
    given = ["--config", experiment("simulated_hard"), f"--output={where}", *TINY, teacher_args(), *options(output)]
    finish(start("fit", *given, WANDB_RUN_ID="agentsrun", WANDB_SWEEP_ID="agentssweep", **environment))
    (student,) = where.glob("simulated_hard/seed*")
    (teacher,) = where.glob("simulated_teacher/seed*")
    assert log_of(student).stem == "run-agentsrun"
    assert log_of(teacher).stem != "run-agentsrun"
    assert of_kind(log_of(student), "run")[0].sweep_id == "agentssweep"
    (begun,) = of_kind(log_of(teacher), "run")[:1]
    assert (begun.sweep_id, begun.project) == ("", "blend_pl")


@pytest.mark.slow
def test_two_ranks_are_one_run(output: Path, environment: dict[str, str]) -> None:
    where = output / "ranks"
    given = ["--config", experiment("simulated_baseline"), f"--output={where}", *TINY, *options(output)]
    finish(start("fit", *given, "--trainer.devices=2", "--trainer.strategy=ddp", **environment))
    (run,) = where.glob("simulated_baseline/seed*")
    assert len(models(run)) == 1
