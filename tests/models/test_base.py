"""The contract of backbones, and the files in configs/model."""

from functools import cache
from pathlib import Path

import pytest
import torch
from helpers.cli import REPOSITORY, SIMULATION, call
from helpers.sessions import batch_of, session_of
from jsonargparse import ArgumentParser
from torch import nn

from blend_pl.config import compose
from blend_pl.data.nlb.session import session_signature
from blend_pl.models import LFADS, NDT, STNDT, Dims
from blend_pl.systems import NeuralSystem, PopulationSystem, Student, Teacher

BACKBONES = [NDT, STNDT, LFADS]
CONFIGS = sorted((REPOSITORY / "configs" / "model").glob("*.yaml"))
ELSEWHERE = (
    "student",
    "neuprint",
    "gaussian",
    "population_summary",
    "lfp",
    "spike",
    "unmasked",
    "causal",
    "half_width",
)
NETWORKS = [path for path in CONFIGS if not path.stem.startswith(ELSEWHERE)]
"""Networks of spikes; networks of calcium and LFP are tested with their experiments."""


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("context", [0, 2])
def test_mixed_precision_trains(kind: type[nn.Module], context: int) -> None:
    torch.manual_seed(0)
    model = kind(Dims(5, 8, 7, 9, context))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoding = model(torch.randint(0, 3, (4, 7, 5)).float(), torch.randn(4, 9, context) if context else None)
    loss = encoding.prediction.float().exp().mean()
    (loss if encoding.penalty is None else loss + encoding.penalty.float().mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("kind", BACKBONES)
def test_same_seed_gives_same_prediction(kind: type[nn.Module]) -> None:
    def step() -> torch.Tensor:
        torch.manual_seed(3)
        return kind(Dims(5, 8, 7, 9))(torch.ones(2, 7, 5)).prediction

    assert torch.equal(step(), step())


@pytest.mark.parametrize("kind", [Student, Teacher])
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_model_config_builds_student_and_teacher(path: Path, kind: type[PopulationSystem]) -> None:
    settings = {**compose(path)["model"], "class_path": f"blend_pl.systems.{kind.__name__}"}
    parser = ArgumentParser()
    parser.add_subclass_arguments(NeuralSystem, "model")
    system = parser.instantiate_classes(parser.parse_object({"model": settings})).model
    system.build(session_signature("tiny", session_of()))
    masked, labels = system.mask(batch_of(session_of()), 0, 0)
    terms = system.objective(system.encode(masked), labels, masked)
    terms["loss"].backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(parameter.grad is not None for parameter in system.backbone.parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backbones")


@cache
def teacher_of(network: str, folder: Path) -> Path:
    """Trains a teacher of the simulated session once for all strategies and writes `network`.yaml; returns the run."""
    configs = REPOSITORY / "configs"
    names = ("data/simulated", "model/student", f"model/{network}", "trainer/simulated")
    parts = [configs / f"{name}.yaml" for name in names]
    (folder / f"{network}.yaml").write_text(f"base: {[str(part) for part in parts]}")
    teacher = folder / f"{network}_teacher.yaml"
    teacher.write_text(f"base: [{network}.yaml, {configs / 'arm/teacher.yaml'}]")
    root = [f"--data.root={folder}", f"--output={folder}"]
    return call("fit", "--config", teacher, *SIMULATION, *root, "--trainer.max_epochs=2").run_dir


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["hard", "soft", "feature", "correlation"])
@pytest.mark.parametrize("network", ["stndt_small", "lfads_small"])
def test_backbone_is_distilled_from_teacher(network: str, strategy: str, folder: Path) -> None:
    teacher, distilled = teacher_of(network, folder), folder / f"{network}_{strategy}.yaml"
    loss = REPOSITORY / f"configs/arm/{strategy}.yaml"
    distilled.write_text(f"base: [{network}.yaml, {loss}]\ndistillation: {{teacher: {teacher}}}")
    root = [f"--data.root={folder}", f"--output={folder}"]
    cli = call("fit", "--config", distilled, *SIMULATION, *root, "--trainer.fast_dev_run=true")
    terms = cli.trainer.callback_metrics
    assert float(terms["train/distillation"]) > 0
    assert all(terms[f"train/{name}"].isfinite() for name in ("loss", "mtm", "penalty"))
