"""Distillation losses: distances between the encodings of a student and a frozen teacher of the same trials (BLEND).

Each loss is 0 if the student equals the teacher. After `fit_scale`, it is 1 on average for a student that predicts the
mean of the teacher. Losses are means over bins, neurons or layers, with one value per trial, so that alpha has the same
meaning for all losses, batch sizes, trial lengths and numbers of neurons.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import TeacherError
from blend_pl.models.base import Encoding
from blend_pl.utils.checks import POSITIVE, check_range

EPS = 1e-8


class DistillationLoss(nn.Module):
    """Base class of distillation losses: a `distance`, divided by a scale that is fitted to the teacher."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def check_compatible(self, student: Encoding, teacher: Encoding) -> None:
        """Checks whether the loss can compare the encodings of two models.

        Args:
            student: example encoding of the student.
            teacher: example encoding of the teacher, of the same trials.

        Raises:
            TeacherError: the encodings cannot be compared.
        """
        if student.prediction.shape[1:] != teacher.prediction.shape[1:]:
            raise TeacherError(
                f"the teacher predicts (bins, neurons) = {tuple(teacher.prediction.shape[1:])}, the student "
                f"{tuple(student.prediction.shape[1:])}; train the teacher on the student's session and bins"
            )

    def build(self, student: Encoding, teacher: Encoding) -> None:
        """Creates the trained modules of the loss, if it has any, before the optimizer is built.

        Args:
            student: example encoding of the student.
            teacher: example encoding of a compatible teacher.
        """

    def fit_scale(self, teacher: Encoding) -> None:
        """Sets the scale to the distance of a student that predicts the mean of the teacher.

        Args:
            teacher: encoding of many training trials by the teacher.
        """
        mean = teacher.prediction.mean((0, 1), keepdim=True).expand_as(teacher.prediction)
        self.scale.copy_(self.distance(Encoding(mean), teacher).mean().clamp(min=EPS))

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        """Returns the unscaled distance of each trial, (B,)."""
        raise NotImplementedError

    def forward(self, student: Encoding, teacher: Encoding) -> Tensor:
        """Returns the scaled distance of each trial, (B,)."""
        return self.distance(student, teacher) / self.scale


class HardLoss(DistillationLoss):
    """Squared error of the predictions (BLEND): mean over t, n of w_n (S - T)^2.

    The scale is the variance of the teacher, weighted in the same way.

    Args:
        weight_by_rate: sets w_n to the mean rate of neuron n in the predictions of the teacher, which are log-rates,
            divided by the mean over neurons. Then neurons with few spikes, whose log-rates a teacher knows least,
            count less. Otherwise w_n is 1.

    Example:
        >>> import torch
        >>> from blend_pl.distillation import HardLoss
        >>> from blend_pl.models import Encoding
        >>> student, teacher = (Encoding(torch.randn(4, 10, 6)) for _ in range(2))
        >>> loss = HardLoss()
        >>> loss.fit_scale(teacher)
        >>> loss(student, teacher).shape
        torch.Size([4])
    """

    weight: Tensor | None

    def __init__(self, weight_by_rate: bool = False) -> None:
        super().__init__()
        self.weight_by_rate = weight_by_rate
        self.register_buffer("weight", None)

    def build(self, student: Encoding, teacher: Encoding) -> None:
        if self.weight_by_rate:
            # A resumed training loads the fitted weights into this tensor.
            self.weight = torch.ones(teacher.prediction.shape[-1], device=self.scale.device)

    def fit_scale(self, teacher: Encoding) -> None:
        if self.weight_by_rate:
            rate = teacher.prediction.exp().mean((0, 1))
            if self.weight is None:
                self.weight = torch.empty_like(rate, device=self.scale.device)
            # In place, because stacked replicas share the tensor with their stack.
            self.weight.copy_(rate / rate.mean().clamp(min=EPS))
        super().fit_scale(teacher)

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        error = (student.prediction - teacher.prediction).square()
        return (error if self.weight is None else error * self.weight).mean((1, 2))


