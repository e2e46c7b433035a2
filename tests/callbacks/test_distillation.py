import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from helpers.systems import make, make_teacher, save, trainer

from blend_pl.callbacks import Distillation
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.distillation import (
    CorrelationLoss,
    DistillationLoss,
    FeatureLoss,
    HardLoss,
    LinearSchedule,
    SoftLoss,
    SyntheticTrials,
)
from blend_pl.distillation.true_rates import TRUE_RATES
from blend_pl.errors import TeacherError
from blend_pl.models import PopulationGenerator
from blend_pl.systems import GenerativeTeacher, Student
from blend_pl.systems.checkpoint import load_system

EPOCHS = 6
LOSSES = pytest.mark.parametrize("loss", [HardLoss, SoftLoss, FeatureLoss, CorrelationLoss])


class Record(L.Callback):
    """Records a term of the loss in every step, and its alpha."""

    def __init__(self, term: str = "train/distillation") -> None:
        self.term = term
        self.values: list[float] = []
        self.alphas: list[float] = []
        self.training: list[bool] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.values.append(trainer.callback_metrics[self.term].item())
        objective: Any = pl_module.objective
        self.alphas.append(float(getattr(objective, "alpha", 1.0)))
        callback = next((c for c in trainer.callbacks if isinstance(c, Distillation)), None)  # type: ignore[attr-defined]
        if callback is not None:
            modules = (module for teacher in callback.teachers for module in teacher.modules())
            self.training.append(any(module.training for module in modules))


