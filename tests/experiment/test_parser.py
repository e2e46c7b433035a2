"""Resolved settings of an experiment."""

import pytest
from helpers.cli import experiment

from blend_pl.experiment import Experiment


@pytest.mark.parametrize("path", ["blend_pl.NDT", "blend_pl.models.NDT", "blend_pl.models.ndt.NDT", "NDT"])
def test_every_path_of_a_class_gives_the_same_settings(path: str) -> None:
    named = Experiment([str(experiment("simulated_baseline")), f"--model.backbone={path}"])
    assert named.settings["model"]["init_args"]["backbone"]["class_path"] == "blend_pl.models.NDT"
    assert named.settings["model"]["class_path"] == "blend_pl.systems.Student"
    assert named.settings["data"]["class_path"] == "blend_pl.data.NLBDataModule"


@pytest.mark.parametrize(
    ("arguments", "monitor"),
    [
        (["--data.spec.held_out.fraction=0"], ("val/loss", "min")),
        (["--data.spec.held_out.fraction=0", "--data.spec.held_out.by_fold=true", "--data.fold=1/2"], None),
        ([], None),
    ],
)
def test_validation_loss_selects_the_checkpoint_without_held_out_units(
    arguments: list[str], monitor: tuple[str, str] | None
) -> None:
    settings = Experiment([str(experiment("simulated_baseline")), *arguments]).settings
    for name in ("checkpoint", "early_stopping"):
        assert (settings[name]["monitor"], settings[name]["mode"]) == (monitor or ("val/co_bps", "max"))