class SoftLoss(DistillationLoss):
    """Divergence of softened distributions over neurons (BLEND): tau^2 mean_t KL(softmax(T / tau) || softmax(S / tau)).

    The scale is the distance of the mean prediction of the teacher.

    Args:
        tau: temperature, above 0.

    Raises:
        RangeError: `tau` is out of range.

    Example:
        >>> import torch
        >>> from blend_pl.distillation import SoftLoss
        >>> from blend_pl.models import Encoding
        >>> student, teacher = (Encoding(torch.randn(4, 10, 6)) for _ in range(2))
        >>> loss = SoftLoss()
        >>> loss.fit_scale(teacher)
        >>> loss(student, teacher).shape
        torch.Size([4])
    """

    tau: Tensor

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__()
        check_range(POSITIVE, tau=tau)
        # A tensor, so that stacked replicas can have different values.
        self.register_buffer("tau", torch.tensor(tau), persistent=False)

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        log_student = F.log_softmax(student.prediction / self.tau, dim=-1)
        log_teacher = F.log_softmax(teacher.prediction / self.tau, dim=-1)
        divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)
        return self.tau**2 * divergence.mean(1)


class GaussianSoftLoss(DistillationLoss):
    """Divergence of Gaussian predictions: mean over t, n of KL(N(m_T, v_T) || N(m_S, v_S)), in closed form.

    For models that predict a variance for each mean. The scale is the distance of a Gaussian with the mean and the
    total variance (within and between entries) of the teacher.

    Example:
        >>> import torch
        >>> from blend_pl.distillation import GaussianSoftLoss
        >>> from blend_pl.models import Encoding
        >>> student, teacher = (
        ...     Encoding(torch.randn(4, 10, 6), log_variance=torch.zeros(4, 10, 6)) for _ in range(2)
        ... )
        >>> loss = GaussianSoftLoss()
        >>> loss.fit_scale(teacher)
        >>> loss(student, teacher).shape
        torch.Size([4])
    """

    def check_compatible(self, student: Encoding, teacher: Encoding) -> None:
        super().check_compatible(student, teacher)
        if student.log_variance is None or teacher.log_variance is None:
            raise TeacherError(
                "GaussianSoftLoss needs a student and a single teacher that predict variances; set "
                "model.backbone.variance to true for both"
            )

    def fit_scale(self, teacher: Encoding) -> None:
        assert teacher.log_variance is not None
        mean = teacher.prediction.mean((0, 1), keepdim=True)
        total_variance = teacher.log_variance.exp() + (teacher.prediction - mean).square()
        marginal = Encoding(
            mean.expand_as(teacher.prediction),
            log_variance=total_variance.mean((0, 1), keepdim=True).log().expand_as(teacher.prediction),
        )
        self.scale.copy_(self.distance(marginal, teacher).mean().clamp(min=EPS))

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        assert student.log_variance is not None
        assert teacher.log_variance is not None
        log_ratio = teacher.log_variance - student.log_variance
        scaled_error = (teacher.prediction - student.prediction).square() * (-student.log_variance).exp()
        return 0.5 * (log_ratio.exp() - log_ratio - 1 + scaled_error).mean((1, 2))


class FeatureLoss(DistillationLoss):
    """Squared error of layer outputs (BLEND): mean over layers l of the mean of (P_l s_l - t_l)^2 over t and width.

    The scale of each layer is its variance in the teacher, so that all layers have equal weight. P_l is a trained
    linear map from the width of the student to that of the teacher. A layer of the student is compared with the teacher
    layer at the same relative depth, so that the models may differ in width and depth.

    Example:
        >>> import torch
        >>> from blend_pl.distillation import FeatureLoss
        >>> from blend_pl.models import Encoding
        >>> student = Encoding(torch.randn(4, 10, 6), features=[torch.randn(4, 10, 8)])
        >>> teacher = Encoding(torch.randn(4, 10, 6), features=[torch.randn(4, 10, 16) for _ in range(2)])
        >>> loss = FeatureLoss()
        >>> loss.build(student, teacher)
        >>> loss.fit_scale(teacher)
        >>> loss(student, teacher).shape
        torch.Size([4])
    """

    def check_compatible(self, student: Encoding, teacher: Encoding) -> None:
        if not student.features or not teacher.features:
            raise TeacherError("FeatureLoss needs a student and a single teacher that return `Encoding.features`")
        for s, i in zip(student.features, _layers_of_same_depth(student, teacher), strict=True):
            if s.shape[1] != teacher.features[i].shape[1]:
                raise TeacherError(
                    f"the teacher's layers have {teacher.features[i].shape[1]} bins, the student's {s.shape[1]}"
                )

    def build(self, student: Encoding, teacher: Encoding) -> None:
        self.teacher_layers = _layers_of_same_depth(student, teacher)
        pairs = [(s, teacher.features[i]) for s, i in zip(student.features, self.teacher_layers, strict=True)]
        self.projectors = nn.ModuleList(nn.Linear(s.shape[-1], t.shape[-1]) for s, t in pairs).to(self.scale.device)
        self.scale = torch.ones(len(pairs), device=self.scale.device)

    def fit_scale(self, teacher: Encoding) -> None:
        variances = [teacher.features[i].flatten(0, 1).var(0, correction=0).mean() for i in self.teacher_layers]
        self.scale.copy_(torch.stack(variances).clamp(min=EPS))

    def forward(self, student: Encoding, teacher: Encoding) -> Tensor:
        errors = [
            (project(s) - teacher.features[i]).square().mean((1, 2))
            for project, s, i in zip(self.projectors, student.features, self.teacher_layers, strict=True)
        ]
        return (torch.stack(errors, dim=-1) / self.scale).mean(-1)


