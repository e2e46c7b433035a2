from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
import yaml
from helpers.cli import SIMULATION, TINY_TRAINING, backbone_of, experiment, fit, teacher_args, tiny_network, weights

from blend_pl.cli.main import run_command
from blend_pl.errors import ConfigError, TrainingInterrupted
from blend_pl.experiment import Experiment
from blend_pl.multirun import training
from blend_pl.multirun.candidate import Candidate
from blend_pl.runs.folder import find_runs
from blend_pl.runs.results import Results

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
    network = tiny_network(backbone_of(experiment(name)))
    file = output / "points.yaml"
    output.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(points))
    given = {"stack": True, "seeds": [1], **options}
    run_command(
        [
            "multirun",
            str(experiment(name)),
            f"--overrides={file}",
            f"--output={output}",
            f"--fit_args={[*network, *arguments]}",
            *(f"--{option}={value}" for option, value in given.items()),
        ]
    )
    return {path.name: path for path in find_runs([output / name])}


def alike(first: Path, second: Path) -> None:
    """Two runs that differ in nothing but rounding and what they cost."""
    one, two = Results.read(first), Results.read(second)
    assert [value is None for value in vars(one).values()] == [value is None for value in vars(two).values()]
    for part in ("selected", "scores"):
        assert getattr(one, part) == pytest.approx(getattr(two, part), rel=1e-6, abs=1e-8)
    for part in ("name", "session", "seed", "fingerprint", "phase", "selection", "epoch"):
        assert getattr(one, part) == getattr(two, part)
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
    assert all(Results.read(run_dir).cost.members == 2 for run_dir in together.values())
    for point in points:
        options = [f"--{name}={value}" for name, value in point.items()]
        alone = fit("simulated_hard", tmp_path / "alone", *shared, "--seed_everything=2", *options)
        alike(together[alone.name], alone)
    assert not [*(tmp_path / "together").glob("multirun/*")]


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
    assert Path(Results.read(student).teachers[0]).parents[1] in together.values()


def test_one_stops_and_the_others_go_on(data: str, tmp_path: Path) -> None:
    points = [{"early_stopping.patience": 1, "early_stopping.min_delta": 10.0}, {"model.optimizer.lr": 0.001}]
    runs = many("simulated_baseline", tmp_path, points, *EXACT, data)
    epochs = {
        Results.read(run_dir).config["early_stopping"]["patience"]: Results.read(run_dir).epoch
        for run_dir in runs.values()
    }
    assert epochs.pop(1) == 2
    assert [*epochs.values()] == [3]


@pytest.mark.slow
def test_a_run_that_fails_stops_no_other_and_doubles_are_one(data: str, tmp_path: Path) -> None:
    points: list[dict[str, Any]] = [
        {"model.masking.ratio": 2.0},
        {"model.optimizer.lr": 1e30},
        {},
        {"model.optimizer.lr": 0.004},
        {"model.optimizer.lr": "4.0e-3"},
    ]
    rest = ["--trainer.max_epochs=2", "--trainer.num_sanity_val_steps=1", "--trainer.log_every_n_steps=0"]
    with pytest.raises(ConfigError, match=r"^2 runs failed: .*hold NaN.*; masking.ratio is a share"):
        many("simulated_baseline", tmp_path, points, *EXACT, *rest, data, seeds=[1, 1])
    runs = find_runs([tmp_path / "simulated_baseline"])
    assert [Results.read(run_dir).cost.members for run_dir in runs] == [3, 3]


@pytest.mark.slow
def test_all_have_stopped_and_the_command_is_ended(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    points = [{"early_stopping.patience": 1, "early_stopping.min_delta": delta} for delta in (10.0, 20.0)]
    # Before any is known to be trained, and before any is scored.
    for step in ("write_marker", "finalize"):
        with monkeypatch.context() as patch:
            patch.setattr(training, step, kill)
            with pytest.raises(Killed):
                many("simulated_baseline", tmp_path, points, *EXACT, data)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_train_stack", kill)
        runs = many("simulated_baseline", tmp_path, points, *EXACT, data)
    assert [Results.read(run_dir).epoch for run_dir in runs.values()] == [2, 2]
    assert not [*tmp_path.glob("*/*/trained.json"), *tmp_path.glob("multirun/*")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "stackable"),
    [
        ("--model.optimizer.lr=0.1", True),
        ("--trainer.gradient_clip_val=1.0", True),
        ("--early_stopping.patience=3", True),
        ("--trainer.min_epochs=3", False),
        ("--trainer.val_check_interval=0.5", False),
        ("--trainer.fast_dev_run=true", False),
        ("--early_stopping.stopping_threshold=1.0", False),
        ("--early_stopping.monitor=train/loss", False),
        ("--checkpoint.every_n_epochs=2", False),
        ("--checkpoint.monitor=train/loss", False),
        ("--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor", False),
        ("--trainer.callbacks+=lightning.pytorch.callbacks.LambdaCallback", False),
        ("--trainer.logger=false", True),
    ],
)
def test_settings_that_only_one_heeds(setting: str, stackable: bool, data: str, tmp_path: Path) -> None:
    with ExitStack() as claims:
        words = ["--config", str(experiment("simulated_baseline")), f"--output={tmp_path}", *EXACT, data, setting]
        built = Experiment(words)
        assert built.build(claims)
        assert Candidate(words, built, claims).is_stackable == stackable


