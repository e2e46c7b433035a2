"""`sweep` from the file to the report, with trials that train nothing."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import sweeping
from helpers.cli import REPOSITORY
from optuna.trial import TrialState

from blend_pl.errors import ConfigError, TrainingInterrupted
from blend_pl.sweep import command, sweep
from blend_pl.sweep.file import read_sweep
from blend_pl.sweep.journal import JOURNAL, Journal

CLEAN = multiprocessing.get_context("forkserver")
"""Threads that other tests have left behind would not survive a fork of this process."""
CLEAN.set_forkserver_preload(["blend_pl.sweep", "optuna"])
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


def write(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**SWEEP, **changes}, sort_keys=False))
    return path


def trials(folder: Path, file: str = "s.yaml") -> list[Any]:
    wanted = read_sweep(folder / file)
    return Journal(folder / "runs" / "sweeps" / wanted.name, wanted).trials()


def attempts(folder: Path) -> list[list[str]]:
    """For each trial the checkpoints that its starts began from."""
    files = sorted((folder / "runs" / "sweeps").glob("*/trial-*/attempts.txt"))
    return [[line.split()[0] for line in file.read_text().splitlines()] for file in files]


def start(file: Path, number: int, workers: int = 1, together: int = 1) -> Any:
    """A command in a process of its own."""
    words = ["blend_pl", "sweep", str(file), f"--trials={number}", f"--workers={workers}", f"--max_parallel={together}"]
    process = CLEAN.Process(target=sweeping.command, args=(words, dict(os.environ)))
    process.start()
    return process


def failed(folder: Path) -> list[int]:
    """Numbers of the trials that have failed and are nobody's."""
    journal = Journal(folder / "runs" / "sweeps" / "s", read_sweep(folder / "s.yaml"))
    return [trial.number for trial in journal.trials() if journal.is_failed(trial)]


def wait_until(happened: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_sweep_finds_the_best_and_reports_on_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"n": {"values": [3, 1]}, "w": {"values": ["u", "v"]}, "c": {"value": True}}
    file = write(folder / "s.yaml", method="bayes", parameters={**SWEEP["parameters"], **more})
    sweep(str(file), trials=6, workers=2)
    done = trials(folder)
    assert [trial.state for trial in done] == [TrialState.COMPLETE] * 6
    assert attempts(folder) == [["new"]] * 6
    best = max(done, key=lambda trial: trial.value)
    out = capsys.readouterr().out
    assert f"Best: trial {best.number}, best/val/co_bps {best.value:.4f}" in out
    report = folder / "runs" / "sweeps" / "s"
    text = (report / "sweep.md").read_text()
    first = text.split("| ---: |\n", 1)[1].splitlines()[0]
    assert first.startswith(f"| {best.number} | {best.value:.4f} |")
    assert "| x | 0." in text or "| x | 1." in text, "no importance"
    assert "data:image/png" in (report / "sweep.html").read_text()
    assert (report / "parallel.png").stat().st_size > 5000
    # Asked for as many again, it has nothing to do.
    sweep(str(file), trials=6)
    assert attempts(folder) == [["new"]] * 6


