"""Students and teachers on calcium recordings."""

from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from helpers.calcium import NETWORK, neuprint, neuprint_teacher, tiny_calcium
from helpers.systems import save, trainer

from blend_pl.callbacks import Distillation
from blend_pl.data.calcium import BugeonDataModule, CalciumBatch
from blend_pl.distillation import CorrelationLoss, DistillationLoss, FeatureLoss, GaussianSoftLoss, HardLoss
from blend_pl.likelihoods import Gaussian
from blend_pl.systems import Student, Teacher


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> BugeonDataModule:
    return tiny_calcium(tmp_path_factory.mktemp("calcium"))


@pytest.fixture
def batch(module: BugeonDataModule) -> CalciumBatch:
    return next(iter(module.train_dataloader()))


def with_nan_privileged(batch: CalciumBatch) -> CalciumBatch:
    assert batch.privileged is not None
    return replace(batch, privileged=torch.full_like(batch.privileged, torch.nan))


def test_student_ignores_behavior(module: BugeonDataModule, batch: CalciumBatch) -> None:
    student = neuprint(Student, module.signature)
    for changed in (with_nan_privileged(batch), batch.without_privileged()):
        assert torch.equal(student.predict_step(batch, 0), student.predict_step(changed, 0))
        terms = [student.objective(student.encode(b), *_labels(student, b)) for b in (batch, changed)]
        gradients = [torch.autograd.grad(term["loss"], [*student.parameters()]) for term in terms]
        assert torch.equal(terms[0]["loss"], terms[1]["loss"])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def _labels(student: Student, batch: CalciumBatch) -> tuple[torch.Tensor, CalciumBatch]:
    masked, labels = student.mask(batch, 5, 0)
    assert isinstance(masked, CalciumBatch)
    return labels, masked


def test_teacher_depends_on_behavior(module: BugeonDataModule, batch: CalciumBatch) -> None:
    teacher = neuprint_teacher(module.signature)
    assert batch.privileged is not None
    other = replace(batch, privileged=batch.privileged + 1)
    assert not torch.allclose(teacher.predict_step(batch, 0), teacher.predict_step(other, 0))


def test_missing_state_is_learned(module: BugeonDataModule, batch: CalciumBatch) -> None:
    teacher = neuprint_teacher(module.signature)
    assert batch.privileged is not None
    gaps = replace(with_nan_privileged(batch), privileged_valid=torch.zeros_like(batch.privileged, dtype=torch.bool))
    teacher.encode(gaps).prediction.sum().backward()
    assert teacher.missing.grad is not None
    assert teacher.missing.grad.all()


def test_shares_of_masked_zeroed_and_unchanged_entries(module: BugeonDataModule, batch: CalciumBatch) -> None:
    student = neuprint(Student, module.signature)
    hidden, zero, unchanged = [], [], []
    for seed in range(30):
        masked, labels = student.mask(batch, seed, 0)
        hidden.append(labels.float().mean())
        zero.append((masked.observed[labels] == 0).float().mean())
        unchanged.append((masked.observed[labels] == batch.observed[labels]).float().mean())
        assert torch.equal(masked.observed[~labels], batch.observed[~labels])
        assert torch.equal(masked.population_context, batch.population_context)  # type: ignore[attr-defined]
    shares = [float(torch.stack(values).mean()) for values in (hidden, zero, unchanged)]
    # One cell in forty is constant: its entries are zero before and after masking.
    assert shares == pytest.approx([0.25, 0.8, 0.1], abs=0.04)


def test_invalid_frames_are_no_labels(module: BugeonDataModule, batch: CalciumBatch) -> None:
    student = neuprint(Student, module.signature)
    valid = batch.target_valid.clone()
    valid[:, :10] = False
    _, labels = student.mask(replace(batch, target_valid=valid), 0, 0)
    assert not labels[:, :10].any()
    assert labels[:, 10:].any()


def test_training_lowers_the_loss(module: BugeonDataModule, tmp_path: Path) -> None:
    losses: list[float] = []

    class Record(L.Callback):
        def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            losses.append(float(trainer.callback_metrics["val/loss"]))

    L.seed_everything(0)
    trainer(tmp_path, 30, Record()).fit(neuprint(), datamodule=module)
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize("loss", [HardLoss, FeatureLoss, CorrelationLoss, GaussianSoftLoss])
def test_every_loss_changes_the_student(module: BugeonDataModule, tmp_path: Path, loss: type[DistillationLoss]) -> None:
    """Through the callback and the losses that spikes have, and down to the embeddings."""
    gaussian = loss is GaussianSoftLoss
    network = {**NETWORK, "variance": gaussian}
    likelihood = {"class_path": "blend_pl.likelihoods.Gaussian" if gaussian else "blend_pl.likelihoods.UnitGaussian"}
    parameters = {
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "_class_path": "blend_pl.systems.Teacher",
        "backbone": {"class_path": "blend_pl.models.NeuPRINT", "init_args": network},
        "likelihood": likelihood,
    }
    teacher = neuprint(Teacher, module.signature, variance=gaussian)
    path = save(teacher, tmp_path / "teacher.ckpt", hyper_parameters=parameters)
    moved = {}
    for alpha in (0.2, 1.0):
        L.seed_everything(0)
        student = neuprint(variance=gaussian)
        if gaussian:
            student.likelihood = student.objective.likelihood = Gaussian()  # type: ignore[union-attr]
        callback = Distillation(str(path), loss(), alpha)
        fitting = trainer(tmp_path, 2, callback)
        fitting.fit(student, datamodule=module)
        assert float(fitting.callback_metrics["train/distillation"]) > 0
        moved[alpha] = student.backbone.embedding.weight.detach().clone()
    assert (moved[0.2] - moved[1.0]).abs().max() > 1e-3


def test_empty_batch_does_not_change_the_validation_loss(module: BugeonDataModule, batch: CalciumBatch) -> None:
    """Batches are empty if there are more processes than windows."""
    student = neuprint(Student, module.signature)
    no_rows = torch.arange(0)
    fields = vars(batch)
    per_window = (
        "observed",
        "target",
        "target_valid",
        "index",
        "global_rows",
        "privileged",
        "privileged_valid",
        "population_context",
    )
    empty = CalciumBatch(**{**fields, **{name: fields[name][no_rows] for name in per_window}})
    assert student.validation_step(empty, 0).shape == (0, *batch.target.shape[1:])
    student.validation_step(batch, 0)
    assert student.validation_loss.compute().isfinite()
