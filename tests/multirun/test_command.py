"""Tests of the command `multirun`: runs of a stack equal those of `fit`."""

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
"""Arguments without dropout, which draws other random numbers in a stack."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"--data.root={tmp_path_factory.mktemp('data')}"


def run_multirun(
    name: str, output: Path, overrides: list[dict[str, Any]], *arguments: str, **options: Any
) -> dict[str, Path]:
    """Runs an experiment with all overrides; returns the run folders by their names, which contain the fingerprints."""
    network = tiny_network(backbone_of(experiment(name)))
    file = output / "overrides.yaml"
    output.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(overrides))
    options = {"stack": True, "seeds": [1], **options}
    run_command(
        [
            "multirun",
            str(experiment(name)),
            f"--overrides={file}",
            f"--output={output}",
            f"--fit_args={[*network, *arguments]}",
            *(f"--{option}={value}" for option, value in options.items()),
        ]
    )
    return {path.name: path for path in find_runs([output / name])}


def assert_equal_runs(first: Path, second: Path) -> None:
    """Asserts that two runs differ only in rounding and cost."""
    results, expected = Results.read(first), Results.read(second)
    assert [value is None for value in vars(results).values()] == [value is None for value in vars(expected).values()]
    for attribute in ("selected", "scores"):
        assert getattr(results, attribute) == pytest.approx(getattr(expected, attribute), rel=1e-6, abs=1e-8)
    for attribute in ("name", "session", "seed", "fingerprint", "phase", "selection", "epoch"):
        assert getattr(results, attribute) == getattr(expected, attribute)
    for pattern in ("config.yaml", "checkpoints/best.ckpt", "version_*/metrics.csv"):
        assert [*first.glob(pattern)]


def test_students_equal_those_of_fit(data: str, tmp_path: Path) -> None:
    overrides = [
        {"distillation.alpha": 0.3, "model.optimizer.lr": 0.004, "model.masking.ratio": 0.5},
        {"distillation.alpha": 0.8, "model.backbone.context_forward": 1, "early_stopping.patience": 1},
    ]
    teacher = fit("simulated_teacher", tmp_path, *EXACT, data)
    shared = [*EXACT, data, f"--distillation.teacher={teacher}"]
    stacked = run_multirun("simulated_hard", tmp_path / "stacked", overrides, *shared, seeds=[2])
    assert len(stacked) == 2
    assert all(Results.read(run_dir).cost.members == 2 for run_dir in stacked.values())
    for override in overrides:
        options = [f"--{name}={value}" for name, value in override.items()]
        single = fit("simulated_hard", tmp_path / "single", *shared, "--seed_everything=2", *options)
        assert_equal_runs(stacked[single.name], single)
    assert not [*(tmp_path / "stacked").glob("multirun/*")]


@pytest.mark.slow
def test_teachers_equal_those_of_fit_and_are_found(data: str, tmp_path: Path) -> None:
    stacked = run_multirun("simulated_teacher", tmp_path, [{}], *EXACT, data, seeds=[1, 2])
    before = {name: (run_dir / "results.json").read_text() for name, run_dir in stacked.items()}
    single = fit("simulated_teacher", tmp_path / "single", *EXACT, data, "--seed_everything=2")
    assert_equal_runs(stacked[single.name], single)
    # A second call has nothing to do, and a student finds its teacher.
    again = run_multirun("simulated_teacher", tmp_path, [{}], *EXACT, data, seeds=[1, 2])
    assert {name: (run_dir / "results.json").read_text() for name, run_dir in again.items()} == before
    student = fit("simulated_hard", tmp_path, *EXACT, data, "--seed_everything=1", teacher_args(*EXACT))
    assert Path(Results.read(student).teachers[0]).parents[1] in stacked.values()


def test_early_stopping_of_one_replica(data: str, tmp_path: Path) -> None:
    overrides = [{"early_stopping.patience": 1, "early_stopping.min_delta": 10.0}, {"model.optimizer.lr": 0.001}]
    runs = run_multirun("simulated_baseline", tmp_path, overrides, *EXACT, data)
    epochs = {
        Results.read(run_dir).config["early_stopping"]["patience"]: Results.read(run_dir).epoch
        for run_dir in runs.values()
    }
    assert epochs.pop(1) == 2
    assert [*epochs.values()] == [3]


@pytest.mark.slow
def test_failed_run_stops_no_other_and_duplicates_run_once(data: str, tmp_path: Path) -> None:
    overrides: list[dict[str, Any]] = [
        {"model.masking.ratio": 2.0},
        {"model.optimizer.lr": 1e30},
        {},
        {"model.optimizer.lr": 0.004},
        {"model.optimizer.lr": "4.0e-3"},
    ]
    extra = ["--trainer.max_epochs=2", "--trainer.num_sanity_val_steps=1", "--trainer.log_every_n_steps=0"]
    with pytest.raises(ConfigError, match=r"^2 runs failed: .*are NaN.*; masking.ratio must be between 0 and 1"):
        run_multirun("simulated_baseline", tmp_path, overrides, *EXACT, *extra, data, seeds=[1, 1])
    runs = find_runs([tmp_path / "simulated_baseline"])
    assert [Results.read(run_dir).cost.members for run_dir in runs] == [3, 3]


@pytest.mark.slow
def test_command_killed_after_training_resumes_evaluation(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    overrides = [{"early_stopping.patience": 1, "early_stopping.min_delta": delta} for delta in (10.0, 20.0)]
    # Killed before a marker is written, and before a run is evaluated.
    for step in ("write_marker", "finalize"):
        with monkeypatch.context() as patch:
            patch.setattr(training, step, kill)
            with pytest.raises(Killed):
                run_multirun("simulated_baseline", tmp_path, overrides, *EXACT, data)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_train_stack", kill)
        runs = run_multirun("simulated_baseline", tmp_path, overrides, *EXACT, data)
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
def test_is_stackable(setting: str, stackable: bool, data: str, tmp_path: Path) -> None:
    with ExitStack() as locks:
        arguments = [*baseline_arguments(data, tmp_path), setting]
        built = Experiment(arguments)
        assert built.build(locks)
        assert Candidate(arguments, built, locks).is_stackable == stackable


def test_built_experiment_is_not_logged_to_wandb(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blend_pl.experiment.tracking.log_settings", lambda *_: pytest.fail("settings were logged"))
    with ExitStack() as locks:
        built = Experiment(baseline_arguments(data, tmp_path))
        assert built.build(locks)
        assert (built.run_dir / "config.yaml").exists()


def baseline_arguments(data: str, output: Path) -> list[str]:
    return ["--config", str(experiment("simulated_baseline")), f"--output={output}", *EXACT, data]


def test_default_seed_is_that_of_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr("blend_pl.multirun.command.Experiment", lambda words: called.append(words) or MagicMock())
    for seeds in ([], ["--seeds=[3,3]"]):
        run_command(["multirun", "x.yaml", "--fit_args=[--seed_everything=7]", "--stack=false", *seeds])
    assert [[word for word in words if "seed" in word] for words in called] == [
        ["--seed_everything=7"],
        ["--seed_everything=7", "--seed_everything=3"],
    ]


@pytest.mark.slow
def test_different_architectures_train_one_after_another(data: str, tmp_path: Path, capsys: Any) -> None:
    runs = run_multirun(
        "simulated_baseline",
        tmp_path,
        [{"model.backbone.num_layers": 1}, {"model.backbone.num_layers": 2}],
        *EXACT,
        data,
    )
    assert len(runs) == 2
    assert all(Results.read(run_dir).cost.members is None for run_dir in runs.values())


@pytest.mark.slow
def test_stndt_students_equal_those_of_fit(data: str, tmp_path: Path) -> None:
    overrides = [{}, {"model.optimizer.lr": 0.001, "model.backbone.context_forward": 1}]
    shared = [*EXACT, data, "--model.backbone.contrast.weight=0"]
    stacked = run_multirun("simulated_stndt_small_baseline", tmp_path, overrides, *shared)
    assert [Results.read(run_dir).cost.members for run_dir in stacked.values()] == [2, 2]
    for override in overrides:
        options = [f"--{name}={value}" for name, value in override.items()]
        single = fit("simulated_stndt_small_baseline", tmp_path / "single", *shared, "--seed_everything=1", *options)
        assert_equal_runs(stacked[single.name], single)


@pytest.mark.slow
def test_random_replicas_are_reproducible_and_differ(data: str, tmp_path: Path) -> None:
    runs = [
        run_multirun("simulated_stndt_small_baseline", tmp_path / part, [{}], *EXACT, data, seeds=[1, 2])
        for part in "ab"
    ]
    first, second = ([weights(run_dir, "best.ckpt") for run_dir in run_dirs.values()] for run_dirs in runs)
    assert all(Results.read(run_dir).cost.members == 2 for run_dir in runs[0].values())
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert all(not torch.equal(value, first[1][name]) for name, value in first[0].items() if "embedding" in name)


@pytest.mark.slow
def test_unsupported_networks_train_one_after_another(data: str, tmp_path: Path) -> None:
    exact = [argument for argument in EXACT if not argument.startswith("--model.backbone.dropout_")]
    runs = run_multirun("simulated_lfads_small_baseline", tmp_path, [{}], *exact, data, seeds=[1, 2])
    assert len(runs) == 2
    single = fit("simulated_lfads_small_baseline", tmp_path / "single", *exact, data, "--seed_everything=2")
    assert Results.read(runs[single.name]).scores == Results.read(single).scores


@pytest.mark.slow
def test_stack_out_of_memory_trains_in_halves(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class OutOfMemoryModule(training.StackedModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if len(self.active) > 2 and self.current_epoch == 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().training_step(batch, batch_idx)

    monkeypatch.setattr(training, "StackedModule", OutOfMemoryModule)
    runs = run_multirun("simulated_baseline", tmp_path, [{}], *EXACT, data, seeds=[1, 2, 3])
    costs = [Results.read(run_dir).cost.members or 1 for run_dir in runs.values()]
    assert sorted(costs) == [1, 2, 2]
    assert (
        capsys.readouterr().out.count("not enough memory for 3 models at once; training is restarted in two halves")
        == 1
    )
    assert not [*tmp_path.glob("multirun/*")]
    for seed in (1, 3):
        single = fit("simulated_baseline", tmp_path / "single", *EXACT, data, f"--seed_everything={seed}")
        assert_equal_runs(runs[single.name], single)


@pytest.mark.slow
def test_interrupted_command_resumes(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uninterrupted = run_multirun("simulated_baseline", tmp_path / "uninterrupted", [{}], *EXACT, data, seeds=[1, 2])

    class InterruptingCheckpoint(training.LastCheckpoint):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self._stop_requested = trainer.current_epoch == 1

    with monkeypatch.context() as patch:
        patch.setattr(training, "LastCheckpoint", InterruptingCheckpoint)
        with pytest.raises(TrainingInterrupted, match="run the same command again to resume it"):
            run_multirun("simulated_baseline", tmp_path / "resumed", [{}], *EXACT, data, seeds=[1, 2])
    resumed = run_multirun("simulated_baseline", tmp_path / "resumed", [{}], *EXACT, data, seeds=[1, 2])
    for name, run_dir in uninterrupted.items():
        assert_equal_runs(resumed[name], run_dir)
        # Lightning restores weights before it converts them to float64.
        torch.testing.assert_close(
            weights(resumed[name], "best.ckpt"), weights(run_dir, "best.ckpt"), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{a: 1}", "not a list of mappings"),
        ("[]", "not a list of mappings"),
        ("[1]", "not a list of mappings"),
        ("[", "cannot read"),
    ],
)
def test_invalid_overrides_raise(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "overrides.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        run_command(["multirun", str(experiment("simulated_baseline")), f"--overrides={file}"])


def test_missing_overrides_file_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the overrides"):
        run_command(["multirun", str(experiment("simulated_baseline")), f"--overrides={tmp_path / 'none.yaml'}"])


@pytest.mark.parametrize("option", ["--seeds=[]", "--max_parallel=0"])
def test_empty_seeds_or_stack_raise(option: str) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        run_command(["multirun", str(experiment("simulated_baseline")), option])


def test_interrupted_stack_of_version_0_1_raises(tmp_path: Path) -> None:
    checkpoint = tmp_path / "many" / "0123abcd" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(
        ConfigError, match=r"many contains interrupted stacked training of version 0\.1, .* delete"
    ) as error:
        run_command(["multirun", str(experiment("simulated_baseline")), f"--output={tmp_path}", "--stack=true"])
    assert "\n" not in str(error.value)
