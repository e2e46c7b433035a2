"""Every combination of set, backbone and arm trains, on recordings written independently of the package."""

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
    CONFIGS,
    EXPERIMENTS,
    SIMULATED,
    TINY_BACKBONES,
    checkpoint,
    experiment,
    fit_tiny,
    settings_of,
    write_set,
)
from helpers.readme import module_of_the_readme
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ProgressBar

from blend_pl.callbacks import Distillation, distillation
from blend_pl.config import Config, compose, compose_experiment, merge, split_reference
from blend_pl.data import NLBDataModule
from blend_pl.data.nlb.reading import check_spec
from blend_pl.experiment import Experiment
from blend_pl.experiment.parser import make_parser
from blend_pl.systems import NeuralSystem, Student

settings_of = cache(settings_of)
DATA = sorted(
    path
    for path in (CONFIGS / "data").glob("*.yaml")
    if compose(path)["data"]["class_path"] == "blend_pl.data.NLBDataModule"
)
SETS = [path.stem for path in DATA if path.stem not in ("own_session", "simulated_half")]
BACKBONES = {"NDT": "", "STNDT": "stndt", "LFADS": "lfads"}
"""Overlay of each backbone; of the simulated set the small one."""
GENERATED = ("simulated", "dmfc_rsg", "mc_rtt")
"""Sets with movements, with one value of behavior per trial, and without trials."""
STRATEGIES = ("hard", "soft", "feature", "correlation", "self")
FILES = sorted(EXPERIMENTS.glob("*.yaml"))


def bases_of(path: Path) -> list[Path]:
    return [path.parent / base for base in yaml.safe_load(path.read_text())["base"]]


TWO_FILES = [path for path in FILES if bases_of(path)[-1].parent.name == "arm"]
"""Experiments of a set and an arm."""


def combination(name: str, backbone: str, arm: str) -> Path:
    """Returns the composition of a set, a backbone and an arm."""
    overlay = BACKBONES[backbone]
    small = "_small" if name == "simulated" else ""
    return experiment(name, *([f"{overlay}{small}"] if overlay else []), arm)


WITHOUT_TEACHER = [
    combination(name, backbone, arm) for name in SETS for backbone in BACKBONES for arm in ("baseline", "teacher")
]
WITHOUT_TEACHER += [experiment(name, "multitask") for name in SETS]
WITHOUT_TEACHER += [experiment("simulated_half", arm) for arm in ("baseline", "teacher")]
WITHOUT_TEACHER += [experiment(name, "generative_teacher") for name in GENERATED]
WITHOUT_TEACHER += [combination("simulated", backbone, "generative_teacher") for backbone in ("STNDT", "LFADS")]
WITHOUT_TEACHER += [experiment("simulated", "generative_self_teacher")]
DISTILLED = [combination(name, backbone, arm) for name in SETS for backbone in BACKBONES for arm in STRATEGIES]
COMPOSED = [path for path in DISTILLED if not (path.stem == "hard" or "simulated" in str(path))]
"""Combinations of parts that are each tested in another combination."""
DISTILLED += [experiment("simulated", "ensemble"), experiment("simulated_half", "hard")]
DISTILLED += [experiment("simulated", "hard", overlay) for overlay in ("causal", "half_width", "lfads_small")]
DISTILLED += [experiment("mc_maze", "hard", "causal")]
DISTILLED += [experiment(name, "generative") for name in GENERATED]
DISTILLED += [combination("simulated", backbone, "generative") for backbone in ("STNDT", "LFADS")]
DISTILLED += [experiment("simulated", arm) for arm in ("generative_posterior", "generative_self", "oracle", "ceiling")]
KINDS = {"teacher": "Teacher", "simulation": "TrueRates"}
KINDS |= dict.fromkeys(("generative_teacher", "generative_self_teacher"), "GenerativeTeacher")
"""Class of the system of an arm; that of other arms is `Student`."""
TEACHERS = {"self": "baseline", "generative_self": "generative_self_teacher"}
TEACHERS |= dict.fromkeys(("generative", "generative_posterior"), "generative_teacher")
TEACHERS |= dict.fromkeys(("oracle", "ceiling"), "simulation")
"""Arm of the teacher of an arm; that of other arms is `teacher`."""


