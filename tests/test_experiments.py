"""Every experiment file on spikes trains, on recordings of its set that were written without the package."""

import math
import re
from functools import cache
from pathlib import Path

import pytest
from helpers.cli import EXPERIMENTS, REPOSITORY, call, checkpoint, fit, write_set
from jsonargparse import ArgumentParser

from blend_pl.compose import compose
from blend_pl.data import NLBDataModule
from blend_pl.data.reader import check_spec

FILES = sorted(path for path in EXPERIMENTS.glob("*.yaml") if not path.stem.startswith("bugeon_"))
DATA = sorted(
    path
    for path in (REPOSITORY / "configs" / "data").glob("*.yaml")
    if compose(path)["data"]["class_path"] == "blend_pl.data.NLBDataModule"
)
ALONE = [path for path in FILES if "distillation" not in compose(path)]
DISTILLED = [path for path in FILES if path not in ALONE]
QUICK = re.compile("simulated_.*|area2_bump_hard")
"""Parsing takes seconds an experiment: each strategy once is enough for every day, as is each set, some elsewhere."""


def stem(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@cache
def trained(path: Path, folder: Path) -> Path:
    """The run of an experiment without a teacher, trained once for all tests of this process."""
    return fit(path.stem, folder / "runs", *write_set(path, folder / data_of(path)), "--trainer.max_epochs=1")


def data_of(path: Path) -> str:
    return compose(path)["data"]["init_args"]["spec"]["name"]


@pytest.mark.parametrize("path", ALONE, ids=stem)
def test_an_experiment_without_a_teacher_trains_a_step(path: Path, folder: Path) -> None:
    run = trained(path, folder)
    assert checkpoint(run)["global_step"] >= 1
    assert (run / "results.json").exists()


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[] if QUICK.fullmatch(p.stem) else pytest.mark.slow) for p in DISTILLED],
    ids=map(stem, DISTILLED),
)
def test_a_distilled_experiment_trains_a_step(path: Path, folder: Path) -> None:
    teacher = Path(compose(path)["distillation"]["teacher"])
    assert teacher in ALONE, "a teacher's experiment that does not exist, or that needs a teacher itself"
    cli = call(
        *("fit", "--config", path, *write_set(path, folder / data_of(path)), f"--output={folder / 'runs'}"),
        *("--model.backbone.layers=1", "--model.backbone.feedforward=8", "--data.bin_ms=20"),
        *(f"--distillation.teacher={trained(teacher, folder)}", "--trainer.fast_dev_run=true"),
    )
    terms = cli.trainer.callback_metrics
    assert cli.trainer.global_step == 1
    assert float(terms["train/distillation"]) > 0
    assert all(math.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("path", DATA, ids=stem)
def test_a_data_file_makes_a_session_that_makes_sense(path: Path) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(NLBDataModule, "data")
    datamodule = parser.instantiate_classes(parser.parse_object(compose(path))).data
    shape = check_spec(datamodule.spec, datamodule.bin_ms)
    assert shape.n_observed > shape.n_forward > 0
    if datamodule.spec.archive is not None:
        assert re.fullmatch(r"\d{6}", datamodule.spec.archive.dandiset)
