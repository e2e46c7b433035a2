"""Integration tests from NWB files, not written by the simulator, to a distilled student."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from helpers.cli import (
    SIMULATION,
    SMALL_TEST_FILE,
    TINY,
    WRITERS,
    call,
    differing,
    experiment,
    finish,
    fit,
    start,
    teacher_args,
    weights,
)

from blend_pl.systems.checkpoint import load_system

SCORES = {"co_bps", "vel_r2", "psth_r2", "fp_bps"}
EXPECTED = {"mc_rtt": SCORES - {"psth_r2"}, "dmfc_rsg": SCORES - {"vel_r2"} | {"tp_corr"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    for name in ("mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"):
        WRITERS[name](folder)
    return folder


@pytest.fixture(scope="module")
def two_fits(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The output folder and the printed text of two processes that fit the same student at the same time."""
    output = tmp_path_factory.mktemp("two_fits")
    arguments = ["--config", experiment("mc_maze_hard"), f"--data.root={data}", f"--output={output}", *TINY]
    processes = [start("fit", *arguments, teacher_args()) for _ in range(2)]
    return output, [finish(process) for process in processes]


@pytest.fixture(scope="module")
def student(two_fits: tuple[Path, list[str]]) -> Path:
    output, _ = two_fits
    return min(output.glob("mc_maze_hard/seed0-*"))


def test_missing_teacher_is_trained_once(two_fits: tuple[Path, list[str]]) -> None:
    output, printed = two_fits
    (teacher,) = output.glob("mc_maze_teacher/seed0-*")
    assert len(list(teacher.glob("version_*"))) == 1, "the teacher was trained twice"
    assert any("the teacher mc_maze_teacher" in out and "training it first" in out for out in printed)
    assert all(f"teacher: {teacher}" in out for out in printed)


def test_simultaneous_fits_give_equal_weights(two_fits: tuple[Path, list[str]]) -> None:
    first, second = sorted(two_fits[0].glob("mc_maze_hard/seed0-*"))
    assert differing(weights(first), weights(second)) == []


