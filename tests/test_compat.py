"""Names of version 0.1, and run folders that it wrote."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.cli import call
from helpers.systems import trainer
from jsonargparse import ArgumentParser
from lightning.pytorch.core import LightningDataModule

from blend_pl.callbacks import Evaluation
from blend_pl.cli.main import run_command
from blend_pl.compat import (
    DATACLASS_ARGUMENTS,
    REMOVED_SETTINGS,
    RENAMED_ARGUMENTS,
    RENAMED_CLASSES,
    upgrade_arguments,
    upgrade_config,
    upgrade_state_dict,
)
from blend_pl.config import compose, compose_arguments
from blend_pl.probes.embeddings import CellEmbeddings
from blend_pl.runs.results import Results
from blend_pl.systems.checkpoint import load_system, read_checkpoint

FIXTURES = Path(__file__).parent / "fixtures" / "v0_1"
RUNS = {
    "simulated_teacher": "Teacher",
    "simulated_hard": "Student",
    "simulated_lfads_baseline": "Student",
    "simulated_stndt_baseline": "Student",
    "bugeon_simulated_teacher": "Teacher",
    "simulated_lfp_teacher": "SpikeTeacher",
}
"""Run folders of version 0.1 and the classes of their systems."""


def fixture(name: str) -> Path:
    (run_dir,) = (FIXTURES / name).iterdir()
    return run_dir


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def copy_run(name: str, folder: Path, root: Path) -> Path:
    """Copies a run folder and sets its data folder."""
    source = fixture(name)
    run_dir = folder / "runs" / name / source.name
    shutil.copytree(source, run_dir)
    for file, old, new in (
        ("config.yaml", "root: data\n", f"root: {root}\n"),
        ("results.json", '"root": "data"', f'"root": "{root}"'),
    ):
        path = run_dir / file
        path.write_text(path.read_text().replace(old, new))
    return run_dir


def evaluate(run_dir: Path, folder: Path) -> dict[str, float]:
    """Scores the checkpoint of a run with the data and the evaluation in its config."""
    config = compose(run_dir / "config.yaml")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    parser.add_subclass_arguments(Evaluation, "evaluation")
    (evaluation,) = (c for c in config["trainer"]["callbacks"] if c["class_path"].startswith("blend_pl."))
    objects = parser.instantiate_classes(parser.parse_object({"data": config["data"], "evaluation": evaluation}))
    system = load_system(run_dir / "checkpoints" / "best.ckpt")
    trainer(folder, 1, objects.evaluation).test(system, datamodule=objects.data, verbose=False)
    return objects.evaluation.scores


@pytest.mark.parametrize("path", RENAMED_CLASSES.values())
def test_new_class_path_exists(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_renamed_arguments_belong_to_classes_of_the_package() -> None:
    assert set(DATACLASS_ARGUMENTS.values()) <= RENAMED_ARGUMENTS.keys()


@pytest.mark.parametrize("name", RUNS)
def test_config_is_upgraded_once_and_keeps_its_values(name: str) -> None:
    config = yaml.safe_load((fixture(name) / "config.yaml").read_text())
    upgraded = upgrade_config(config)
    assert upgraded != config
    assert upgrade_config(upgraded) == upgraded

    def values(settings: Any) -> list[Any]:
        if isinstance(settings, dict):
            return [value for key, inner in settings.items() if key != "class_path" for value in values(inner)]
        return [value for inner in settings for value in values(inner)] if isinstance(settings, list) else [settings]

    current = {key: value for key, value in config.items() if key not in REMOVED_SETTINGS}
    assert all(config[key] is None for key in config.keys() - current.keys())
    assert values(upgraded) == values(current)


def test_current_names_are_kept() -> None:
    backbone = {"class_path": "blend_pl.models.NDT", "init_args": {"num_layers": 2}}
    foreign = {"class_path": "my_package.NDT", "init_args": {"layers": 2, "clip": 1.0}}
    for config in ({"model": {"init_args": {"backbone": backbone}}}, {"model": {"init_args": {"backbone": foreign}}}):
        assert upgrade_config(config) == config


def test_old_name_in_a_later_file_overrides_the_new_name(tmp_path: Path) -> None:
    network = {"class_path": "blend_pl.models.LFADS", "init_args": {"gen_dim": 8, "cell_clip": 5.0}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"backbone": network}}}))
    changes = {"base": ["base.yaml"], "model": {"init_args": {"backbone": {"init_args": {"generator": 4}}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changes))
    init_args = compose(tmp_path / "mine.yaml")["model"]["init_args"]["backbone"]["init_args"]
    assert init_args == {"gen_dim": 4, "cell_clip": 5.0}


def test_command_line_options_are_renamed_by_the_class_in_the_config(tmp_path: Path) -> None:
    config = yaml.safe_load((fixture("simulated_hard") / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = [
        "--model.backbone.layers",
        "3",
        "--data.spec.scored=null",
        "--model.init_args.masking.behavior_ratio=0.5",
    ]
    upgraded = compose_arguments(["fit", "--config", str(tmp_path / "config.yaml"), *options])[3:]
    assert upgraded == [
        *("--model.backbone.num_layers", "3", "--data.spec.scoring_window=null"),
        "--model.init_args.masking.privileged_dropout=0.5",
    ]


def test_value_of_a_command_line_option_is_renamed() -> None:
    old = {"class_path": "blend_pl.models.embedding.Linear", "init_args": {"width": 4}}
    (upgraded,) = upgrade_arguments([f"--model.backbone.embedding={json.dumps(old)}"], {})
    new = {"class_path": "blend_pl.models.layers.embedding.LinearEmbedding", "init_args": {"d_model": 4}}
    assert json.loads(upgraded.partition("=")[2]) == new
    assert upgrade_arguments(["--distillation.loss", "blend_pl.distillation.Soft"], {})[1].endswith(".SoftLoss")


def test_parameters_are_renamed_only_to_expected_keys() -> None:
    state = {"backbone.tokens.weight": 1, "backbone.place.weight": 2, "backbone.units": 3}
    expected = {"backbone.input_embedding.weight", "backbone.units"}
    assert upgrade_state_dict(state, expected) == {
        "backbone.input_embedding.weight": 1,
        "backbone.place.weight": 2,
        "backbone.units": 3,
    }


@pytest.mark.parametrize(("name", "system"), RUNS.items())
def test_checkpoint_is_loaded(name: str, system: str) -> None:
    path = fixture(name) / "checkpoints" / "best.ckpt"
    loaded = load_system(path)
    assert type(loaded).__name__ == system
    stored = torch.load(path, weights_only=True)["state_dict"]
    weights = [weight for key, weight in stored.items() if not key.startswith("objective.")]
    assert all(map(torch.equal, loaded.state_dict().values(), weights))
    assert len(loaded.state_dict()) == len(weights)


@pytest.mark.parametrize("name", RUNS)
def test_results_are_read_with_current_names(name: str) -> None:
    results = Results.read(fixture(name))
    assert results.config == upgrade_config(results.config)
    assert read_checkpoint(fixture(name) / results.checkpoint)["hyper_parameters"]["_class_path"] == (  # type: ignore[operator]
        results.system_class_path
    )


def test_embeddings_are_read() -> None:
    embeddings = CellEmbeddings.read(fixture("bugeon_simulated_teacher"))
    assert len(embeddings.split) == len(embeddings.vectors)


@pytest.mark.parametrize("name", RUNS)
def test_stored_scores_are_reproduced(name: str, root: Path, tmp_path: Path) -> None:
    run_dir = copy_run(name, tmp_path, root)
    assert evaluate(run_dir, tmp_path) == pytest.approx(Results.read(run_dir).scores, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simulated_hard", "simulated_lfp_teacher"])
def test_test_command_reproduces_stored_scores(name: str, root: Path, tmp_path: Path) -> None:
    run_dir = copy_run(name, tmp_path, root)
    checkpoint = run_dir / "checkpoints" / "best.ckpt"
    cli = call("test", "--config", run_dir / "config.yaml", "--ckpt_path", checkpoint)
    (evaluation,) = (callback for callback in cli.trainer.callbacks if isinstance(callback, Evaluation))
    assert evaluation.scores == pytest.approx(Results.read(run_dir).scores, abs=1e-6)


def move_checkpoint(path: Path, folder: Path) -> None:
    """Makes the relative paths in the states of callbacks absolute: Lightning drops the best score of a moved run."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {moved(key): moved(inner) for key, inner in value.items()}
        return str(folder / value) if isinstance(value, str) and value.startswith("runs/") else value

    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "callbacks": moved(checkpoint["callbacks"])}, path)


