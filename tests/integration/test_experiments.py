"""Every experiment file on spikes trains, on recordings of its set that were written without the package."""

import copy
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from helpers.cli import (
    EXPERIMENTS,
    REPOSITORY,
    SIMULATED,
    TINY_BACKBONES,
    backbone_of,
    checkpoint,
    experiment,
    fit_tiny,
    write_set,
)
from helpers.readme import module_of_the_readme
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ProgressBar

from blend_pl.callbacks import Distillation, distillation
from blend_pl.cli.trainer import BlendCLI
from blend_pl.config import Config, compose, merge
from blend_pl.data import NLBDataModule
from blend_pl.data.nlb.reading import check_spec
from blend_pl.systems import NeuralSystem, Student

OTHERS = ("bugeon_", "makin_", "flint_", "simulated_lfp_")
"""Calcium, and spikes with LFP, have tests of their own."""
FILES = sorted(path for path in EXPERIMENTS.glob("*.yaml") if not path.stem.startswith(OTHERS))
DATA = sorted(
    path
    for path in (REPOSITORY / "configs" / "data").glob("*.yaml")
    if compose(path)["data"]["class_path"] == "blend_pl.data.NLBDataModule"
)
ALONE = [path for path in FILES if "distillation" not in compose(path)]
DISTILLED = [path for path in FILES if path not in ALONE]
COMPOSED = [path for path in DISTILLED if not (path.stem.startswith("simulated") or path.stem.endswith("_hard"))]
"""Made of the data and the network of one that ends in `hard` and of the loss of a simulated one."""
WHOLE = [path for path in ALONE if backbone_of(path) == "NDT" or path.stem.startswith("simulated")]
"""Run by the whole command line, to their results: every set and every backbone, not every pair."""
SETS = [path.stem for path in DATA if path.stem not in ("own_session", "simulated_half")]
BACKBONES = {"": "NDT", "_stndt": "STNDT", "_lfads": "LFADS"}
ARMS = ("baseline", "teacher", "hard", "soft", "feature", "correlation", "self")


