from dataclasses import replace
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from helpers.sessions import batch_of, session_of, tiny_module
from helpers.systems import trainer

from blend_pl.data.batch import Batch
from blend_pl.data.nlb.session import session_signature
from blend_pl.errors import ConfigError, TeacherError
from blend_pl.likelihoods import UnitGaussian
from blend_pl.masking import Masking
from blend_pl.models import PopulationGenerator
from blend_pl.systems import GenerativeTeacher
from blend_pl.systems.checkpoint import load_system


@pytest.fixture
def batch() -> Batch:
    return batch_of(session_of())


@pytest.fixture
def teacher() -> GenerativeTeacher:
    torch.manual_seed(0)
    system = GenerativeTeacher(partial(PopulationGenerator, hidden=4, rank=3))
    system.build(session_signature("tiny", session_of()))
    system.backbone.loading.data.mul_(5)
    return system.eval()


def with_other_unobserved_counts(batch: Batch) -> Batch:
    target = batch.target.clone()
    target[:, 5:] += 3
    target[:, :, 3:] += 3
    return replace(batch, target=target)


def test_evaluation_ignores_heldout_neurons_and_forward_bins(teacher: GenerativeTeacher, batch: Batch) -> None:
    torch.testing.assert_close(
        teacher.predict_step(batch, 0), teacher.predict_step(with_other_unobserved_counts(batch), 0)
    )


def test_lessons_use_all_activity_and_ignore_masks(teacher: GenerativeTeacher, batch: Batch) -> None:
    taught = teacher.teach(batch).prediction
    assert not torch.allclose(taught, teacher.teach(with_other_unobserved_counts(batch)).prediction)
    masked = replace(batch, observed=torch.zeros_like(batch.observed))
    torch.testing.assert_close(taught, teacher.teach(masked).prediction)


def test_teacher_without_behavior_ignores_behavior(batch: Batch) -> None:
    torch.manual_seed(0)
    system = GenerativeTeacher(partial(PopulationGenerator, hidden=4, rank=3), use_behavior=False)
    system.build(session_signature("tiny", session_of()))
    assert batch.privileged is not None
    assert batch.privileged_valid is not None
    other = replace(batch, privileged=batch.privileged + 1)
    torch.testing.assert_close(system.eval().teach(batch).prediction, system.teach(other).prediction)
    samples = [
        system.sample(trial, batch.privileged_valid, torch.Generator().manual_seed(0))
        for trial in (batch.privileged, batch.privileged + 1)
    ]
    torch.testing.assert_close(*samples)


def test_trials_without_behavior_are_neither_fitted_nor_taught(teacher: GenerativeTeacher, batch: Batch) -> None:
    assert batch.privileged_valid is not None
    behavior_valid = batch.privileged_valid.clone()
    behavior_valid[:2] = False
    partial_batch = replace(batch, privileged_valid=behavior_valid)
    taught = teacher.teach(partial_batch).prediction
    assert taught[:2].isnan().all()
    torch.testing.assert_close(taught[2:], teacher.teach(batch).prediction[2:])

    target = batch.target.clone()
    target[:2] += 5
    teacher.backbone.drive.eval()
    losses = []
    for trained in (partial_batch, replace(partial_batch, target=target)):
        teacher.zero_grad()
        losses.append(teacher.training_step(trained, 0))
        losses[-1].backward()
    assert torch.equal(losses[0], losses[1])
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in teacher.parameters())


def test_masked_entries_are_unobserved_in_validation(teacher: GenerativeTeacher) -> None:
    batch = batch_of(session_of(forward=0, heldout=0))
    torch.manual_seed(0)
    system = GenerativeTeacher(partial(PopulationGenerator, hidden=4, rank=3), Masking(0.5, "full"))
    system.build(session_signature("tiny", session_of(forward=0, heldout=0)))
    masked, loss_mask = system.eval().mask_for_validation(batch, 0)
    assert 0.2 < float(loss_mask.float().mean()) < 0.8
    other = replace(masked, observed=torch.where(loss_mask, 9.0, masked.observed))
    torch.testing.assert_close(system.encode(masked).prediction, system.encode(other).prediction)


def test_batch_without_behavior_raises(teacher: GenerativeTeacher, batch: Batch) -> None:
    with pytest.raises(TeacherError, match="needs behavior"):
        teacher.predict_step(batch.without_privileged(), 0)


def test_session_without_behavior_raises() -> None:
    signature = replace(session_signature("tiny", session_of()), n_privileged=0)
    with pytest.raises(TeacherError, match="needs behavior"):
        GenerativeTeacher().build(signature)


def test_other_likelihoods_raise() -> None:
    with pytest.raises(ConfigError, match="UnitGaussian"):
        GenerativeTeacher(likelihood=UnitGaussian())


def test_samples_repeat_with_their_seed(teacher: GenerativeTeacher, batch: Batch) -> None:
    assert batch.privileged is not None
    assert batch.privileged_valid is not None
    first, second, other = (
        teacher.sample(batch.privileged, batch.privileged_valid, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_improves_the_prediction_of_new_trials(tiny_root: Path, tmp_path: Path, precision: str) -> None:
    module = tiny_module(tiny_root, batch_size=24)
    L.seed_everything(0)
    system = GenerativeTeacher(
        partial(PopulationGenerator, hidden=8, rank=4), optimizer=partial(torch.optim.AdamW, lr=0.02)
    )
    system.build_for(module)
    validated = next(iter(module.val_dataloader()))

    def loss() -> float:
        system.eval()
        with torch.no_grad():
            return float(system.predict_with_loss(*system.mask_for_validation(validated, 0))[1].mean())

    before = loss()
    trainer(tmp_path, 30, precision=precision).fit(system, datamodule=module)
    assert loss() < before - 0.005


def test_checkpoint_restores_predictions(tiny_root: Path, tmp_path: Path) -> None:
    module = tiny_module(tiny_root)
    system = GenerativeTeacher(PopulationGenerator)
    fitting = trainer(tmp_path, 1)
    fitting.fit(system, datamodule=module)
    fitting.save_checkpoint(tmp_path / "last.ckpt")
    batch = next(iter(module.predict_dataloader()))
    restored = load_system(tmp_path / "last.ckpt")
    assert isinstance(restored, GenerativeTeacher)
    torch.testing.assert_close(restored.predict_step(batch, 0), system.eval().predict_step(batch, 0))
