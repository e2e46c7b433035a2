"""Runs, teachers and checkpoints of a recording whose content changes under the same name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import SIMULATION, call, experiment, fit, fit_tiny, teacher_args
from helpers.nwb_files import write_maze

from blend_pl.errors import ConfigError, DataError
from blend_pl.prediction import predict, predict_run
from blend_pl.report.comparison import compare_runs
from blend_pl.runs.digest import DIGEST_KEY, stored_digest
from blend_pl.runs.results import Results
from blend_pl.submission.ensemble import group_runs
from blend_pl.systems.checkpoint import load_system

OTHER = "0" * 16
"""Digest of no data."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digest")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return fit("simulated_baseline", folder / "runs", f"--data.root={folder / 'data'}", *SIMULATION)


@pytest.fixture
def stale(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, of which results and checkpoints say that it was trained on other data."""
    copy = tmp_path / "runs" / run.parent.name / run.name
    (copy / "checkpoints").mkdir(parents=True)
    results = json.loads((run / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps({**results, "digest": OTHER}))
    (copy / "config.yaml").write_text((run / "config.yaml").read_text())
    for path in (run / "checkpoints").iterdir():
        checkpoint = torch.load(path, weights_only=True)
        torch.save({**checkpoint, DIGEST_KEY: OTHER}, copy / "checkpoints" / path.name)
    return copy


def test_results_and_checkpoints_hold_the_digest_of_the_data(run: Path) -> None:
    digest = Results.read(run).digest
    prediction = predict_run(run)
    assert digest == prediction.datamodule.digest
    assert prediction.other_data is None
    for path in (run / "checkpoints").iterdir():
        assert load_system(path).data_digest == digest


def test_rates_of_a_changed_recording_say_so(stale: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = f"trained on other data (digest {OTHER}) than those of now"
    prediction = predict_run(stale)
    assert str(prediction.other_data).startswith(f"{stale} was {message}")
    with pytest.warns(UserWarning, match="the system was trained on other data"):
        predict(load_system(stale / "checkpoints/best.ckpt"), prediction.datamodule)
    (ensemble,) = group_runs([stale])
    ensemble.load_splits()
    list(ensemble.predictions(None))
    assert capsys.readouterr().out.count(f"note: {stale} was {message}") == 2


def test_training_does_not_continue_on_other_data(stale: Path, folder: Path) -> None:
    arguments: list[Any] = [f"--data.root={folder / 'data'}", *SIMULATION]
    with pytest.raises(DataError, match="so training cannot continue from it"):
        fit("simulated_baseline", stale.parents[1], *arguments, f"--ckpt_path={stale / 'checkpoints/last.ckpt'}")
    with pytest.raises(ConfigError, match=r"was trained on other data .* choose another --run_dir"):
        fit("simulated_baseline", stale.parents[1], *arguments, "--resume=true", f"--run_dir={stale}")


def test_finished_run_of_other_data_is_kept_and_trained_again(
    stale: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = (stale / "results.json").read_bytes()
    arguments: list[Any] = [f"--data.root={folder / 'data'}", *SIMULATION, "--resume=true"]
    again = fit("simulated_baseline", stale.parents[1], *arguments)
    assert again == stale.with_name(f"{stale.name}-2")
    assert f"{stale} was trained on other data" in capsys.readouterr().out
    assert stored_digest(again) not in (OTHER, None)
    assert (stale / "results.json").read_bytes() == results
    assert fit("simulated_baseline", stale.parents[1], *arguments) == again
    assert f"{again} has finished" in capsys.readouterr().out


@pytest.mark.slow
def test_teacher_of_the_old_content_of_a_file_is_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, arguments = [], [f"--data.root={tmp_path}", teacher_args("--trainer.max_epochs=1")]
    for seed in (1, 1, 2):
        for path in tmp_path.rglob("*.nwb"):
            path.unlink()
        write_maze(tmp_path, seed)
        runs.append(fit_tiny("mc_maze_hard", tmp_path / "runs", *arguments))
    teachers = [Path(run.results.teachers[0]).parents[1].name for run in runs]
    assert teachers[0] == teachers[1]
    assert teachers[2] == f"{teachers[0]}-2"
    assert capsys.readouterr().out.count("training it again") == 1
    tables = [{e.name for e in comparison.experiments} for comparison in compare_runs([tmp_path / "runs"])]
    assert tables == [{"mc_maze_hard", "mc_maze_teacher"}] * 2


def test_test_of_a_checkpoint_on_other_data_warns(stale: Path, folder: Path) -> None:
    with pytest.warns(UserWarning, match="this model was trained on other data"):
        call(
            "test",
            "--config",
            experiment("simulated_baseline"),
            f"--data.root={folder / 'data'}",
            *SIMULATION,
            "--data.bin_ms=20",
            "--trainer.accelerator=cpu",
            f"--ckpt_path={stale / 'checkpoints/best.ckpt'}",
        )
