from dataclasses import replace

import pytest
import torch
from helpers.sessions import batch_of, session_of
from torch import nn

from blend_pl.data.batch import Batch
from blend_pl.distillation import HardLoss, MaskedReconstruction, MixedObjective
from blend_pl.likelihoods import Poisson
from blend_pl.models import Encoding


class Lookup(nn.Module):
    """A model with a parameter as prediction, and an optional penalty."""

    def __init__(self, seed: int, penalty: bool = False) -> None:
        super().__init__()
        self.penalty = nn.Parameter(torch.arange(6.0)) if penalty else None
        self.prediction = nn.Parameter(torch.randn(6, 7, 5, generator=torch.Generator().manual_seed(seed)))
        self.batches: list[Batch] = []

    def encode(self, batch: Batch) -> Encoding:
        self.batches.append(batch)
        return Encoding(self.prediction * 1.0, penalty=self.penalty)


@pytest.fixture
def batch() -> Batch:
    return batch_of(session_of())


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.rand(6, 7, 5, generator=torch.Generator().manual_seed(0)) < 0.4


def test_reconstruction_is_mean_over_labels(batch: Batch, labels: torch.Tensor) -> None:
    encoding = Lookup(0).encode(batch)
    entries = (encoding.prediction.exp() - batch.target * encoding.prediction)[labels]
    terms = MaskedReconstruction(Poisson())(encoding, labels, batch)
    torch.testing.assert_close(terms["mtm"], entries.mean())
    assert terms["loss"] is terms["mtm"]


def test_reconstruction_does_not_depend_on_other_entries(batch: Batch, labels: torch.Tensor) -> None:
    student = Lookup(0)
    MaskedReconstruction(Poisson())(student.encode(batch), labels, batch)["loss"].backward()
    assert student.prediction.grad is not None
    assert not student.prediction.grad[~labels].any()
    assert student.prediction.grad[labels].all()


def test_penalty_is_added_to_the_reconstruction(batch: Batch, labels: torch.Tensor) -> None:
    student, plain = Lookup(0, penalty=True), Lookup(0)
    terms = MaskedReconstruction(Poisson())(student.encode(batch), labels, batch)
    alone = MaskedReconstruction(Poisson())(plain.encode(batch), labels, batch)
    assert terms.keys() == {"loss", "mtm", "penalty"}
    assert alone.keys() == {"loss", "mtm"}
    assert torch.equal(terms["mtm"], alone["mtm"])
    assert terms["penalty"].item() == pytest.approx(2.5)
    assert terms["loss"].item() == pytest.approx(terms["mtm"].item() + 2.5)
    terms["loss"].backward()
    assert student.penalty is not None
    torch.testing.assert_close(student.penalty.grad, torch.full((6,), 1 / 6))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_weights_penalty_and_reconstruction(batch: Batch, labels: torch.Tensor, alpha: float) -> None:
    student, teacher = Lookup(0, penalty=True), Lookup(1, penalty=True)
    terms = MixedObjective(MaskedReconstruction(Poisson()), HardLoss(), teacher.encode, alpha)(
        student.encode(batch), labels, batch
    )
    assert terms.keys() == {"loss", "mtm", "penalty", "distillation"}
    expected = alpha * (terms["mtm"] + terms["penalty"]) + (1 - alpha) * terms["distillation"]
    torch.testing.assert_close(terms["loss"], expected)
    terms["loss"].backward()
    assert student.penalty is not None
    torch.testing.assert_close(student.penalty.grad, torch.full((6,), alpha / 6))
    assert teacher.penalty is not None
    assert teacher.penalty.grad is None


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_alpha_mixes_reconstruction_and_distillation(batch: Batch, labels: torch.Tensor, alpha: float) -> None:
    student, teacher, loss = Lookup(0), Lookup(1), HardLoss()
    loss.fit_scale(teacher.encode(batch))
    objective = MixedObjective(MaskedReconstruction(Poisson()), loss, teacher.encode, alpha)
    terms = objective(student.encode(batch), labels, batch)
    mtm = MaskedReconstruction(Poisson())(student.encode(batch), labels, batch)["mtm"]
    distance = (student.prediction - teacher.prediction).square().mean() / loss.scale
    torch.testing.assert_close(terms["mtm"], mtm)
    torch.testing.assert_close(terms["distillation"], distance)
    torch.testing.assert_close(terms["loss"], alpha * mtm + (1 - alpha) * distance)


def test_alpha_of_one_equals_reconstruction_only(batch: Batch, labels: torch.Tensor) -> None:
    mixed, alone = Lookup(0), Lookup(0)
    reconstruction = MaskedReconstruction(Poisson())
    objective = MixedObjective(reconstruction, HardLoss(), Lookup(1).encode, 1.0)
    first = objective(mixed.encode(batch), labels, batch)["loss"]
    second = reconstruction(alone.encode(batch), labels, batch)["loss"]
    first.backward()
    second.backward()
    assert torch.equal(first, second)
    assert mixed.prediction.grad is not None
    assert alone.prediction.grad is not None
    assert torch.equal(mixed.prediction.grad, alone.prediction.grad)


def test_teacher_is_not_a_submodule(batch: Batch, labels: torch.Tensor) -> None:
    student, teacher = Lookup(0), Lookup(1)
    objective = MixedObjective(MaskedReconstruction(Poisson()), HardLoss(), teacher.encode, 0.5)
    objective(student.encode(batch), labels, batch)["loss"].backward()
    assert teacher.prediction.grad is None
    assert student.prediction.grad is not None
    assert list(objective.parameters()) == []
    assert set(objective.state_dict()) == {"loss.scale"}


def test_teacher_receives_masked_batch_and_behavior(batch: Batch, labels: torch.Tensor) -> None:
    teacher = Lookup(1)
    objective = MixedObjective(MaskedReconstruction(Poisson()), HardLoss(), teacher.encode, 0.5)
    objective(Lookup(0).encode(batch), labels, batch)
    (received,) = teacher.batches
    assert received is batch
    assert received.privileged is not None


def test_trials_without_targets_are_not_distilled(batch: Batch, labels: torch.Tensor) -> None:
    student = Lookup(0)
    targets = torch.randn(6, 7, 5, generator=torch.Generator().manual_seed(1))
    targets[2:4] = torch.nan
    objective = MixedObjective(MaskedReconstruction(Poisson()), HardLoss(), Lookup(2).encode, 0.0)
    terms = objective(student.encode(batch), labels, replace(batch, teacher_prediction=targets))
    taught = torch.tensor([0, 1, 4, 5])
    expected = HardLoss()(Encoding(student.prediction[taught]), Encoding(targets[taught])).sum() / 6
    torch.testing.assert_close(terms["distillation"], expected)
    terms["loss"].backward()
    assert student.prediction.grad is not None
    assert not student.prediction.grad[2:4].any()
    assert student.prediction.grad[taught].all()
