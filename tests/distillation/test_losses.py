import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blend_pl.distillation import CorrelationLoss, DistillationLoss, FeatureLoss, HardLoss, SoftLoss
from blend_pl.errors import TeacherError
from blend_pl.models import Encoding

LOSSES: dict[str, type[DistillationLoss]] = {
    "hard": HardLoss,
    "soft": SoftLoss,
    "feature": FeatureLoss,
    "correlation": CorrelationLoss,
}
ALL = pytest.mark.parametrize("name", LOSSES)


def encode(
    trials: int = 6, bins: int = 8, neurons: int = 5, widths: tuple[int, ...] = (4, 3), seed: int = 0
) -> Encoding:
    generator = torch.Generator().manual_seed(seed)
    scale = 0.2 + torch.rand(neurons, generator=generator)
    prediction = torch.randn(trials, bins, neurons, generator=generator) * scale + torch.arange(neurons) - 2.0
    features = [3.0**i * torch.randn(trials, bins, width, generator=generator) + 1 for i, width in enumerate(widths)]
    return Encoding(prediction, features)


def built(name: str, student: Encoding, teacher: Encoding) -> DistillationLoss:
    torch.manual_seed(0)
    loss = LOSSES[name]()
    loss.check_compatible(student, teacher)
    loss.build(student, teacher)
    loss.fit_scale(teacher)
    return loss


def with_identity_projectors(loss: DistillationLoss) -> DistillationLoss:
    """Returns the loss with identity projectors."""
    for projector in getattr(loss, "projectors", []):
        torch.nn.init.eye_(projector.weight)
        torch.nn.init.zeros_(projector.bias)
    return loss


def mean_student(loss: DistillationLoss, teacher: Encoding) -> Encoding:
    """Returns a student that predicts the mean of the teacher; projectors map layers to the mean of teacher layers."""
    for projector, layer in zip(getattr(loss, "projectors", []), teacher.features, strict=False):
        torch.nn.init.zeros_(projector.weight)
        with torch.no_grad():
            projector.bias.copy_(layer.mean((0, 1)))
    return Encoding(teacher.prediction.mean((0, 1), keepdim=True).expand_as(teacher.prediction), teacher.features)


def repeat(encoding: Encoding, times: int, dim: int) -> Encoding:
    """Returns the encoding with its trials (0), bins (1) or neurons and features (2) tiled."""
    return Encoding(*(_tile(value, times, dim) for value in (encoding.prediction, encoding.features)))


def _tile(value: Tensor | list[Tensor], times: int, dim: int) -> Tensor | list[Tensor]:
    if isinstance(value, list):
        return [torch.cat([layer] * times, dim) for layer in value]
    return torch.cat([value] * times, dim)


@ALL
def test_loss_is_zero_only_for_copy(name: str) -> None:
    teacher = encode()
    loss = with_identity_projectors(built(name, teacher, teacher))
    torch.testing.assert_close(loss(teacher, teacher), torch.zeros(6), atol=1e-6, rtol=0)
    assert (loss(encode(seed=1), teacher) > 0.01).all()


@ALL
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), bins=st.integers(2, 9), neurons=st.integers(2, 7))
def test_loss_of_mean_prediction_is_one(name: str, seed: int, bins: int, neurons: int) -> None:
    teacher = encode(bins=bins, neurons=neurons, seed=seed)
    loss = built(name, teacher, teacher)
    assert loss(mean_student(loss, teacher), teacher).mean().item() == pytest.approx(1, rel=1e-4)