def _layers_of_same_depth(student: Encoding, teacher: Encoding) -> list[int]:
    """Returns the index of the teacher layer at the same relative depth as each layer of the student."""
    n_student_layers, n_teacher_layers = len(student.features), len(teacher.features)
    return [math.ceil((layer + 1) * n_teacher_layers / n_student_layers) - 1 for layer in range(n_student_layers)]


class CorrelationLoss(DistillationLoss):
    """Squared error of correlations between neurons over the bins of a trial (BLEND): mean over n, m of (R_S - R_T)^2.

    Correlations with a constant prediction are 0 instead of NaN. The scale is the mean squared correlation of the
    teacher. The loss does not constrain the level of the rates: use a high alpha.

    Example:
        >>> import torch
        >>> from blend_pl.distillation import CorrelationLoss
        >>> from blend_pl.models import Encoding
        >>> student, teacher = (Encoding(torch.randn(4, 10, 6)) for _ in range(2))
        >>> loss = CorrelationLoss()
        >>> loss.fit_scale(teacher)
        >>> loss(student, teacher).shape
        torch.Size([4])
    """

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        return (correlations(student.prediction) - correlations(teacher.prediction)).square().mean((1, 2))


class RepresentationLoss(DistillationLoss):
    """Cosine distance of latents (Erturk et al., 2025): mean over t of 1 - cos(S_t, T_t), without a projection.

    The scale is 1, as in the paper: the loss is 0 for parallel and 1 for orthogonal latents. The weight lambda of the
    paper corresponds to alpha = 1 / (1 + lambda). Bins without visible tokens of the student are excluded.

    Example:
        >>> import torch
        >>> from blend_pl.distillation import RepresentationLoss
        >>> from blend_pl.models import Encoding
        >>> teacher = Encoding(torch.zeros(1, 2, 3), latents=torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]))
        >>> student = Encoding(torch.zeros(1, 2, 3), latents=torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]))
        >>> RepresentationLoss()(student, teacher)
        tensor([0.5000])
    """

    def check_compatible(self, student: Encoding, teacher: Encoding) -> None:
        if student.latents is None or teacher.latents is None:
            raise TeacherError("RepresentationLoss needs `Encoding.latents` of the student and of a single teacher")
        if student.latents.shape[1:] != teacher.latents.shape[1:]:
            raise TeacherError(
                f"the teacher's latents are (bins, width) = {tuple(teacher.latents.shape[1:])}, the student's "
                f"{tuple(student.latents.shape[1:])}; give both networks one width and the same segments"
            )

    def fit_scale(self, teacher: Encoding) -> None:
        """Keeps the scale at 1."""

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        assert student.latents is not None
        assert teacher.latents is not None
        cosine_distance = 1 - F.cosine_similarity(student.latents, teacher.latents, dim=-1)
        if student.latents_valid is None:
            return cosine_distance.mean(1)
        valid = student.latents_valid
        return torch.where(valid, cosine_distance, 0.0).sum(1) / valid.sum(1).clamp(min=1)


def correlations(prediction: Tensor) -> Tensor:
    """Returns correlations (B, N, N) of neurons over time, of predictions (B, T', N); 0 for constant neurons."""
    centered = prediction - prediction.mean(1, keepdim=True)
    norm = centered.square().sum(1, keepdim=True).clamp(min=EPS).sqrt()
    normalized = centered / norm
    return normalized.transpose(1, 2) @ normalized