def backbone_of(path: Path) -> str:
    return str(settings_of(path)["model"]["init_args"]["backbone"]["class_path"]).rpartition(".")[2]


EVALUATED = [path for path in WITHOUT_TEACHER if backbone_of(path) == "NDT" or "simulated" in str(path)]
"""Trained and evaluated by the command line: every set and every backbone, but not every pair."""


def name_of(path: Path) -> str:
    return str(settings_of(path)["name"])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@cache
def fit_and_evaluate(path: Path, folder: Path) -> Experiment:
    """Trains an experiment without a teacher by the command line, once for all tests of this process."""
    return fit_tiny(path, folder / "runs", *write_set(path, folder / data_of(path)), "--trainer.max_epochs=1")


def data_of(path: Path) -> str:
    return str(settings_of(path)["data"]["init_args"]["spec"]["name"])


def step(path: Path, folder: Path, changes: Config) -> tuple[NeuralSystem, L.Trainer]:
    """Trains one step of an experiment, built from its settings by the parser of `fit`.

    The command line would build a new parser and write all settings to a file; here one parser reads all experiments.
    """
    root = folder / data_of(path)
    write_set(path, root)
    settings = settings_of(path)
    tiny: Config = {
        "data": {"init_args": {"root": str(root), "bin_ms": 20}},
        "model": {"init_args": {"backbone": {"init_args": TINY_BACKBONES[backbone_of(path)]}}},
        "trainer": {"fast_dev_run": True, "accelerator": "cpu", "enable_progress_bar": False},
    }
    if settings["data"]["init_args"].get("source") == "simulated":
        tiny["data"]["init_args"]["simulation"] = SIMULATED
    tiny_settings = merge(merge(settings, tiny), changes)
    parser = make_parser()
    built = parser.instantiate_classes(parser.parse_args(["--config", yaml.safe_dump(tiny_settings)]))
    configured_callbacks = [*built.trainer.callbacks, built.distillation, built.multitask]
    callbacks = [c for c in configured_callbacks if c is not None and not isinstance(c, ProgressBar)]
    L.seed_everything(built.seed_everything)
    trainer = L.Trainer(**{**built.trainer, "callbacks": callbacks, "enable_model_summary": False})
    trainer.fit(built.model, datamodule=built.data)
    return built.model, trainer


@cache
def trained(path: Path, folder: Path) -> NeuralSystem:
    """Returns the model of an experiment without a teacher."""
    return fit_and_evaluate(path, folder).model if path in EVALUATED else step(path, folder, {})[0]


def distill(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, changes: Config | None = None
) -> tuple[NeuralSystem, L.Trainer]:
    """Trains one step of a distilled experiment with teachers from memory instead of from checkpoints."""

    def load(reference: Path, content: bytes | None) -> NeuralSystem:
        assert all(path.is_file() for path in split_reference(str(reference)))
        assert reference in WITHOUT_TEACHER, "the teacher's experiment does not exist or needs a teacher itself"
        teacher = trained(reference, folder)
        # A trainer with a progress line cannot be copied.
        return copy.deepcopy(teacher, {id(teacher.trainer): None}).eval()

    monkeypatch.setattr(distillation, "load_system", load)
    monkeypatch.setattr(distillation, "locate_checkpoint", lambda reference, *_: Path(reference))
    monkeypatch.setattr(distillation, "NEW_TRIALS", 20)
    student, trainer = step(path, folder, changes or {})
    terms = trainer.callback_metrics
    assert trainer.global_step == 1
    assert float(terms["train/distillation"]) > 0
    assert all(math.isfinite(term) for term in terms.values())
    return student, trainer


def teachers_of(trainer: L.Trainer) -> list[NeuralSystem]:
    return next(c for c in trainer.callbacks if isinstance(c, Distillation)).teachers  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", EVALUATED, ids=name_of)
def test_experiment_without_teacher_trains_and_is_evaluated(path: Path, folder: Path) -> None:
    run = fit_and_evaluate(path, folder).run_dir
    assert run.parent.name == name_of(path)
    assert checkpoint(run)["global_step"] >= 1
    assert (run / "results.json").exists()