def test_trials_that_share_a_process(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(folder / "s.yaml")
    sweep(str(file), trials=4, max_parallel=3)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 4
    assert attempts(folder) == [*[["3-together"]] * 3, ["new"]]
    for trial in trials(folder):
        assert trial.value == pytest.approx(-((trial.params["x"] - 0.3) ** 2))
    logs = [(folder / "runs/sweeps/s" / f"trial-000{number}" / "log.txt").read_text() for number in (0, 1, 3)]
    assert logs[0].count("fake fit of") == 3
    assert "see runs/sweeps/s/trial-0000/log.txt" in logs[1]
    assert logs[2].count("fake fit of") == 1
    (folder / "runs" / "fail").touch()
    sweep(str(file), trials=6, max_parallel=2)
    assert "trial 5 failed, exit status 3; see runs/sweeps/s/trial-0005/log.txt" in capsys.readouterr().out
    assert failed(folder) == [4, 5]


def test_a_process_of_several_trials_that_is_killed(folder: Path) -> None:
    file = write(folder / "s.yaml")
    (folder / "runs" / "SIGKILL").touch()
    killed = start(file, 2, together=2)
    killed.join(20)
    assert killed.exitcode == TrainingInterrupted.status
    assert [trial.state for trial in trials(folder)] == [TrialState.RUNNING] * 2
    (folder / "runs" / "SIGKILL").unlink()
    sweep(str(file), trials=2, max_parallel=2)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 2


def test_one_worker_draws_the_same_again(folder: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        file = write(folder / f"{name}.yaml", method="bayes")
        wanted = read_sweep(file)
        journal = Journal(folder / name, wanted)
        for _ in range(15):
            claim = journal.claim(15)
            assert claim is not None
            journal.finish(claim, claim.values["x"])
        drawn.append([trial.params for trial in journal.trials()])
    assert drawn[0] == drawn[1]
    assert len({json.dumps(params) for params in drawn[0]}) == 15


def test_a_grid_is_gone_through_once(folder: Path) -> None:
    parameters = {"x": {"distribution": "q_uniform", "min": 0, "max": 0.25, "q": 0.25}, "kind": {"values": ["a", "b"]}}
    sweep(str(write(folder / "s.yaml", method="grid", parameters=parameters)), trials=99, workers=2)
    values = [(trial.params["x"] * 0.25, json.loads(trial.params["kind"])) for trial in trials(folder)]
    assert values == [(x, kind) for x in (0.0, 0.25) for kind in "ab"]
    assert attempts(folder) == [["new"]] * 4


def test_two_commands_share_the_trials(folder: Path) -> None:
    file = write(folder / "s.yaml")
    commands = [start(file, 6), start(file, 6, workers=2)]
    for started in commands:
        started.join(60)
        assert started.exitcode == 0
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 6
    assert attempts(folder) == [["new"]] * 6
    assert len({trial.params["x"] for trial in trials(folder)}) == 6


def test_a_killed_sweep_loses_nothing_and_runs_nothing_twice(folder: Path) -> None:
    file = write(folder / "s.yaml")
    sweep(str(file), trials=2)
    (folder / "runs" / "slow").touch()
    killed = start(file, 6, workers=2)
    wait_until(lambda: len(list(folder.glob("runs/sweeps/s/trial-*/checkpoints/last.ckpt"))) == 4)
    before = [trial.params for trial in trials(folder)]
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    (folder / "runs" / "slow").unlink()
    sweep(str(file), trials=6, workers=2)
    done = trials(folder)
    assert [trial.state for trial in done] == [TrialState.COMPLETE] * 6
    assert [trial.params for trial in done][:4] == before
    last = [f"runs/sweeps/s/trial-000{number}/checkpoints/last.ckpt" for number in (2, 3)]
    assert attempts(folder) == [["new"], ["new"], ["new", last[0]], ["new", last[1]], ["new"], ["new"]]
    for trial in done:
        lines = (folder / f"runs/sweeps/s/trial-000{trial.number}/attempts.txt").read_text().splitlines()
        assert {json.loads(line.split(" ", 1)[1])["x"] for line in lines} == {str(trial.params["x"])}


def test_a_trial_that_has_results_is_not_run_again(folder: Path) -> None:
    file = write(folder / "s.yaml")
    process = CLEAN.Process(target=sweeping.claim, args=(folder / "runs" / "sweeps" / "s", file))
    process.start()
    process.join()
    run = folder / "runs" / "sweeps" / "s" / "trial-0000"
    (run / "results.json").write_text(json.dumps({"selected": {"best/val/co_bps": 0.5}}))
    sweep(str(file), trials=1)
    assert [trial.value for trial in trials(folder)] == [0.5]
    assert attempts(folder) == []


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_an_interrupted_sweep_leaves_its_trials_to_go_on(sent: signal.Signals, folder: Path) -> None:
    file = write(folder / "s.yaml")
    (folder / "runs" / "slow").touch()
    ended = start(file, 2)
    wait_until(lambda: len(list(folder.glob("runs/sweeps/s/trial-*/checkpoints/last.ckpt"))) == 1)
    os.kill(ended.pid, sent)
    ended.join(20)
    assert ended.exitcode == TrainingInterrupted.status == 75
    assert [trial.state for trial in trials(folder)] == [TrialState.RUNNING]
    assert failed(folder) == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGUSR1])
