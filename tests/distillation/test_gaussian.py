from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from blend_pl.distillation import GaussianSoftLoss
from blend_pl.errors import TeacherError
from blend_pl.models import Encoding

SHAPE = (6, 8, 5)


def encode(seed: int, trials: int = 6) -> Encoding:
    generator = torch.Generator().manual_seed(seed)
    prediction, log_variance = torch.randn(2, trials, *SHAPE[1:], generator=generator).unbind()
    return Encoding(prediction + torch.arange(5), log_variance=log_variance - 1)


def normal(encoding: Encoding) -> Normal:
    assert encoding.log_variance is not None
    return Normal(encoding.prediction, (0.5 * encoding.log_variance).exp())


def test_distance_is_kl_divergence() -> None:
    student, teacher = encode(0), encode(1)
    expected = kl_divergence(normal(teacher), normal(student)).mean((1, 2))
    torch.testing.assert_close(GaussianSoftLoss().distance(student, teacher), expected)


def test_distance_of_copy_is_zero_and_minimal() -> None:
    teacher = encode(1)
    torch.testing.assert_close(GaussianSoftLoss()(teacher, teacher), torch.zeros(6))
    assert (GaussianSoftLoss()(encode(2), teacher) > 0).all()


def test_marginal_gaussian_has_distance_one() -> None:
    teacher = encode(1, trials=50)
    assert teacher.log_variance is not None
    loss = GaussianSoftLoss()
    loss.fit_scale(teacher)
    mean = teacher.prediction.mean((0, 1))
    total = teacher.log_variance.exp().mean((0, 1)) + teacher.prediction.var((0, 1), correction=0)
    shape = teacher.prediction.shape
    ignorant = Encoding(mean.expand(shape), log_variance=total.log().expand(shape))
    torch.testing.assert_close(loss(ignorant, teacher).mean(), torch.tensor(1.0))
    # No other constant Gaussian has a smaller distance.
    for shift in (-0.2, 0.2):
        assert loss(replace(ignorant, log_variance=ignorant.log_variance + shift), teacher).mean() > 1
        assert loss(replace(ignorant, prediction=ignorant.prediction + shift), teacher).mean() > 1


def test_missing_variance_raises() -> None:
    student, teacher = encode(0), encode(1)
    for pair in ((replace(student, log_variance=None), teacher), (student, replace(teacher, log_variance=None))):
        with pytest.raises(TeacherError, match=r"model\.backbone\.variance"):
            GaussianSoftLoss().check_compatible(*pair)
    GaussianSoftLoss().check_compatible(student, teacher)
