from dataclasses import replace

import pytest
import torch
from helpers.sessions import batch_of, session_of
from helpers.systems import make_teacher

from blend_pl.data.batch import Batch
from blend_pl.data.nlb.session import session_signature
from blend_pl.errors import TeacherError
from blend_pl.masking import Masking
from blend_pl.systems import Teacher


@pytest.fixture
def batch() -> Batch:
    return batch_of(session_of())


@pytest.fixture
def teacher() -> Teacher:
    torch.manual_seed(0)
    return make_teacher(session_signature("tiny", session_of())).eval()


def refused(error: pytest.ExceptionInfo) -> None:
    assert "needs behavior" in str(error.value)
    assert "\n" not in str(error.value)


def test_predictions_depend_on_behavior(teacher: Teacher, batch: Batch) -> None:
    assert batch.privileged is not None
    other = replace(batch, privileged=batch.privileged + 1)
    assert not torch.allclose(teacher.predict_step(batch, 0), teacher.predict_step(other, 0))


def test_predictions_depend_on_behavior_of_forward_bins(teacher: Teacher, batch: Batch) -> None:
    assert batch.privileged is not None
    other = batch.privileged.clone()
    other[:, 5:] += 1
    assert not torch.allclose(teacher.predict_step(batch, 0), teacher.predict_step(replace(batch, privileged=other), 0))


@pytest.mark.parametrize("step", ["predict_step", "test_step", "encode"])
def test_batch_without_behavior_raises(teacher: Teacher, batch: Batch, step: str) -> None:
    arguments = [batch.without_privileged()] if step == "encode" else [batch.without_privileged(), 0]
    with pytest.raises(TeacherError) as raised:
        getattr(teacher, step)(*arguments)
    refused(raised)


@pytest.mark.parametrize("step", ["predict_step", "test_step"])
def test_batch_with_missing_behavior_raises(teacher: Teacher, batch: Batch, step: str) -> None:
    session = session_of()
    session.behavior.fill_(torch.nan)
    with pytest.raises(TeacherError) as raised:
        getattr(teacher, step)(batch_of(session), 0)
    refused(raised)


def test_session_without_behavior_raises() -> None:
    with pytest.raises(TeacherError) as raised:
        make_teacher(replace(session_signature("tiny", session_of()), n_privileged=0))
    refused(raised)


def test_learned_vector_replaces_missing_behavior(teacher: Teacher, batch: Batch) -> None:
    assert batch.privileged is not None
    valid = torch.rand(batch.privileged.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    gaps = replace(batch, privileged=batch.privileged.where(valid, torch.nan), privileged_valid=valid)
    before = teacher.predict_step(gaps, 0)
    assert before.isfinite().all()
    with torch.no_grad():
        teacher.missing.copy_(torch.tensor([0.5, -2.0]))
    filled = replace(batch, privileged=batch.privileged.where(valid, teacher.missing.detach()))
    after = teacher.predict_step(gaps, 0)
    assert torch.equal(after, teacher.predict_step(filled, 0))
    assert not torch.allclose(after, before)
    after.sum().backward()
    assert teacher.missing.grad is not None
    assert teacher.missing.grad.all()


def test_second_build_keeps_the_parameters(teacher: Teacher) -> None:
    before = dict(teacher.named_parameters())
    teacher.build(session_signature("tiny", session_of()))
    assert all(parameter is before[name] for name, parameter in teacher.named_parameters())


def test_behavior_is_dropped_in_training_only(batch: Batch) -> None:
    signature = session_signature("tiny", session_of())
    for ratio, hidden in ((0.0, 0), (1.0, len(batch))):
        teacher = make_teacher(signature, masking=Masking(privileged_dropout=ratio))
        masked, _ = teacher.mask(batch, seed=1, epoch=0)
        assert int((~masked.privileged_valid).all((1, 2)).sum()) == hidden
        assert torch.equal(masked.observed, make_teacher(signature).mask(batch, 1, 0)[0].observed)
    other = replace(batch, privileged=batch.privileged + 1)
    assert not torch.equal(teacher.eval().predict_step(batch, 0), teacher.predict_step(other, 0))