def test_a_trial_that_is_killed_has_not_failed(sent: signal.Signals, folder: Path) -> None:
    file = write(folder / "s.yaml")
    (folder / "runs" / sent.name).touch()
    ended = start(file, 2)
    ended.join(20)
    assert ended.exitcode == TrainingInterrupted.status
    assert [trial.state for trial in trials(folder)] == [TrialState.RUNNING]
    (folder / "runs" / sent.name).unlink()
    sweep(str(file), trials=2)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 2
    assert list(map(len, attempts(folder))) == [2, 1]


def test_a_failed_trial_is_named_and_stops_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(folder / "s.yaml")
    sweep(str(file), trials=1)
    (folder / "runs" / "fail").touch()
    sweep(str(file), trials=2)
    out = capsys.readouterr().out
    assert "trial 1 failed, exit status 3; see runs/sweeps/s/trial-0001/log.txt" in out
    (folder / "runs" / "fail").unlink()
    (folder / "runs" / "quiet").touch()
    sweep(str(file), trials=3)
    assert "trial 2 failed, it left no results with best/val/co_bps" in capsys.readouterr().out
    assert trials(folder)[0].state == TrialState.COMPLETE
    assert failed(folder) == [1, 2]
    assert "2 failed" in (folder / "runs/sweeps/s/sweep.md").read_text()
    # What has ended, without that score, is not run again.
    assert attempts(folder)[2] == ["new"]
    sweep(str(file), trials=3)
    assert attempts(folder)[2] == ["new"]


def test_failures_in_a_row_end_a_command_and_the_next_tries_them_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(folder / "s.yaml")
    sweep(str(file), trials=1)
    (folder / "runs" / "fail").touch()
    with pytest.raises(ConfigError, match=r"3 trials in a row failed, see .*trial-0003/log\.txt; mend"):
        sweep(str(file), trials=6)
    assert "the reason why" in capsys.readouterr().out
    assert failed(folder) == [1, 2, 3]
    assert "Trial 1 failed: exit status 3." in (folder / "runs/sweeps/s/sweep.md").read_text()
    drawn = [trial.params for trial in trials(folder)]
    (folder / "runs" / "fail").unlink()
    sweep(str(file), trials=6)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 6
    assert [trial.params for trial in trials(folder)][:4] == drawn
    assert list(map(len, attempts(folder))) == [1, 2, 2, 2, 1, 1]
    assert "6 trials finished, 0 failed" in capsys.readouterr().out


def test_a_failed_trial_is_tried_again_by_each_later_command_once(folder: Path) -> None:
    file = write(folder / "s.yaml")
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
    assert [journal.claim(1) for journal in journals] == [None, None], "both began before it failed again"
    sweep(str(file), trials=1)
    assert attempts(folder) == [["new", "new"]]


def test_who_lost_a_trial_does_not_decide_on_it(folder: Path) -> None:
    wanted = read_sweep(write(folder / "s.yaml"))
    journal = Journal(folder / "runs" / "sweeps" / "s", wanted)
    claim = journal.claim(1)
    assert claim is not None
    claim.trial.set_user_attr("owners", [["another machine", "1 1"]])
    journal.fail(claim, "late")
    assert failed(folder) == []


@pytest.mark.parametrize(
    ("named", "workers", "expected"),
    [(None, 1, [None]), (None, 3, ["0", "1", "0"]), ("3,5", 2, ["3", "5"]), ("3,5", 1, ["3,5"]), ("", 2, ["", ""])],
)
def test_each_of_several_workers_has_one_gpu(
    named: str | None, workers: int, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    variables = [command._worker_environment(worker, workers) for worker in range(workers)]
    assert [each.get("CUDA_VISIBLE_DEVICES") for each in variables] == expected
    assert not any("SLURM_NTASKS" in each for each in variables)


def test_a_changed_file_does_not_join(folder: Path) -> None:
    sweep(str(write(folder / "s.yaml")), trials=1)
    changed = write(folder / "s.yaml", parameters={"x": {"min": 0.0, "max": 2.0}})
    with pytest.raises(ConfigError, match="the file has changed"):
        sweep(str(changed), trials=2)


def test_a_torn_line_at_the_journals_end_is_forgotten(folder: Path) -> None:
    file = write(folder / "s.yaml")
    sweep(str(file), trials=1)
    with (folder / "runs" / "sweeps" / "s" / JOURNAL).open("a") as journal:
        journal.write('{"op_code": 4, "work')
    sweep(str(file), trials=2)
    assert [trial.state for trial in trials(folder)] == [TrialState.COMPLETE] * 2
