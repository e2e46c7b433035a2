"""Integration tests of calcium experiments, from recordings to the identity of held-out cells."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.calcium_files import write_calcium
from helpers.cli import REPOSITORY, call, checkpoint, experiment, finish, settings_of, start, weights

from blend_pl.data.calcium.simulation import BugeonSimulation, write_bugeon_dataset
from blend_pl.errors import ConfigError, DataError
from blend_pl.probes.embeddings import CellEmbeddings
from blend_pl.report import write_report
from blend_pl.systems.checkpoint import load_system

SETS = ("single_animal", "multi_animal", "cross_animal", "simulated")
ARMS = ("baseline", "with_behavior", "teacher", "hard", "feature", "correlation", "reconstruction_only")
COMPOSITIONS = [experiment(f"bugeon_{name}", arm) for name in SETS for arm in ARMS]
COMPOSITIONS += [
    experiment(f"bugeon_{name}", "gaussian", arm) for name in SETS for arm in ("baseline", "teacher", "gaussian_soft")
]
COMPOSITIONS += [
    experiment(f"bugeon_{name}", "population_summary", arm)
    for name in SETS
    for arm in ("baseline", "teacher", "feature")
]
PUBLISHED = [path for path in COMPOSITIONS if "bugeon_simulated" not in str(path)]
IDENTITY = {"class_path": "blend_pl.callbacks.IdentityEvaluation", "init_args": {"fit": {"max_steps": 5}}}
TINY = [
    *("--model.backbone.size=4", "--model.backbone.dim_feedforward=8", "--data.window=40", "--data.n_steps=2"),
    *("--data.n_cells=24", "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"),
    *("--trainer.accelerator=cpu", f"--trainer.callbacks={json.dumps([IDENTITY])}"),
]
SIMULATION = ["--data.simulation.n_frames=640", "--data.simulation.n_cells=40", "--data.simulation.n_sessions=1"]
SCORES = {f"{task}_{score}" for task in ("ei", "subclass") for score in ("top1", "balanced", "f1", "majority")}
pytestmark = pytest.mark.usefixtures("teachers_here")
ARMS_FAST, ARMS_SLOW = ("feature", "teacher", "baseline"), ("with_behavior", "reconstruction_only")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bugeon") / "runs"


def run_of(output: Path, arm: str) -> Path:
    """Returns the run of an arm on a small simulated tree, trained once for all tests, with its teacher."""
    folder = output / f"bugeon_simulated_{arm}"
    if not folder.exists():
        root = [f"--data.root={output.parent / 'data'}", f"--output={output}", f"--teacher_args={json.dumps(TINY)}"]
        call("fit", "--config", experiment(folder.name), *TINY, *SIMULATION, *root)
    (run,) = folder.glob("seed0-*")
    return run


@pytest.mark.parametrize("arm", [*ARMS_FAST, *(pytest.param(arm, marks=pytest.mark.slow) for arm in ARMS_SLOW)])
def test_run_has_scores_and_embeddings(output: Path, arm: str) -> None:
    run = run_of(output, arm)
    results = json.loads((run / "results.json").read_text())
    assert results["scores"].keys() >= SCORES
    assert all(math.isfinite(score) for score in results["scores"].values())
    assert (results["session"], results["phase"]) == ("bugeon_simulated", "held-out cells")
    assert results["oracle"] is None
    cells = CellEmbeddings.read(run)
    assert set(cells.split) == {"train", "val", "test"}
    assert np.isfinite(cells.vectors).all()


def test_student_trains_its_teacher_first(output: Path) -> None:
    student = run_of(output, "feature")
    results = json.loads((student / "results.json").read_text())
    assert results["teachers"] == [f"{run_of(output, 'teacher')}/checkpoints/best.ckpt"]


@pytest.mark.slow
def test_student_with_alpha_of_one_is_independent_of_the_teacher(output: Path) -> None:
    """The run has the null token of a student and no parameters of behavior."""
    reconstruction_only, student = (weights(run_of(output, arm)) for arm in ("reconstruction_only", "feature"))
    assert reconstruction_only["backbone.null"].shape == student["backbone.null"].shape != torch.Size([0])
    assert not torch.equal(reconstruction_only["backbone.embedding.weight"], student["backbone.embedding.weight"])
    assert weights(run_of(output, "baseline"))["backbone.null"].shape == torch.Size([0])
    assert not any(name.startswith("backbone.behavior") for name in reconstruction_only)


def test_embedding_table_of_a_student_has_train_cells_only(output: Path) -> None:
    run = run_of(output, "feature")
    cells = CellEmbeddings.read(run)
    trained = checkpoint(run)["session"]["unit_id"]
    assert sorted(trained) == sorted(cells.cell[cells.split == "train"].tolist())
    assert load_system(run / "checkpoints" / "best.ckpt").backbone.embedding.weight.shape == (len(trained), 4)


def test_test_command_reproduces_the_scores(output: Path) -> None:
    run = run_of(output, "feature")
    written = (run / "results.json").read_text()
    cli = call("test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "best.ckpt")
    repeated = {name.removeprefix("eval/"): float(score) for name, score in cli.trainer.callback_metrics.items()}
    scores = json.loads(written)["scores"]
    assert {name: repeated[name] for name in scores} == pytest.approx(scores, rel=1e-5)
    assert (run / "results.json").read_text() == written


def test_predict_raises_and_names_the_embeddings(output: Path) -> None:
    run = run_of(output, "feature")
    with pytest.raises(ConfigError, match=r"predict writes rates of spikes, .* embeddings\.h5"):
        call("predict", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "best.ckpt")


def test_report_has_one_table_of_all_variants(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report([str(run_of(output, arm)) for arm in ARMS_FAST])
    printed = capsys.readouterr().out
    assert all(arm in printed for arm in ARMS_FAST)
    page = (output / "report" / "report.md").read_text()
    assert "## bugeon_simulated: scored on held-out cells, checkpoints selected on reconstruction in validation" in page
    header = next(line for line in page.splitlines() if line.startswith("| experiment"))
    for task in ("E/I", "subclass"):
        assert all(f"{task}, {score}" in header for score in ("top-1", "balanced", "macro-F1"))
    assert "Always predicting the most frequent subclass class of the training cells scores top-1 0." in page
    pictures = {path.name for path in (output / "report").glob("*.png")}
    assert pictures == {"bugeon_simulated-held-out-cells-scores.png", "bugeon_simulated-held-out-cells-embeddings.png"}
    assert "No rates" not in page


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "tree"
    write_bugeon_dataset(BugeonSimulation(n_mice=4, n_sessions=1, n_frames=640, n_cells=60), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: settings_of(path)["name"])
def test_every_experiment_trains_on_a_published_tree(path: Path, tree: Path, tmp_path: Path) -> None:
    arguments = ["--config", path, *TINY, f"--data.root={tree}", f"--output={tmp_path}"]
    run = call("fit", *arguments, f"--teacher_args={json.dumps(TINY)}").run_dir
    cells = CellEmbeddings.read(run)
    mice = {name.split("/")[0] for name in cells.cell}
    tested = {name.split("/")[0] for name in cells.cell[cells.split == "test"]}
    settings = settings_of(path)["data"]["init_args"]["spec"]
    assert mice == set(settings["mice"])
    assert tested == set(settings.get("cells", {}).get("test_mice", mice))


def test_experiment_runs_on_custom_nwb_files(tmp_path: Path) -> None:
    for day in (1, 2):
        write_calcium(tmp_path / "data" / f"day{day}.nwb", rois=60, seed=day)
    arguments = ["--config", REPOSITORY / "configs" / "data" / "own_calcium.yaml", f"--data.root={tmp_path / 'data'}"]
    arguments += ["--data.spec.behavior=[speed]", "--data.spec.cells.train=0.5", "--data.spec.cells.val=0.1"]
    teacher = call(
        "fit", "--config", experiment("bugeon_single_animal_teacher"), *arguments, *TINY, f"--output={tmp_path}"
    )
    results = json.loads((teacher.run_dir / "results.json").read_text())
    assert results["session"] == "own_calcium"
    assert results["scores"].keys() >= SCORES


@pytest.mark.parametrize("path", COMPOSITIONS, ids=lambda path: settings_of(path)["name"])
def test_composition_has_the_settings_of_its_name(path: Path) -> None:
    settings = settings_of(path)
    model, arm = settings["model"]["init_args"], path.stem
    backbone = model["backbone"]
    gaussian = "gaussian" in settings["name"]
    sees_behavior = arm in ("teacher", "with_behavior")
    assert backbone["class_path"] == "blend_pl.models.NeuPRINT"
    assert settings["model"]["class_path"] == f"blend_pl.systems.{'Teacher' if sees_behavior else 'Student'}"
    assert ("behavior" in backbone.get("init_args", {})) == (arm == "with_behavior")
    summarizes = "population_summary" in settings["name"]
    assert (backbone.get("init_args", {}).get("behavior_width") == 0) == (arm == "baseline" and not summarizes)
    assert backbone.get("init_args", {}).get("summarize", False) == summarizes
    assert backbone.get("init_args", {}).get("variance", False) == gaussian
    assert model["likelihood"]["class_path"].rpartition(".")[2] == ("Gaussian" if gaussian else "UnitGaussian")
    assert model["optimizer"]["init_args"]["weight_decay"] == 0, "else Adam takes over that of AdamW, the default"
    distilled = arm in ("hard", "gaussian_soft", "feature", "correlation", "reconstruction_only")
    assert ("distillation" in settings) == distilled
    if distilled:
        assert settings["distillation"]["teacher"] == str(path.with_stem("teacher"))
        assert path.with_stem("teacher") in COMPOSITIONS
        assert (settings["distillation"]["alpha"] == 1.0) == (arm == "reconstruction_only")


def test_pattern_without_a_match_raises(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has a run Blank/07; correct data\.spec\.recordings"):
        call(
            *("fit", "--config", experiment("bugeon_single_animal_baseline"), *TINY, f"--data.root={tree}"),
            *(f"--output={tmp_path}", "--data.spec.recordings=[Blank/07]"),
        )


@pytest.mark.slow
def test_two_processes_train_the_same_weights_as_one(tree: Path, tmp_path: Path) -> None:
    # Adam's first steps have the size of the rate, however small a gradient: they would magnify rounding.
    optimizer = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1", "--model.backbone.dropout=0.0"]
    experiment_file = experiment("bugeon_single_animal_baseline")
    arguments = ["fit", "--config", experiment_file, *TINY, *optimizer, f"--data.root={tree}"]
    single_output = finish(start(*arguments, f"--output={tmp_path / 'one'}", "--data.n_windows=2"))
    ranks = ["--data.n_windows=1", "--trainer.devices=2", "--trainer.strategy=ddp"]
    ddp_output = finish(start(*arguments, f"--output={tmp_path / 'two'}", *ranks))
    assert "E/I, top-1" in single_output
    assert "E/I, top-1" in ddp_output
    runs = [next((tmp_path / name).glob("*/seed0-*")) for name in ("one", "two")]
    for first, second in zip(*(weights(run).values() for run in runs), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)