def test_what_is_made_to_be_trained_with_others_is_not_tracked(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blend_pl.experiment.tracking.log_settings", lambda *_: pytest.fail("W&B was told"))
    with ExitStack() as claims:
        words = ["--config", str(experiment("simulated_baseline")), f"--output={tmp_path}", *EXACT, data]
        built = Experiment(words)
        assert built.build(claims)
        assert (built.run_dir / "config.yaml").exists()


def test_seeds_are_the_experiments_own(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr("blend_pl.multirun.command.Experiment", lambda words: called.append(words) or MagicMock())
    for seeds in ([], ["--seeds=[3,3]"]):
        run_command(["multirun", "x.yaml", "--fit_args=[--seed_everything=7]", "--stack=false", *seeds])
    assert [[word for word in words if "seed" in word] for words in called] == [
        ["--seed_everything=7"],
        ["--seed_everything=7", "--seed_everything=3"],
    ]


@pytest.mark.slow
def test_other_architectures_train_one_after_another(data: str, tmp_path: Path, capsys: Any) -> None:
    runs = many(
        "simulated_baseline",
        tmp_path,
        [{"model.backbone.num_layers": 1}, {"model.backbone.num_layers": 2}],
        *EXACT,
        data,
    )
    assert len(runs) == 2
    assert all(Results.read(run_dir).cost.members is None for run_dir in runs.values())


@pytest.mark.slow
def test_spatiotemporal_students_are_those_of_fit(data: str, tmp_path: Path) -> None:
    points = [{}, {"model.optimizer.lr": 0.001, "model.backbone.context_forward": 1}]
    shared = [*EXACT, data, "--model.backbone.contrast.weight=0"]
    together = many("simulated_stndt_small_baseline", tmp_path, points, *shared)
    assert [Results.read(run_dir).cost.members for run_dir in together.values()] == [2, 2]
    for point in points:
        options = [f"--{name}={value}" for name, value in point.items()]
        alone = fit("simulated_stndt_small_baseline", tmp_path / "alone", *shared, "--seed_everything=1", *options)
        alike(together[alone.name], alone)


@pytest.mark.slow
def test_members_that_draw_chance_repeat_themselves_and_no_other(data: str, tmp_path: Path) -> None:
    runs = [many("simulated_stndt_small_baseline", tmp_path / part, [{}], *EXACT, data, seeds=[1, 2]) for part in "ab"]
    first, second = ([weights(run_dir, "best.ckpt") for run_dir in each.values()] for each in runs)
    assert all(Results.read(run_dir).cost.members == 2 for run_dir in runs[0].values())
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert all(not torch.equal(value, first[1][name]) for name, value in first[0].items() if "embedding" in name)


@pytest.mark.slow
def test_what_cannot_be_stacked_trains_one_after_another(data: str, tmp_path: Path) -> None:
    exact = [argument for argument in EXACT if not argument.startswith("--model.backbone.dropout_")]
    runs = many("simulated_lfads_small_baseline", tmp_path, [{}], *exact, data, seeds=[1, 2])
    assert len(runs) == 2
    alone = fit("simulated_lfads_small_baseline", tmp_path / "alone", *exact, data, "--seed_everything=2")
    assert Results.read(runs[alone.name]).scores == Results.read(alone).scores


@pytest.mark.slow
def test_a_crowd_for_which_there_is_no_memory_trains_in_halves(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class Filling(training.StackedModule):
        def training_step(self, batches: Any, batch_idx: int) -> Any:
            if len(self.active) > 2 and self.current_epoch == 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().training_step(batches, batch_idx)

    monkeypatch.setattr(training, "StackedModule", Filling)
    runs = many("simulated_baseline", tmp_path, [{}], *EXACT, data, seeds=[1, 2, 3])
    costs = [Results.read(run_dir).cost.members or 1 for run_dir in runs.values()]
    assert sorted(costs) == [1, 2, 2]
    assert capsys.readouterr().out.count("there is no memory for 3 models at once; they begin again") == 1
    assert not [*tmp_path.glob("multirun/*")]
    for seed in (1, 3):
        alone = fit("simulated_baseline", tmp_path / "alone", *EXACT, data, f"--seed_everything={seed}")
        alike(runs[alone.name], alone)


@pytest.mark.slow
def test_an_ended_command_goes_on(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = many("simulated_baseline", tmp_path / "whole", [{}], *EXACT, data, seeds=[1, 2])

    class Ended(training.LastCheckpoint):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self._stop_requested = trainer.current_epoch == 1

    with monkeypatch.context() as patch:
        patch.setattr(training, "LastCheckpoint", Ended)
        with pytest.raises(TrainingInterrupted, match="the same command goes on"):
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
        run_command(["multirun", str(experiment("simulated_baseline")), f"--overrides={file}"])


def test_no_file_of_points(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the points"):
        run_command(["multirun", str(experiment("simulated_baseline")), f"--overrides={tmp_path / 'none.yaml'}"])


@pytest.mark.parametrize("wrong", ["--seeds=[]", "--max_parallel=0"])
def test_nothing_to_train(wrong: str) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        run_command(["multirun", str(experiment("simulated_baseline")), wrong])
