"""Tests of experiments/compare.py."""

import importlib.util
import multiprocessing
import multiprocessing.context
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers.cli import EXPERIMENTS, REPOSITORY


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, in the root of the repository."""
    monkeypatch.chdir(REPOSITORY)
    specification = importlib.util.spec_from_file_location("compare", EXPERIMENTS / "compare.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "compare", module)  # Processes find functions by the name of their module.
    monkeypatch.syspath_prepend(EXPERIMENTS)
    specification.loader.exec_module(module)
    return module


def calls_of(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, output: Path, *arguments: str, status: int = 0
) -> tuple[list[str], int]:
    """Returns the commands that the script runs, and its status; `status` is that of each command."""
    calls = output / "calls.txt"

    def run() -> int:
        with calls.open("a") as file:
            file.write(" ".join(sys.argv[1:]) + "\n")
        os.write(1, b"the reason\n")
        return status

    # Processes that are forked from this one have the same functions.
    monkeypatch.setattr(script, "_PROCESSES", multiprocessing.get_context("fork"))
    monkeypatch.setattr(multiprocessing.context.BaseContext, "set_forkserver_preload", lambda *_: None)
    monkeypatch.setattr(script, "run_command_line", run)
    options = ["simulated", "--seeds", "1", "2", "--output", str(output), "--jobs", "1", *arguments]
    monkeypatch.setattr(sys, "argv", ["compare.py", *options])
    exit_status = script.main()
    return calls.read_text().splitlines(), exit_status


@pytest.mark.parametrize("sessions", [[], ["201", "202"]])
def test_every_arm_seed_and_session_is_one_run(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sessions: list[str]
) -> None:
    arms = ["--arms", "baseline", "stndt_small+hard"]
    arms += ["--fit_baselines", *(["--sessions", *sessions] if sessions else [])]
    calls, status = calls_of(script, monkeypatch, tmp_path, *arms)
    fits, report = [call for call in calls if call.startswith("fit")], calls[-1]
    n_sessions = max(1, len(sessions))
    baselines = [
        call for call in calls if call.startswith("baseline experiments/simulated.yaml+configs/arm/baseline.yaml")
    ]
    assert len(set(baselines)) == n_sessions == len(calls) - len(fits) - 1
    assert all("--seeds [1,2]" in call for call in baselines)
    assert status == 0
    assert len(fits) == len(set(fits)) == 4 * n_sessions
    assert all(call.startswith("fit --config experiments/simulated.yaml+configs/") for call in fits)
    assert sum("+configs/model/stndt_small.yaml+configs/arm/hard.yaml --seed_everything 2" in fit for fit in fits) == (
        n_sessions
    )
    for session in sessions:
        assert sum(fit.endswith(f"--data.simulation.seed {session}") for fit in fits) == 4
    assert report.startswith("report ")
    assert ("--pool_sessions" in report) == bool(sessions)
    assert ("--data.simulation.seed" in " ".join(fits)) == bool(sessions)


def test_failed_run_ends_with_its_log(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls, status = calls_of(script, monkeypatch, tmp_path, "--arms", "baseline", "hard", status=2)
    assert status == 1
    assert len(calls) == 1
    assert "baseline-seed1: status 2; end of" in (errors := capsys.readouterr().err)
    assert "the reason" in errors


def test_unknown_arm_is_named(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"there is no hrad\.yaml"):
        script.compose("simulated", "stndt_small+hrad")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [(["--version"], 0, "blend_pl "), (["fit", "--config", "missing.yaml"], 2, "missing")],
)
def test_processes_run_commands(
    script: ModuleType, tmp_path: Path, arguments: list[str], status: int, text: str
) -> None:
    log = tmp_path / "run.log"
    process = script._start(arguments, log)
    process.join()
    assert process.exitcode == status
    assert text in log.read_text()
