"""Tests of the command `sweep`, with trials that do not train."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import sweeping
from helpers.cli import REPOSITORY
from helpers.results import make_results
from optuna.trial import TrialState

from blend_pl.errors import ConfigError, TrainingInterrupted
from blend_pl.sweep import command, sweep
from blend_pl.sweep.file import read_sweep
from blend_pl.sweep.journal import JOURNAL, Journal
from blend_pl.sweep.owner import HeartbeatMonitor

FORKSERVER = multiprocessing.get_context("forkserver")
"""A fork of this process would not contain the threads that other tests have started."""
FORKSERVER.set_forkserver_preload(["blend_pl.sweep", "optuna"])
SWEEP: dict[str, Any] = {
    "program": "helpers.fake_fit",
    "command": ["${env}", "${interpreter}", "-m", "${program}", "fit", "--config", "x.yaml", "${args}"],
    "method": "random",
    "metric": {"name": "best/val/co_bps", "goal": "maximize"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "kind": {"values": ["a", "b", "c"]}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]))
    (tmp_path / "x.yaml").write_text("seed_everything: 0")
    (tmp_path / "runs").mkdir()
    return tmp_path


def write_sweep(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**SWEEP, **changes}, sort_keys=False))
    return path


def trials(folder: Path, file: str = "s.yaml") -> list[Any]:
    sweep_file = read_sweep(folder / file)
    return Journal(folder / "runs" / "sweeps" / sweep_file.name, sweep_file).trials()


def attempts(folder: Path) -> list[list[str]]:
    """Returns, for each trial, the checkpoint that each of its attempts started from."""
    files = sorted((folder / "runs" / "sweeps").glob("*/trial-*/attempts.txt"))
    return [[line.split()[0] for line in file.read_text().splitlines()] for file in files]


def start_sweep(file: Path, trials: int, workers: int = 1, max_parallel: int = 1) -> Any:
    """Starts the command in a child process."""
    words = ["blend_pl", "sweep", str(file), f"--trials={trials}"]
    words += [f"--workers={workers}", f"--max_parallel={max_parallel}"]
    process = FORKSERVER.Process(target=sweeping.run_main, args=(words, dict(os.environ)))
    process.start()
    return process


def failed_trials(folder: Path) -> list[int]:
    """Returns the numbers of the trials that have failed and are not being retried."""
    journal = Journal(folder / "runs" / "sweeps" / "s", read_sweep(folder / "s.yaml"))
    return [trial.number for trial in journal.trials() if journal.is_failed(trial)]


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"condition is not true after {seconds} s"
        time.sleep(0.05)


def test_summary_reports_best_trial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra_parameters = {"n": {"values": [3, 1]}, "w": {"values": ["u", "v"]}, "c": {"value": True}}
    file = write_sweep(folder / "s.yaml", method="bayes", parameters={**SWEEP["parameters"], **extra_parameters})
    sweep(str(file), trials=6, workers=2)
    finished = trials(folder)
    assert [trial.state for trial in finished] == [TrialState.COMPLETE] * 6
    assert attempts(folder) == [["new"]] * 6
    best = max(finished, key=lambda trial: trial.value)
    out = capsys.readouterr().out
    assert f"Best: trial {best.number}, best/val/co_bps {best.value:.4f}" in out
    report = folder / "runs" / "sweeps" / "s"
    text = (report / "sweep.md").read_text()
    first = text.split("| ---: |\n", 1)[1].splitlines()[0]
    assert first.startswith(f"| {best.number} | {best.value:.4f} |")
    assert "| x | 0." in text or "| x | 1." in text, "no importance"
    assert "data:image/png" in (report / "sweep.html").read_text()
    assert (report / "parallel.png").stat().st_size > 5000
    # All six trials exist, so another call runs none.
    sweep(str(file), trials=6)
    assert attempts(folder) == [["new"]] * 6


def test_trials_share_one_process(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_sweep(folder / "s.yaml")
    sweep(str(file), trials=4, max_parallel=3)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 4
    assert attempts(folder) == [*[["3-parallel"]] * 3, ["new"]]
    for trial in trials(folder):
        assert trial.value == pytest.approx(-((trial.params["x"] - 0.3) ** 2))
    logs = [(folder / "runs/sweeps/s" / f"trial-000{number}" / "log.txt").read_text() for number in (0, 1, 3)]
    assert logs[0].count("fake fit of") == 3
    assert "see runs/sweeps/s/trial-0000/log.txt" in logs[1]
    assert logs[2].count("fake fit of") == 1
    (folder / "runs" / "fail").touch()
    sweep(str(file), trials=6, max_parallel=2)
    assert "trial 5 failed, exit status 3; see runs/sweeps/s/trial-0005/log.txt" in capsys.readouterr().out
    assert failed_trials(folder) == [4, 5]


def test_killed_shared_process_is_resumed(folder: Path) -> None:
    file = write_sweep(folder / "s.yaml")
    (folder / "runs" / "SIGKILL").touch()
    killed = start_sweep(file, 2, max_parallel=2)
    killed.join(20)
    assert killed.exitcode == TrainingInterrupted.status
    assert [trial.state for trial in trials(folder)] == [TrialState.RUNNING] * 2
    (folder / "runs" / "SIGKILL").unlink()
    sweep(str(file), trials=2, max_parallel=2)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 2


def test_single_worker_is_reproducible(folder: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        file = write_sweep(folder / f"{name}.yaml", method="bayes")
        journal = Journal(folder / name, read_sweep(file))
        for _ in range(15):
            claim = journal.claim(15)
            assert claim is not None
            journal.finish(claim, claim.values["x"])
        drawn.append([trial.params for trial in journal.trials()])
    assert drawn[0] == drawn[1]
    assert len({json.dumps(params) for params in drawn[0]}) == 15


def test_grid_runs_every_point_once(folder: Path) -> None:
    parameters = {"x": {"distribution": "q_uniform", "min": 0, "max": 0.25, "q": 0.25}, "kind": {"values": ["a", "b"]}}
    sweep(str(write_sweep(folder / "s.yaml", method="grid", parameters=parameters)), trials=99, workers=2)
    values = [(trial.params["x"] * 0.25, json.loads(trial.params["kind"])) for trial in trials(folder)]
    assert values == [(x, kind) for x in (0.0, 0.25) for kind in "ab"]
    assert attempts(folder) == [["new"]] * 4


def test_two_commands_share_trials(folder: Path) -> None:
    file = write_sweep(folder / "s.yaml")
    processes = [start_sweep(file, 6), start_sweep(file, 6, workers=2)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 6
    assert attempts(folder) == [["new"]] * 6
    assert len({trial.params["x"] for trial in trials(folder)}) == 6


def test_killed_sweep_resumes_without_repeating_trials(folder: Path) -> None:
    file = write_sweep(folder / "s.yaml")
    sweep(str(file), trials=2)
    (folder / "runs" / "slow").touch()
    killed = start_sweep(file, 6, workers=2)
    wait_until(lambda: len(list(folder.glob("runs/sweeps/s/trial-*/checkpoints/last.ckpt"))) == 4)
    before = [trial.params for trial in trials(folder)]
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    (folder / "runs" / "slow").unlink()
    sweep(str(file), trials=6, workers=2)
    finished = trials(folder)
    assert [trial.state for trial in finished] == [TrialState.COMPLETE] * 6
    assert [trial.params for trial in finished][:4] == before
    resumed = [["new", f"runs/sweeps/s/trial-000{number}/checkpoints/last.ckpt"] for number in (2, 3)]
    assert attempts(folder) == [["new"], ["new"], *resumed, ["new"], ["new"]]
    for trial in finished:
        lines = (folder / f"runs/sweeps/s/trial-000{trial.number}/attempts.txt").read_text().splitlines()
        assert {json.loads(line.split(" ", 1)[1])["x"] for line in lines} == {str(trial.params["x"])}


def test_trial_with_results_is_not_rerun(folder: Path) -> None:
    file = write_sweep(folder / "s.yaml")
    process = FORKSERVER.Process(target=sweeping.claim_first_trial, args=(folder / "runs" / "sweeps" / "s", file))
    process.start()
    process.join()
    run = folder / "runs" / "sweeps" / "s" / "trial-0000"
    make_results(selected={"best/val/co_bps": 0.5}).write(run)
    sweep(str(file), trials=1)
    assert [trial.value for trial in trials(folder)] == [0.5]
    assert attempts(folder) == []


@pytest.mark.parametrize("sent_signal", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_interrupted_sweep_keeps_trials_running(sent_signal: signal.Signals, folder: Path) -> None:
    file = write_sweep(folder / "s.yaml")
    (folder / "runs" / "slow").touch()
    process = start_sweep(file, 2)
    wait_until(lambda: len(list(folder.glob("runs/sweeps/s/trial-*/checkpoints/last.ckpt"))) == 1)
    os.kill(process.pid, sent_signal)
    process.join(20)
    assert process.exitcode == TrainingInterrupted.status == 75
    assert [trial.state for trial in trials(folder)] == [TrialState.RUNNING]
    assert failed_trials(folder) == []


@pytest.mark.parametrize("sent_signal", [signal.SIGKILL, signal.SIGUSR1])
def test_killed_trial_is_not_failed(sent_signal: signal.Signals, folder: Path) -> None:
    file = write_sweep(folder / "s.yaml")
    (folder / "runs" / sent_signal.name).touch()
    process = start_sweep(file, 2)
    process.join(20)
    assert process.exitcode == TrainingInterrupted.status
    assert [trial.state for trial in trials(folder)] == [TrialState.RUNNING]
    (folder / "runs" / sent_signal.name).unlink()
    sweep(str(file), trials=2)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 2
    assert list(map(len, attempts(folder))) == [2, 1]


def test_failed_trial_is_reported_and_sweep_continues(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_sweep(folder / "s.yaml")
    sweep(str(file), trials=1)
    (folder / "runs" / "fail").touch()
    sweep(str(file), trials=2)
    out = capsys.readouterr().out
    assert "trial 1 failed, exit status 3; see runs/sweeps/s/trial-0001/log.txt" in out
    (folder / "runs" / "fail").unlink()
    (folder / "runs" / "quiet").touch()
    sweep(str(file), trials=3)
    assert "trial 2 failed, it wrote no results with best/val/co_bps" in capsys.readouterr().out
    assert trials(folder)[0].state == TrialState.COMPLETE
    assert failed_trials(folder) == [1, 2]
    assert "2 failed" in (folder / "runs/sweeps/s/sweep.md").read_text()
    # A trial that wrote results without the metric is not run again.
    assert attempts(folder)[2] == ["new"]
    sweep(str(file), trials=3)
    assert attempts(folder)[2] == ["new"]


def test_consecutive_failures_end_command_and_are_retried_by_the_next(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(folder / "s.yaml")
    sweep(str(file), trials=1)
    (folder / "runs" / "fail").touch()
    with pytest.raises(ConfigError, match=r"3 trials in a row failed, see .*trial-0003/log\.txt; fix the cause"):
        sweep(str(file), trials=6)
    assert "the reason why" in capsys.readouterr().out
    assert failed_trials(folder) == [1, 2, 3]
    assert "Trial 1 failed: exit status 3." in (folder / "runs/sweeps/s/sweep.md").read_text()
    drawn = [trial.params for trial in trials(folder)]
    (folder / "runs" / "fail").unlink()
    sweep(str(file), trials=6)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 6
    assert [trial.params for trial in trials(folder)][:4] == drawn
    assert list(map(len, attempts(folder))) == [1, 2, 2, 2, 1, 1]
    assert "6 trials finished, 0 failed" in capsys.readouterr().out


def test_failed_trial_is_retried_once_per_later_command(folder: Path) -> None:
    file = write_sweep(folder / "s.yaml")
    (folder / "runs" / "fail").touch()
    sweep(str(file), trials=1)
    journals = [Journal(folder / "runs" / "sweeps" / "s", read_sweep(file)) for _ in range(2)]
    claim = journals[0].claim(1)
    assert claim is not None
    assert claim.number == 0
    assert journals[1].claim(1) is None
    assert journals[1].has_pending()
    journals[0].fail(claim, "again")
    assert not journals[1].has_pending()
    assert [journal.claim(1) for journal in journals] == [None, None], "opened before the last failure"
    sweep(str(file), trials=1)
    assert attempts(folder) == [["new", "new"]]


def test_former_owner_cannot_fail_trial(folder: Path) -> None:
    journal = Journal(folder / "runs" / "sweeps" / "s", read_sweep(write_sweep(folder / "s.yaml")))
    claim = journal.claim(1)
    assert claim is not None
    claim.trial.set_user_attr("owners", [["another machine", "1 1"]])
    journal.fail(claim, "late")
    assert failed_trials(folder) == []


@pytest.mark.parametrize(
    ("visible_devices", "n_workers", "expected"),
    [(None, 1, [None]), (None, 3, ["0", "1", "0"]), ("3,5", 2, ["3", "5"]), ("3,5", 1, ["3,5"]), ("", 2, ["", ""])],
)
def test_each_worker_sees_one_gpu(
    visible_devices: str | None, n_workers: int, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible_devices is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible_devices)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    environments = [command._worker_environment(index, n_workers) for index in range(n_workers)]
    assert [environment.get("CUDA_VISIBLE_DEVICES") for environment in environments] == expected
    assert not any("SLURM_NTASKS" in environment for environment in environments)


def test_changed_sweep_file_raises(folder: Path) -> None:
    sweep(str(write_sweep(folder / "s.yaml")), trials=1)
    changed = write_sweep(folder / "s.yaml", parameters={"x": {"min": 0.0, "max": 2.0}})
    with pytest.raises(
        ConfigError, match="the file or the version of blend_pl has changed since; use another --output"
    ):
        sweep(str(changed), trials=2)


def test_partial_last_line_of_journal_is_ignored(folder: Path) -> None:
    file = write_sweep(folder / "s.yaml")
    sweep(str(file), trials=1)
    with (folder / "runs" / "sweeps" / "s" / JOURNAL).open("a") as journal:
        journal.write('{"op_code": 4, "work')
    sweep(str(file), trials=2)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 2


def test_journal_of_version_0_1_is_continued(folder: Path) -> None:
    sweep_dir = folder / "runs" / "sweeps" / "s"
    sweep_dir.mkdir(parents=True)
    shutil.copy(REPOSITORY / "tests" / "fixtures" / "v0_1" / "sweep_journal.log", sweep_dir / JOURNAL)
    journal = Journal(sweep_dir, read_sweep(write_sweep(folder / "s.yaml")))
    journal.heartbeat_monitor = HeartbeatMonitor(stale_after_s=-1)
    assert [trial.value for trial in journal.trials()] == [0.25, None, None]
    assert failed_trials(folder) == [1]
    claims = [journal.claim(3), journal.claim(3)]
    assert [(claim.number, claim.values) for claim in claims if claim is not None] == [
        (2, {"x": 0.43599490214200376, "kind": "b"}),
        (1, {"x": 0.417022004702574, "kind": "a"}),
    ]