@pytest.fixture(scope="module")
def teacher(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a teacher that is trained a little on the tiny session."""
    from helpers.sessions import tiny_module

    folder = tmp_path_factory.mktemp("teacher")
    L.seed_everything(0)
    system = make_teacher(optimizer=partial(torch.optim.AdamW, lr=5e-3))
    trainer(folder, 10).fit(system, datamodule=tiny_module(tiny_root))
    return save(system, folder / "best.ckpt")


def train(
    module: NLBDataModule, folder: Path, *callbacks: L.Callback, epochs: int = EPOCHS, seed: int = 1, rate: float = 5e-3
) -> tuple[Student, L.Trainer]:
    L.seed_everything(seed)
    student = make(optimizer=partial(torch.optim.AdamW, lr=rate))
    fitting = trainer(folder, epochs, *callbacks)
    fitting.fit(student, datamodule=copy.copy(module))
    return student, fitting


def weights(student: Student) -> dict[str, torch.Tensor]:
    return student.backbone.state_dict()


def test_target_of_several_teachers_is_their_mean_rate(tiny: NLBDataModule, teacher: Path, tmp_path: Path) -> None:
    other = save(make_teacher(tiny.signature), tmp_path / "other.ckpt")
    callback = Distillation([str(teacher), str(other)])
    train(tiny, tmp_path, callback, epochs=1)
    batch = next(iter(tiny.predict_dataloader()))
    with torch.no_grad():
        rates = [load_system(path).predict_step(batch, 0) for path in (teacher, other)]
        torch.testing.assert_close(callback.teacher_ensemble(batch).prediction.exp(), (rates[0] + rates[1]) / 2)
    assert (rates[0] - rates[1]).abs().max() > 1e-3
    with pytest.raises(TeacherError, match="single teacher"):
        train(tiny, tmp_path, Distillation([str(teacher), str(other)], FeatureLoss()), epochs=1)


@LOSSES
def test_distillation_loss_decreases_and_changes_the_student(
    tiny: NLBDataModule, teacher: Path, tmp_path: Path, loss: type[DistillationLoss]
) -> None:
    record = Record()
    mixed, _ = train(tiny, tmp_path, Distillation(str(teacher), loss(), 0.2), record, epochs=12)
    first, last = torch.tensor(record.values[:3]).mean(), torch.tensor(record.values[-3:]).mean()
    assert min(record.values) > 0
    assert last < 0.8 * first
    baseline, _ = train(tiny, tmp_path, Distillation(str(teacher), loss(), 1.0), epochs=12)
    moved = torch.cat([(weights(mixed)[name] - value).flatten() for name, value in weights(baseline).items()])
    assert moved.norm() > 0.1


def test_feature_distillation_lowers_the_distance_of_layers(tiny: NLBDataModule, teacher: Path, tmp_path: Path) -> None:
    """With an optimal linear projector, the student's layer explains more variance of the teacher's layer."""
    (batch,) = tiny.calibration_dataloader()

    def unexplained(alpha: float) -> float:
        callback = Distillation(str(teacher), FeatureLoss(), alpha)
        student, _ = train(tiny, tmp_path, callback, epochs=40, rate=2e-2)
        assert len(callback.teachers) == 1
        with torch.no_grad():
            features, target = (
                s.eval().encode(batch).features[-1].flatten(0, 1) for s in (student, callback.teachers[0])
            )
        features, target = features - features.mean(0), target - target.mean(0)
        residual = target - features @ torch.linalg.lstsq(features, target).solution
        return float(residual.square().mean() / target.square().mean())

    assert unexplained(0.1) < 0.85 * unexplained(1.0)


@LOSSES
def test_alpha_of_one_trains_the_baseline_bit_by_bit(
    tiny: NLBDataModule, teacher: Path, tmp_path: Path, loss: type[DistillationLoss]
) -> None:
    baseline, _ = train(tiny, tmp_path, epochs=3)
    student, _ = train(tiny, tmp_path, Distillation(str(teacher), loss(), 1.0), epochs=3)
    assert all(torch.equal(value, weights(student)[name]) for name, value in weights(baseline).items())


def test_teacher_is_frozen_and_not_in_the_checkpoint(tiny: NLBDataModule, teacher: Path, tmp_path: Path) -> None:
    callback, record = Distillation(str(teacher), FeatureLoss()), Record()
    student, fitting = train(tiny, tmp_path, callback, record, epochs=2)
    assert len(callback.teachers) == 1
    before = torch.load(teacher, weights_only=True)["state_dict"]
    assert all(torch.equal(value, before[name]) for name, value in callback.teachers[0].state_dict().items())
    assert not any(record.training)
    assert not any(
        parameter.requires_grad or parameter.grad is not None for parameter in callback.teachers[0].parameters()
    )
    teacher_parameters = {id(tensor) for tensor in callback.teachers[0].parameters()}
    assert teacher_parameters.isdisjoint(id(parameter) for parameter in student.parameters())
    fitting.save_checkpoint(tmp_path / "student.ckpt")
    stored = torch.load(tmp_path / "student.ckpt", weights_only=True)
    extra = {name for name in stored["state_dict"] if not name.startswith("backbone.")}
    layers = {f"objective.loss.projectors.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")}
    assert extra == {*layers, "objective.loss.scale"}
    shapes = {tuple(value.shape) for value in stored["state_dict"].values()}
    assert shapes == {tuple(value.shape) for value in student.state_dict().values()}


def test_projectors_are_trained(tiny: NLBDataModule, teacher: Path, tmp_path: Path) -> None:
    def projectors(epochs: int) -> torch.Tensor:
        callback = Distillation(str(teacher), FeatureLoss())
        train(tiny, tmp_path, callback, epochs=epochs)
        return torch.cat([parameter.detach().flatten() for parameter in callback.loss.parameters()])

    assert (projectors(1) - projectors(3)).norm() > 0.01


@LOSSES
def test_scale_is_fitted_to_the_teacher_on_training_trials(
    tiny: NLBDataModule, teacher: Path, tmp_path: Path, loss: type[DistillationLoss]
) -> None:
    callback = Distillation(str(teacher), loss())
    train(tiny, tmp_path, callback, epochs=1)
    assert len(callback.teachers) == 1
    expected = copy.deepcopy(callback.loss)
    (batch,) = tiny.calibration_dataloader()
    with torch.no_grad():
        expected.fit_scale(callback.teachers[0].encode(batch))
    torch.testing.assert_close(callback.loss.scale, expected.scale)
    assert not torch.equal(expected.scale, torch.ones_like(expected.scale))


def test_alpha_follows_its_schedule(tiny: NLBDataModule, teacher: Path, tmp_path: Path) -> None:
    record = Record()
    train(tiny, tmp_path, Distillation(str(teacher), alpha=LinearSchedule(1.0, 0.0, 0.25, 0.75)), record, epochs=4)
    # Three batches per epoch: 12 steps; alpha is constant in the first 3 and the last 3.
    assert record.alphas == pytest.approx([1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0, 0])


def test_any_system_can_teach(tiny: NLBDataModule, tmp_path: Path) -> None:
    """As in the control `self`: the teacher is a student."""
    baseline, _ = train(tiny, tmp_path, epochs=2, seed=7)
    record = Record()
    train(tiny, tmp_path, Distillation(str(save(baseline, tmp_path / "baseline.ckpt")), HardLoss(), 0.2), record)
    assert record.values[-1] < record.values[0]


def set_up(
    path: Path, module: NLBDataModule, stage: str = "fit", first: bool = True, sent: bytes | None = None, **changes: Any
) -> Distillation:
    """Returns a callback after setup on the first of several ranks, or on another that receives the bytes `sent`."""
    callback = Distillation(str(path))
    changed_data = SimpleNamespace(
        signature=replace(module.signature, **changes),
        digest=module.digest,
        calibration_dataloader=module.calibration_dataloader,
    )
    ranks = SimpleNamespace(broadcast=lambda content: content if first else sent)
    trainer: Any = SimpleNamespace(datamodule=changed_data, strategy=ranks, is_global_zero=first)
    callback.setup(trainer, make(Student), stage)
    return callback


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"name": "elsewhere"}, ["tiny (9 of 13", "elsewhere (9 of 13"]),
        ({"bin_ms": 5}, ["bins of 20 ms", "bins of 5 ms"]),
        ({"n_forward": 9}, ["35 + 10 bins", "35 + 9 bins"]),
        ({"n_heldin": 8}, ["9 of 13", "8 of 13"]),
        ({"unit_id": tuple(range(100, 113))}, ["other units"]),
    ],
)
def test_teacher_of_other_data_is_refused_with_both_sides(
    tiny: NLBDataModule, teacher: Path, changes: dict[str, Any], messages: list[str]
) -> None:
    with pytest.raises(TeacherError, match="train a teacher on the student's session") as raised:
        set_up(teacher, tiny, **changes)
    assert "\n" not in str(raised.value)
    assert all(text in str(raised.value) for text in messages)


def test_missing_teacher_is_refused(tiny: NLBDataModule, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="there is no checkpoint"):
        set_up(tmp_path / "gone.ckpt", tiny)


def test_one_rank_reads_the_teacher_for_all(tiny: NLBDataModule, teacher: Path, tmp_path: Path) -> None:
    missing = tmp_path / "gone.ckpt"
    (one,) = set_up(teacher, tiny).teachers
    (other,) = set_up(missing, tiny, first=False, sent=teacher.read_bytes()).teachers
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    with pytest.raises(TeacherError, match="there is no checkpoint"):
        set_up(missing, tiny, first=False)
    with pytest.raises(TeacherError, match="damaged"):
        set_up(missing, tiny, first=False, sent=b"not a checkpoint")


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_teacher_is_not_loaded_without_training(tiny: NLBDataModule, tmp_path: Path, stage: str) -> None:
    assert set_up(tmp_path / "gone.ckpt", tiny, stage).teachers == []


def test_every_reference_to_a_teacher_gives_the_same_student(
    tiny: NLBDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make_teacher(optimizer=partial(torch.optim.AdamW, lr=5e-3))
    training = trainer(tmp_path, 2)
    training.fit(system, tiny)
    run = tmp_path / "runs" / "x"
    training.save_checkpoint(run / "checkpoints" / "best.ckpt")
    before = {name: value.clone() for name, value in system.state_dict().items()}
    references: list[Any] = [system, run / "checkpoints" / "best.ckpt", str(run), [system], [run, system]]
    students = [train(tiny, tmp_path, Distillation(reference), epochs=1)[0] for reference in references]
    first = weights(students[0])
    for student in students[:-1]:
        assert all(torch.equal(value, first[name]) for name, value in weights(student).items())
    for name, value in weights(students[-1]).items():
        torch.testing.assert_close(value, first[name], rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())
    assert all(parameter.requires_grad for parameter in system.parameters())
    assert system.trainer is training


def test_experiment_is_trained_once_as_a_teacher(
    tiny: NLBDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    saved = save(make_teacher(tiny.signature), tmp_path / "teacher.ckpt")

    def train_here(command: list[str]) -> int:
        commands.append(command)
        run = Path(command[command.index("--run_dir") + 1])
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "best.ckpt").write_bytes(saved.read_bytes())
        (run / "results.json").write_text("{}")
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("blend_pl.runs.teachers._run_subprocess", train_here)
    for _ in range(2):
        callback = Distillation("experiments/simulated_teacher.yaml")
        train(tiny, tmp_path, callback, epochs=1)
        assert len(callback.teachers) == 1
    (command,) = commands
    assert "fit" in command
    assert Path(command[command.index("--run_dir") + 1]).parts[:2] == ("runs", "simulated_teacher")


def test_untrained_teacher_raises(tiny: NLBDataModule, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="the teacher Teacher is not trained; call trainer"):
        train(tiny, tmp_path, Distillation(make_teacher()))


def test_repr_names_teachers_loss_and_alpha() -> None:
    text = repr(Distillation([make_teacher(), "runs/x"], FeatureLoss(), 0.2))
    assert text.startswith("Distillation(Teacher, runs/x; FeatureLoss, alpha ")
    assert "0.2" in text


@pytest.fixture(scope="module")
def generative_teacher(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> GenerativeTeacher:
    """A generative teacher that is trained a little on the tiny session."""
    from helpers.sessions import tiny_module

    L.seed_everything(0)
    system = GenerativeTeacher(
        partial(PopulationGenerator, hidden=4, rank=3), optimizer=partial(torch.optim.AdamW, lr=0.02)
    )
    trainer(tmp_path_factory.mktemp("generative"), 5).fit(system, datamodule=tiny_module(tiny_root, batch_size=24))
    return system


def test_student_learns_the_posterior_of_a_generative_teacher(
    generative_teacher: GenerativeTeacher, tiny: NLBDataModule, tmp_path: Path
) -> None:
    callback, record = Distillation(generative_teacher), Record()
    train(tiny, tmp_path, callback, record)
    assert record.values[-1] < record.values[0]
    batch = next(iter(tiny.calibration_dataloader()))
    assert callback.targets is not None
    with torch.no_grad():
        expected = callback.teachers[0].teach(batch).prediction
    torch.testing.assert_close(callback.targets[batch.index], expected)


def test_student_sees_synthetic_trials(
    generative_teacher: GenerativeTeacher, tiny: NLBDataModule, tmp_path: Path
) -> None:
    class Targets(L.Callback):
        def on_train_batch_end(
            self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            # Rates are no whole numbers, recorded counts are.
            fractions = [bool((trial != trial.round()).any()) for trial in batch.target]
            shares.append(sum(fractions) / len(fractions))

    shares: list[float] = []
    train(tiny, tmp_path, Distillation(generative_teacher, synthetic=SyntheticTrials(0.5)), Targets(), epochs=10)
    assert 0.3 < sum(shares) / len(shares) < 0.7


def test_synthetic_trials_of_another_teacher_raise(teacher: Path, tiny: NLBDataModule, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="GenerativeTeacher"):
        train(tiny, tmp_path, Distillation(teacher, synthetic=SyntheticTrials()))


def test_student_learns_the_true_rates_of_a_simulation(tiny: NLBDataModule, tmp_path: Path) -> None:
    callback, record = Distillation(TRUE_RATES), Record()
    train(tiny, tmp_path, callback, record)
    assert record.values[-1] < record.values[0]
    rates = tiny.true_rates("fit")
    assert rates is not None
    assert callback.targets is not None
    torch.testing.assert_close(callback.targets.exp(), rates, rtol=1e-4, atol=1e-6)


def test_student_sees_new_trials_of_the_simulated_population(tiny: NLBDataModule, tmp_path: Path) -> None:
    class Rates(L.Callback):
        def on_train_batch_end(
            self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            seen.append(batch.target)

    seen: list[torch.Tensor] = []
    train(tiny, tmp_path, Distillation(TRUE_RATES, synthetic=SyntheticTrials(1.0)), Rates(), epochs=4)
    targets = torch.cat(seen)
    assert len(targets.unique(dim=0)) > 0.9 * len(targets)
    rates = tiny.true_rates("fit")
    assert rates is not None
    torch.testing.assert_close(targets.mean((0, 1)), rates.mean((0, 1)), rtol=0.3, atol=0.01)


@pytest.mark.parametrize("synthetic", [None, SyntheticTrials()])
def test_true_rates_of_recorded_data_raise(synthetic: SyntheticTrials | None, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    module = NLBDataModule.from_arrays(generator.poisson(1.0, (40, 12, 8)), bin_ms=20)
    with pytest.raises(TeacherError, match="true rates"):
        train(module, tmp_path, Distillation(TRUE_RATES, synthetic=synthetic))