@pytest.mark.slow
def test_fit_is_resumed_with_old_teacher_and_reproduces_stored_scores(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir, teacher = copy_run("simulated_hard", tmp_path, root), copy_run("simulated_teacher", tmp_path, root)
    scores = Results.read(run_dir).scores
    (run_dir / "results.json").unlink()
    move_checkpoint(run_dir / "checkpoints" / "last.ckpt", tmp_path)
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["distillation"]["init_args"]["teacher"] = str(teacher)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    call("fit", "--config", run_dir / "config.yaml", "--run_dir", run_dir, "--resume", "true")
    assert Results.read(run_dir).scores == pytest.approx(scores, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["run folder", "checkpoint"])
def test_old_run_teaches_a_new_student(
    reference: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = copy_run("simulated_teacher", tmp_path, root)
    student = copy_run("simulated_hard", tmp_path, root)
    path = teacher if reference == "run folder" else teacher / "checkpoints" / "best.ckpt"
    arguments = ["--config", student / "config.yaml", "--distillation.teacher", path, "--trainer.max_epochs=1"]
    cli = call("fit", *arguments, "--run_dir", tmp_path / "new")
    assert "train/distillation" in cli.trainer.callback_metrics or cli.trainer.global_step > 0
    assert Results.read(tmp_path / "new").teachers == (str(teacher / "checkpoints" / "best.ckpt"),)


@pytest.mark.slow
def test_other_commands_read_old_runs(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = copy_run("simulated_stndt_baseline", tmp_path, root)
    copy_run("simulated_hard", tmp_path, root)
    run_command(["export", str(run_dir), "--output", str(tmp_path / "export")])
    assert (tmp_path / "export" / "student.onnx").exists()
    run_command(["report", str(tmp_path / "runs")])
    assert "simulated_hard" in capsys.readouterr().out
    run_command(["submit", str(run_dir), "--output", str(tmp_path / "submission.h5")])
    assert (tmp_path / "submission.h5").exists()