def stem(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@cache
def whole(path: Path, folder: Path) -> BlendCLI:
    """An experiment without a teacher that the command line trained, once for all tests of this process."""
    return fit_tiny(path.stem, folder / "runs", *write_set(path, folder / data_of(path)), "--trainer.max_epochs=1")


def data_of(path: Path) -> str:
    return compose(path)["data"]["init_args"]["spec"]["name"]


def step(path: Path, folder: Path, changes: Config) -> tuple[NeuralSystem, L.Trainer]:
    """One step of an experiment: its file through the parser of `fit`, what that makes of it, the trainer it asks for.

    The command line builds its parser anew and writes every setting down; here one parser reads all files.
    """
    root = folder / data_of(path)
    write_set(path, root)
    settings = compose(path)
    tiny: Config = {
        "data": {"init_args": {"root": str(root), "bin_ms": 20}},
        "model": {"init_args": {"backbone": {"init_args": TINY_BACKBONES[backbone_of(path)]}}},
        "trainer": {"fast_dev_run": True, "accelerator": "cpu", "enable_progress_bar": False},
    }
    if settings["data"]["init_args"].get("source") == "simulated":
        tiny["data"]["init_args"]["simulation"] = SIMULATED
    wanted = merge(merge({**settings, "name": path.stem}, tiny), changes)
    parser = whole(experiment("simulated_baseline"), folder)._parser("fit")
    made = parser.instantiate_classes(parser.parse_args(["--config", yaml.safe_dump(wanted)]))
    asked = [*made.trainer.callbacks, made.distillation, made.multitask]
    callbacks = [c for c in asked if c is not None and not isinstance(c, ProgressBar)]
    L.seed_everything(made.seed_everything)
    trainer = L.Trainer(**{**made.trainer, "callbacks": callbacks, "enable_model_summary": False})
    trainer.fit(made.model, datamodule=made.data)
    return made.model, trainer


@cache
def trained(path: Path, folder: Path) -> NeuralSystem:
    """The model of an experiment without a teacher."""
    return whole(path, folder).model if path in WHOLE else step(path, folder, {})[0]


def distil(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, changes: Config | None = None
) -> tuple[NeuralSystem, L.Trainer]:
    """One step of a distilled experiment, whose teachers come from memory instead of from their checkpoints."""

    def load(reference: Path, content: bytes) -> NeuralSystem:
        assert content
        assert reference in ALONE, "a teacher's experiment that does not exist, or that needs a teacher itself"
        return copy.deepcopy(trained(reference, folder)).eval()

    monkeypatch.setattr(distillation, "load_system", load)
    student, trainer = step(path, folder, changes or {})
    terms = trainer.callback_metrics
    assert trainer.global_step == 1
    assert float(terms["train/distillation"]) > 0
    assert all(math.isfinite(term) for term in terms.values())
    return student, trainer


def teachers_of(trainer: L.Trainer) -> list[NeuralSystem]:
    return next(c for c in trainer.callbacks if isinstance(c, Distillation)).teachers  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", WHOLE, ids=stem)
def test_an_experiment_without_a_teacher_trains_and_is_evaluated(path: Path, folder: Path) -> None:
    run = whole(path, folder).run_dir
    assert checkpoint(run)["global_step"] >= 1
    assert (run / "results.json").exists()


@pytest.mark.parametrize("path", [path for path in ALONE if path not in WHOLE], ids=stem)
def test_an_experiment_without_a_teacher_trains_a_step(path: Path, folder: Path) -> None:
    model = trained(path, folder)
    assert type(model).__name__ == ("Teacher" if path.stem.endswith("teacher") else "Student")
    assert type(model.backbone).__name__ == backbone_of(path)
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert math.isfinite(model.trainer.callback_metrics["train/loss"])
    assert model.trainer.global_step == 1


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path in COMPOSED else ()) for path in DISTILLED],
    ids=stem,
)
def test_a_distilled_experiment_trains_a_step(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, trainer = distil(path, folder, monkeypatch)
    assert type(student) is Student
    kinds = [type(teacher).__name__ for teacher in teachers_of(trainer)]
    assert len(kinds) == (3 if path.stem.endswith("ensemble") else 1)
    assert set(kinds) == {"Student" if path.stem.endswith("self") else "Teacher"}


@pytest.mark.parametrize("path", COMPOSED, ids=stem)
def test_other_distilled_experiments_are_made_of_those(path: Path) -> None:
    family, _, arm = path.stem.rpartition("_")
    backbone = next((suffix for suffix in BACKBONES if suffix and family.endswith(suffix)), "")
    settings, same, loss = (compose(experiment(n)) for n in (path.stem, f"{family}_hard", f"simulated{backbone}_{arm}"))
    teacher = "baseline" if arm == "self" else "teacher"
    assert settings["distillation"] == {**loss["distillation"], "teacher": str(experiment(f"{family}_{teacher}"))}
    assert {**settings, "distillation": None} == {**same, "distillation": None}


def test_every_set_has_every_backbone_and_strategy() -> None:
    for name in SETS:
        for suffix, backbone in BACKBONES.items():
            for arm in ARMS:
                assert backbone_of(experiment(f"{name}{suffix}_{arm}")) == backbone


def test_an_ndt_teaches_an_lfads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, trainer = distil(experiment("simulated_lfads_from_ndt_hard"), folder, monkeypatch)
    (teacher,) = teachers_of(trainer)
    assert (type(student.backbone).__name__, type(teacher.backbone).__name__) == ("LFADS", "NDT")


def test_a_backbone_of_ones_own_learns_the_layers_of_a_wider_ndt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_models.py").write_text(module_of_the_readme("my_models.py"))
    monkeypatch.syspath_prepend(tmp_path)
    gru: Any = {"class_path": "my_models.GRU", "init_args": {"hidden": 6}}
    changes: Config = {"model": {"init_args": {"backbone": gru}}}
    student, trainer = distil(experiment("simulated_feature"), folder, monkeypatch, changes)
    (teacher,) = teachers_of(trainer)
    (projector,) = student.objective.get_submodule("loss.projectors")
    assert projector.weight.shape[1] == 6
    assert projector.weight.shape[0] > 6
    assert type(teacher.backbone).__name__ == "NDT"


@pytest.mark.parametrize("path", DATA, ids=stem)
def test_a_data_file_makes_a_session_that_makes_sense(path: Path) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(NLBDataModule, "data")
    datamodule = parser.instantiate_classes(parser.parse_object(compose(path))).data
    shape = check_spec(datamodule.spec, datamodule.bin_ms)
    assert shape.n_observed > shape.n_forward > 0
    if datamodule.spec.archive is not None:
        assert re.fullmatch(r"\d{6}", datamodule.spec.archive.dandiset)