def test_fit_prints_scores_and_writes_checkpoints_and_results(two_fits: tuple[Path, list[str]], student: Path) -> None:
    for out in two_fits[1]:
        assert all(name in out for name in ("co-bps", "velocity R2", "PSTH R2", "fp-bps", "results: "))
    assert {path.name for path in (student / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    results = json.loads((student / "results.json").read_text())
    assert results["scores"].keys() == SCORES
    assert all(np.isfinite(score) for score in results["scores"].values())
    assert results["oracle"] is None
    assert (results["name"], results["session"], results["seed"]) == ("mc_maze_hard", "mc_maze", 0)
    assert results["selection"] == "train_holdout (7 trials)"
    assert results["checkpoint"] == "checkpoints/best.ckpt"
    assert len(results["teachers"]) == 1
    assert "mc_maze_teacher" in results["teachers"][0]
    assert results["versions"]["torch"] == torch.__version__
    assert results["commit"] is None or len(results["commit"].removesuffix("-dirty")) == 40
    assert results["config"] == yaml.safe_load((student / "config.yaml").read_text())


def test_later_student_reuses_the_teacher(
    two_fits: tuple[Path, list[str]], data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, _ = two_fits
    run = fit("mc_maze_feature", output, f"--data.root={data}", teacher_args())
    out = capfd.readouterr().out
    (teacher,) = output.glob("mc_maze_teacher/seed0-*")
    assert "training it first" not in out
    assert f"teacher: {teacher}" in out
    assert json.loads((run / "results.json").read_text())["teachers"] == [f"{teacher}/checkpoints/best.ckpt"]


@pytest.mark.usefixtures("teachers_here")
def test_teacher_experiment_named_twice_trains_two_seeds(two_fits: tuple[Path, list[str]], data: Path) -> None:
    output, _ = two_fits
    twice = f"--distillation.teacher=[{experiment('mc_maze_teacher')},{experiment('mc_maze_teacher')}]"
    run = fit("mc_maze_hard", output, f"--data.root={data}", teacher_args(), twice)
    results = json.loads((run / "results.json").read_text())
    first, second = (Path(teacher).parents[1] for teacher in results["teachers"])
    assert first.name.startswith("seed0-")
    assert second.name.startswith("seed1000-")
    assert load_system(second / "checkpoints" / "best.ckpt")


@pytest.mark.usefixtures("teachers_here")
def test_test_phase_trains_teacher_and_student(data: Path, tmp_path: Path) -> None:
    run = fit("mc_rtt_hard", tmp_path, f"--data.root={data}", "--data.phase=test", teacher_args())
    results = json.loads((run / "results.json").read_text())
    (teacher,) = results["teachers"]
    assert (results["phase"], results["scores"]) == ("test", {})
    assert json.loads((Path(teacher).parents[1] / "results.json").read_text())["scores"] == {}


@pytest.mark.usefixtures("teachers_here")
@pytest.mark.parametrize("name", ["mc_rtt", "dmfc_rsg", pytest.param("area2_bump", marks=pytest.mark.slow)])
def test_student_of_another_set_trains_its_teacher(
    name: str, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = fit(f"{name}_hard", tmp_path, f"--data.root={data}", teacher_args())
    assert f"the teacher {name}_teacher" in capfd.readouterr().out
    scores = json.loads((run / "results.json").read_text())["scores"]
    assert scores.keys() == EXPECTED.get(name, SCORES)


def test_student_loads_without_its_teacher(student: Path, tmp_path: Path) -> None:
    path = shutil.copy(student / "checkpoints" / "best.ckpt", tmp_path / "student.ckpt")
    stored = torch.load(path, weights_only=True)["state_dict"]
    loaded = load_system(path).state_dict()
    assert set(stored) - set(loaded) == {"objective.loss.scale"}
    assert differing(loaded, {name: stored[name] for name in loaded}) == []


def test_student_does_not_depend_on_behavior(student: Path) -> None:
    cli = call("validate", "--config", student / "config.yaml", "--ckpt_path", student / "checkpoints" / "best.ckpt")
    system = load_system(student / "checkpoints" / "best.ckpt")
    for batch in cli.datamodule.predict_dataloader():
        assert batch.privileged.isfinite().any()
        nan_batch = replace(batch, privileged=torch.full_like(batch.privileged, torch.nan))
        with torch.no_grad():
            rates = [system.predict_step(b, 0) for b in (batch, nan_batch, batch.without_privileged())]
        assert torch.equal(rates[0], rates[1])
        assert torch.equal(rates[0], rates[2])
        assert rates[0].isfinite().all()


def test_test_command_reproduces_the_scores(student: Path) -> None:
    written = (student / "results.json").read_text()
    cli = call("test", "--config", student / "config.yaml", "--ckpt_path", student / "checkpoints" / "best.ckpt")
    scores = {name.split("/")[1]: float(score) for name, score in cli.trainer.callback_metrics.items()}
    assert {name: scores[name] for name in SCORES} == pytest.approx(json.loads(written)["scores"], rel=1e-5)
    assert (student / "results.json").read_text() == written, "the fingerprint in the file identifies the run"


def test_equal_seeds_give_equal_numbers(data: Path, tmp_path: Path) -> None:
    runs = [fit("mc_maze_baseline", tmp_path, f"--data.root={data}", f"--seed_everything={s}") for s in (3, 3, 4)]
    assert len(set(runs)) == 3
    results = [json.loads((run / "results.json").read_text())["scores"] for run in runs]
    assert results[0] == results[1] != results[2]
    assert differing(weights(runs[0]), weights(runs[1])) == []
    assert any("backbone" in name for name in differing(weights(runs[0]), weights(runs[2])))


@pytest.mark.skipif(not SMALL_TEST_FILE.exists(), reason="needs the official test file of MC_Maze_Small")
def test_rates_for_the_official_test_file(tmp_path: Path) -> None:
    before = sorted(SMALL_TEST_FILE.parent.iterdir())
    sizes = ["--data.simulation.n_units=142", "--data.simulation.n_heldout=35", "--data.bin_ms=5"]
    simulated = [f"--data.root={tmp_path}", "--data.source=simulated", *SIMULATION, *sizes, "--trainer.max_epochs=1"]
    run = fit("mc_maze_small_baseline", tmp_path / "runs", *simulated)
    call(
        *("predict", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "best.ckpt"),
        *("--data.source=files", f"--data.root={SMALL_TEST_FILE.parent}", "--data.phase=test"),
        f"--data.cache_dir={tmp_path / 'cache'}",
    )
    with h5py.File(run / "rates_test.h5") as file:
        rates = {name: file[name][()] for name in file}
    assert {name: array.shape for name, array in rates.items()} == {
        "trial_id": (100,),
        "eval_rates_heldin": (100, 140, 107),
        "eval_rates_heldout": (100, 140, 35),
        "eval_rates_heldin_forward": (100, 40, 107),
        "eval_rates_heldout_forward": (100, 40, 35),
    }
    assert all(np.isfinite(array).all() and (array >= 0).all() for array in rates.values())
    assert (rates["eval_rates_heldout"].std(0) > 0).any(), "rates that do not depend on the trial"
    assert len(np.unique(rates["trial_id"])) == 100
    assert sorted(SMALL_TEST_FILE.parent.iterdir()) == before