@pytest.mark.parametrize("path", [path for path in WITHOUT_TEACHER if path not in EVALUATED], ids=name_of)
def test_experiment_without_teacher_trains_a_step(path: Path, folder: Path) -> None:
    model = trained(path, folder)
    assert type(model).__name__ == KINDS.get(path.stem, "Student")
    assert type(model.backbone).__name__ == backbone_of(path)
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert math.isfinite(model.trainer.callback_metrics["train/loss"])
    assert model.trainer.global_step == 1


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path in COMPOSED else ()) for path in DISTILLED],
    ids=name_of,
)
def test_distilled_experiment_trains_a_step(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, trainer = distill(path, folder, monkeypatch)
    assert type(student) is Student
    kinds = [type(teacher).__name__ for teacher in teachers_of(trainer)]
    assert len(kinds) == (3 if path.stem == "ensemble" else 1)
    assert set(kinds) == {KINDS.get(TEACHERS.get(path.stem, "teacher"), "Student")}


@pytest.mark.parametrize("path", COMPOSED, ids=name_of)
def test_composed_experiment_combines_tested_parts(path: Path) -> None:
    *others, arm = split_reference(str(path))
    settings = settings_of(path)
    same = compose_experiment([*others, arm.with_stem("hard")])
    loss = settings_of(experiment("simulated", arm.stem))["distillation"]
    teacher = arm.with_stem(TEACHERS.get(arm.stem, "teacher"))
    assert settings["distillation"] == {**loss, "teacher": "+".join(map(str, [*others, teacher]))}
    of_the_arm = dict.fromkeys(("distillation", "name", "role"))
    assert {**settings, **of_the_arm} == {**same, **of_the_arm}


def test_every_set_has_every_backbone_and_strategy() -> None:
    for name in SETS:
        for backbone in BACKBONES:
            for arm in ("baseline", "teacher", *STRATEGIES):
                path = combination(name, backbone, arm)
                assert path in (*WITHOUT_TEACHER, *DISTILLED)
                assert backbone_of(path) == backbone


@pytest.mark.parametrize("path", TWO_FILES, ids=lambda path: path.stem)
def test_experiment_file_equals_the_composition_of_its_bases(path: Path) -> None:
    assert compose_experiment([path]) == compose_experiment(bases_of(path))


def test_every_set_has_its_experiment_files() -> None:
    arms = {"bugeon": {"baseline", "teacher", "feature"}, "nlb": {"baseline", "teacher", "hard"}}
    arms["lfp"] = {"lfp_single_session", "spike_teacher", "distilled_multi_session"}
    for path in set(FILES) - set(TWO_FILES):
        kind = "bugeon" if "bugeon" in path.stem else "lfp" if "/lfp" in path.read_text() else "nlb"
        files = [file for file in TWO_FILES if bases_of(file)[0] == path]
        assert {bases_of(file)[1].stem for file in files} == arms[kind]


def test_ndt_teaches_lfads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, trainer = distill(experiment("simulated", "hard", "lfads_small"), folder, monkeypatch)
    (teacher,) = teachers_of(trainer)
    assert (type(student.backbone).__name__, type(teacher.backbone).__name__) == ("LFADS", "NDT")


def test_custom_backbone_learns_layers_of_a_wider_ndt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_models.py").write_text(module_of_the_readme("my_models.py"))
    monkeypatch.syspath_prepend(tmp_path)
    gru: Any = {"class_path": "my_models.GRU", "init_args": {"hidden": 6}}
    changes: Config = {"model": {"init_args": {"backbone": gru}}}
    student, trainer = distill(experiment("simulated", "feature"), folder, monkeypatch, changes)
    (teacher,) = teachers_of(trainer)
    (projector,) = student.objective.get_submodule("loss.projectors")
    assert projector.weight.shape[1] == 6
    assert projector.weight.shape[0] > 6
    assert type(teacher.backbone).__name__ == "NDT"


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_data_file_describes_a_valid_session(path: Path) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(NLBDataModule, "data")
    datamodule = parser.instantiate_classes(parser.parse_object(compose(path))).data
    shape = check_spec(datamodule.spec, datamodule.bin_ms)
    assert shape.n_observed > shape.n_forward > 0
    if datamodule.spec.archive is not None:
        assert re.fullmatch(r"\d{6}", datamodule.spec.archive.dandiset)