@ALL
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("times", [2, 3])
def test_loss_does_not_depend_on_sizes(name: str, dim: int, times: int) -> None:
    student, teacher = encode(seed=1), encode(seed=2)
    expected = with_identity_projectors(built(name, student, teacher))(student, teacher)
    student, teacher = repeat(student, times, dim), repeat(teacher, times, dim)
    value = with_identity_projectors(built(name, student, teacher))(student, teacher)
    assert len(value) == len(student.prediction)
    torch.testing.assert_close(value[:6], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(value.mean(), expected.mean(), rtol=1e-4, atol=1e-5)


@ALL
def test_loss_is_computed_per_trial(name: str) -> None:
    student, teacher = encode(seed=1), encode(seed=2)
    loss = built(name, student, teacher)
    all_trials = loss(student, teacher)
    assert all_trials.shape == (6,)
    one_trial = Encoding(student.prediction[:1], [layer[:1] for layer in student.features])
    target = Encoding(teacher.prediction[:1], [layer[:1] for layer in teacher.features])
    torch.testing.assert_close(loss(one_trial, target), all_trials[:1])


def test_hard_loss_is_mean_squared_error() -> None:
    s, t = encode(seed=1), encode(seed=2)
    loss = built("hard", s, t)
    unit = np.mean((t.prediction - t.prediction.mean((0, 1))).numpy() ** 2)
    expected = [np.mean((s.prediction[b] - t.prediction[b]).numpy() ** 2) / unit for b in range(6)]
    np.testing.assert_allclose(loss(s, t).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_soft_loss_is_divergence_of_softened_distributions(tau: float) -> None:
    student, teacher = encode(seed=1), encode(seed=2)
    loss = SoftLoss(tau)
    loss.check_compatible(student, teacher)

    def divergence(s: np.ndarray, t: np.ndarray) -> float:
        total = 0.0
        for bin_ in range(s.shape[0]):
            p, q = (np.exp(x[bin_] / tau) / np.exp(x[bin_] / tau).sum() for x in (t, s))
            total += float((p * np.log(p / q)).sum())
        return tau**2 * total / s.shape[0]

    s, t = student.prediction.double().numpy(), teacher.prediction.double().numpy()
    uncalibrated = [divergence(s[b], t[b]) for b in range(6)]
    np.testing.assert_allclose(loss(student, teacher).numpy(), uncalibrated, rtol=1e-4)
    loss.fit_scale(teacher)
    mean = np.broadcast_to(t.mean((0, 1)), t.shape)
    unit = np.mean([divergence(mean[b], t[b]) for b in range(6)])
    np.testing.assert_allclose(loss(student, teacher).numpy(), np.array(uncalibrated) / unit, rtol=1e-4)


def test_feature_loss_is_mean_of_projected_squared_errors() -> None:
    s, t = encode(widths=(4, 3), seed=1), encode(widths=(5, 6), seed=2)
    loss = built("feature", s, t)
    assert isinstance(loss, FeatureLoss)
    expected = np.zeros(6)
    for projector, mine, theirs in zip(loss.projectors, s.features, t.features, strict=True):
        projected = mine @ projector.weight.T + projector.bias
        unit = theirs.flatten(0, 1).var(0, correction=0).mean()
        expected += ((projected - theirs).square().mean((1, 2)) / unit / 2).detach().numpy()
    np.testing.assert_allclose(loss(s, t).detach().numpy(), expected, rtol=1e-5)


def test_correlation_equals_numpy() -> None:
    s, t = encode(seed=1), encode(seed=2)
    loss = built("correlation", s, t)
    matrices = [[np.corrcoef(trial.double().numpy().T) for trial in e.prediction] for e in (s, t)]
    unit = np.mean([np.mean(r**2) for r in matrices[1]])
    expected = [np.mean((a - b) ** 2) / unit for a, b in zip(*matrices, strict=True)]
    np.testing.assert_allclose(loss(s, t).numpy(), expected, rtol=1e-4)


@ALL
def test_only_student_and_projectors_get_gradients(name: str) -> None:
    student, teacher = encode(seed=1), encode(seed=2)
    loss = built(name, student, teacher)
    inputs = [student.prediction, *student.features]
    for tensor in inputs:
        tensor.requires_grad_()
    with torch.no_grad():
        fixed = Encoding(teacher.prediction.clone(), [layer.clone() for layer in teacher.features])
    loss(student, fixed).sum().backward()
    tensors = student.features if name == "feature" else [student.prediction]
    for tensor in [*tensors, *loss.parameters()]:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()
    assert fixed.prediction.grad is None


@pytest.mark.parametrize("constant", [0.0, -3.3, 50.0])
def test_correlation_of_constant_neurons_is_zero(constant: float) -> None:
    student, teacher = encode(seed=1), encode(seed=2)
    prediction = student.prediction.clone()
    prediction[:, :, 1] = constant
    prediction.requires_grad_()
    loss = built("correlation", student, teacher)
    values = loss.distance(Encoding(prediction), teacher)
    values.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    matrices = [np.corrcoef(np.delete(trial.numpy().T, 1, 0)) for trial in student.prediction]
    for value, mine, theirs in zip(values.tolist(), matrices, teacher.prediction, strict=True):
        padded = np.insert(np.insert(mine, 1, 0, 0), 1, 0, 1)
        assert value == pytest.approx(np.mean((padded - np.corrcoef(theirs.numpy().T)) ** 2), abs=1e-3)


@ALL
def test_constant_teacher_gives_finite_loss(name: str) -> None:
    teacher = Encoding(torch.ones(6, 8, 5), [torch.ones(6, 8, 4)])
    student = encode(widths=(4,))
    loss = built(name, student, teacher)
    assert loss(student, teacher).isfinite().all()


@pytest.mark.parametrize(
    ("depth", "reference", "expected"),
    [(2, 2, [0, 1]), (2, 4, [1, 3]), (4, 2, [0, 0, 1, 1]), (1, 3, [2]), (4, 1, [0] * 4), (2, 3, [1, 2]), (6, 4, None)],
)
def test_layers_are_compared_at_same_relative_depth(depth: int, reference: int, expected: list[int] | None) -> None:
    loss = FeatureLoss()
    loss.build(encode(widths=(3,) * depth), encode(widths=(4,) * reference))
    expected = expected or [math.ceil((i + 1) * reference / depth) - 1 for i in range(depth)]
    assert loss.teacher_layers == expected
    assert loss.teacher_layers[-1] == reference - 1
    assert loss.teacher_layers == sorted(loss.teacher_layers)


def test_feature_loss_accepts_other_width_and_depth() -> None:
    student, teacher = encode(widths=(3, 3, 7), seed=1), encode(widths=(5, 6), seed=2)
    loss = built("feature", student, teacher)
    assert isinstance(loss, FeatureLoss)
    assert [(p.in_features, p.out_features) for p in loss.projectors] == [(3, 5), (3, 6), (7, 6)]
    optimizer = torch.optim.Adam(loss.parameters(), 0.1)
    before = loss(student, teacher).mean().item()
    for _ in range(50):
        optimizer.zero_grad()
        loss(student, teacher).mean().backward()
        optimizer.step()
    assert loss(student, teacher).mean().item() < 0.9 * before


@pytest.mark.parametrize("name", ["hard", "soft", "correlation"])
@pytest.mark.parametrize("sizes", [{"bins": 9}, {"neurons": 4}])
def test_other_bins_or_neurons_raise(name: str, sizes: dict[str, int]) -> None:
    with pytest.raises(TeacherError, match=r"\(8, 5\)") as raised:
        LOSSES[name]().check_compatible(encode(**sizes), encode())
    assert "\n" not in str(raised.value)


def test_feature_loss_raises_for_other_bins_or_missing_layers() -> None:
    with pytest.raises(TeacherError, match="8 bins, the student's 9"):
        FeatureLoss().check_compatible(encode(bins=9), encode())
    for pair in [(encode(widths=()), encode()), (encode(), encode(widths=()))]:
        with pytest.raises(TeacherError, match=r"return `Encoding\.features`"):
            FeatureLoss().check_compatible(*pair)


@ALL
def test_scale_and_projectors_are_in_state_dict(name: str) -> None:
    student, teacher = encode(seed=1), encode(seed=2)
    loss = built(name, student, teacher)
    other = LOSSES[name]()
    other.build(student, teacher)
    assert not torch.equal(other(student, teacher), loss(student, teacher))
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(student, teacher), loss(student, teacher))


def test_hard_loss_weighted_by_rate_is_the_weighted_mean_over_neurons() -> None:
    student, teacher = encode(seed=1), encode(seed=2)
    loss = HardLoss(weight_by_rate=True)
    loss.build(student, teacher)
    built_weight = loss.weight
    loss.fit_scale(teacher)
    assert loss.weight is built_weight, "a stack of replicas shares this tensor"
    rate = teacher.prediction.exp().double().mean((0, 1))
    weight = rate / rate.mean()
    variance = (teacher.prediction.double().var((0, 1), correction=0) * weight).mean()
    expected = ((student.prediction - teacher.prediction).double().square().mean(1) * weight).mean(1) / variance
    torch.testing.assert_close(loss(student, teacher).double(), expected, rtol=1e-5, atol=1e-6)
    assert float(loss(mean_student(loss, teacher), teacher).mean()) == pytest.approx(1, rel=1e-5)
    assert float(loss(teacher, teacher).abs().max()) == 0


def test_weights_of_hard_loss_are_restored_by_its_state() -> None:
    student, teacher = encode(seed=1), encode(seed=2)
    fitted, restored = HardLoss(weight_by_rate=True), HardLoss(weight_by_rate=True)
    for loss in (fitted, restored):
        loss.build(student, teacher)
    fitted.fit_scale(teacher)
    restored.load_state_dict(fitted.state_dict())
    assert torch.equal(restored(student, teacher), fitted(student, teacher))
    assert HardLoss().state_dict().keys() == {"scale"}
