from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.cli import SIMULATION, TINY_TRAINING, experiment, fit, teacher_args, tiny_network, weights

from blend_pl.commands import run
from blend_pl.errors import ConfigError, Stopped
from blend_pl.many import training
from blend_pl.results import read_results
from blend_pl.runs import find_runs

EXACT = [
    *SIMULATION,
    *TINY_TRAINING,
    "--trainer.precision=64-true",
    "--trainer.max_epochs=3",
    "--data.batch_size=6",
    *(f"--model.backbone.{name}=0" for name in ("dropout", "dropout_embedding", "dropout_rates")),
]
"""Without dropout, which draws other numbers in a stack."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"--data.root={tmp_path_factory.mktemp('data')}"


def many(name: str, output: Path, points: list[dict[str, Any]], *arguments: str, **options: Any) -> dict[str, Path]:
    """Runs an experiment for all points and finds the runs by their identity."""
    file = output / "points.yaml"
    output.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(points))
    given = {"stack": True, "seeds": [1], **options}
    run(
        [
            "many",
            str(experiment(name)),
            f"--points={file}",
            f"--output={output}",
            f"--fit_args={[*tiny_network('NDT'), *arguments]}",
            *(f"--{option}={value}" for option, value in given.items()),
        ]
    )
    return {path.name: path for path in find_runs([output / name])}


def alike(first: Path, second: Path) -> None:
    """Two runs that differ in nothing but rounding and what they cost."""
    one, two = read_results(first), read_results(second)
    assert one.keys() == two.keys()
    for part in ("selected", "scores"):
        assert one[part] == pytest.approx(two[part], rel=1e-6, abs=1e-8)
    for part in ("name", "session", "seed", "fingerprint", "phase", "selection", "epoch"):
        assert one[part] == two[part]
    for part in ("config.yaml", "checkpoints/best.ckpt", "version_*/metrics.csv"):
        assert [*first.glob(part)]


def test_students_are_those_of_fit(data: str, tmp_path: Path) -> None:
    points = [
        {"distillation.alpha": 0.3, "model.optimizer.lr": 0.004, "model.masking.ratio": 0.5},
        {"distillation.alpha": 0.8, "model.backbone.context_forward": 1, "early_stopping.patience": 1},
    ]
    teacher = fit("simulated_teacher", tmp_path, *EXACT, data)
    shared = [*EXACT, data, f"--distillation.teacher={teacher}"]
    together = many("simulated_hard", tmp_path / "together", points, *shared, seeds=[2])
    assert len(together) == 2
    assert all(read_results(run_dir)["cost"]["members"] == 2 for run_dir in together.values())
    for point in points:
        options = [f"--{name}={value}" for name, value in point.items()]
        alone = fit("simulated_hard", tmp_path / "alone", *shared, "--seed_everything=2", *options)
        alike(together[alone.name], alone)
    assert not [*(tmp_path / "together").glob("many/*")]


@pytest.mark.slow
def test_teachers_are_those_of_fit_and_found(data: str, tmp_path: Path) -> None:
    together = many("simulated_teacher", tmp_path, [{}], *EXACT, data, seeds=[1, 2])
    before = {name: (run_dir / "results.json").read_text() for name, run_dir in together.items()}
    alone = fit("simulated_teacher", tmp_path / "alone", *EXACT, data, "--seed_everything=2")
    alike(together[alone.name], alone)
    # Started again, there is nothing left to do; and a student finds its teacher.
    again = many("simulated_teacher", tmp_path, [{}], *EXACT, data, seeds=[1, 2])
    assert {name: (run_dir / "results.json").read_text() for name, run_dir in again.items()} == before
    student = fit("simulated_hard", tmp_path, *EXACT, data, "--seed_everything=1", teacher_args(*EXACT))
    assert Path(read_results(student)["teachers"][0]).parents[1] in together.values()


def test_one_stops_and_the_others_go_on(data: str, tmp_path: Path) -> None:
    points = [{"early_stopping.patience": 1, "early_stopping.min_delta": 10.0}, {"model.optimizer.lr": 0.001}]
    runs = many("simulated_baseline", tmp_path, points, *EXACT, data)
    epochs = {
        read_results(run_dir)["config"]["early_stopping"]["patience"]: read_results(run_dir)["epoch"]
        for run_dir in runs.values()
    }
    assert epochs.pop(1) == 2
    assert [*epochs.values()] == [3]


@pytest.mark.slow
def test_other_architectures_train_one_after_another(data: str, tmp_path: Path, capsys: Any) -> None:
    runs = many(
        "simulated_baseline", tmp_path, [{"model.backbone.layers": 1}, {"model.backbone.layers": 2}], *EXACT, data
    )
    assert len(runs) == 2
    assert all("members" not in read_results(run_dir)["cost"] for run_dir in runs.values())


@pytest.mark.slow
def test_what_cannot_be_stacked_trains_one_after_another(data: str, tmp_path: Path, capsys: Any) -> None:
    runs = many("simulated_stndt_baseline", tmp_path, [{}], *EXACT, data, seeds=[1, 2])
    assert len(runs) == 2
    assert "2 models train one after another: vmap" in capsys.readouterr().out
    alone = fit("simulated_stndt_baseline", tmp_path / "alone", *EXACT, data, "--seed_everything=2")
    assert read_results(runs[alone.name])["scores"] == read_results(alone)["scores"]


@pytest.mark.slow
def test_an_ended_command_goes_on(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = many("simulated_baseline", tmp_path / "whole", [{}], *EXACT, data, seeds=[1, 2])

    class Ended(training.LastCheckpoint):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self._asked = trainer.current_epoch == 1

    with monkeypatch.context() as patch:
        patch.setattr(training, "LastCheckpoint", Ended)
        with pytest.raises(Stopped, match="the same command goes on"):
            many("simulated_baseline", tmp_path / "again", [{}], *EXACT, data, seeds=[1, 2])
    resumed = many("simulated_baseline", tmp_path / "again", [{}], *EXACT, data, seeds=[1, 2])
    for name, run_dir in whole.items():
        alike(resumed[name], run_dir)
        # Lightning restores weights before it makes them double.
        torch.testing.assert_close(
            weights(resumed[name], "best.ckpt"), weights(run_dir, "best.ckpt"), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{a: 1}", "no list of points"), ("[]", "no list of points"), ("[1]", "no list of points"), ("[", "cannot read")],
)
def test_points_that_are_none(content: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        run(["many", str(experiment("simulated_baseline")), f"--points={file}"])


def test_no_file_of_points(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the points"):
        run(["many", str(experiment("simulated_baseline")), f"--points={tmp_path / 'none.yaml'}"])


@pytest.mark.parametrize("wrong", ["--seeds=[]", "--together=0"])
def test_nothing_to_train(wrong: str) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        run(["many", str(experiment("simulated_baseline")), wrong])
