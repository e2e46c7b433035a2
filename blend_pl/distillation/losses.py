"""Distances between what a student and its frozen teacher make of the same masked trial (BLEND).

Every loss is 0 for a perfect copy and, once calibrated, 1 on average for a student that knows the teacher's mean and
nothing else. It is a mean over bins, neurons or layers and comes as one number a trial. So one alpha means the same
for every strategy, batch size, trial length and neuron count.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.errors import TeacherError
from blend_pl.models.base import Encoding

EPS = 1e-8


class DistillationLoss(nn.Module):
    """Base class: a subclass gives the paper's `distance`, this class its unit."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def check_compatible(self, student: Encoding, teacher: Encoding) -> None:
        """Checks from one example encoding of each model whether the loss can compare them.

        Raises:
            TeacherError: the two cannot be compared.
        """
        if student.prediction.shape[1:] != teacher.prediction.shape[1:]:
            raise TeacherError(
                f"the teacher predicts (bins, neurons) = {tuple(teacher.prediction.shape[1:])}, the student "
                f"{tuple(student.prediction.shape[1:])}; train the teacher on the student's session and bins"
            )

    def build(self, student: Encoding, teacher: Encoding) -> None:
        """Creates the trained modules of the loss, if it has any, from example encodings of compatible models.

        It is called before the optimizer is built.
        """

    def fit_scale(self, teacher: Encoding) -> None:
        """Takes as unit the distance of a student that knows only the teacher's mean.

        Args:
            teacher: encoding of many training trials.
        """
        mean = teacher.prediction.mean((0, 1), keepdim=True).expand_as(teacher.prediction)
        self.scale.copy_(self.distance(Encoding(mean), teacher).mean().clamp(min=EPS))

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        """The paper's distance, one number a trial: (B,)."""
        raise NotImplementedError

    def forward(self, student: Encoding, teacher: Encoding) -> Tensor:
        """The distance in units of ignorance, one number a trial: (B,)."""
        return self.distance(student, teacher) / self.scale


class HardLoss(DistillationLoss):
    """Squared error of the predictions (BLEND): mean over t, n of (S - T)^2, in units of the teacher's variance."""

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        return (student.prediction - teacher.prediction).square().mean((1, 2))


class SoftLoss(DistillationLoss):
    """Softened distributions over neurons (BLEND): tau^2 mean over t of KL(softmax(T / tau) || softmax(S / tau)).

    The unit is the divergence of the teacher's mean distribution from the teacher.

    Args:
        tau: temperature.
    """

    tau: Tensor

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__()
        # A tensor, so that models that train together may differ in it.
        self.register_buffer("tau", torch.tensor(tau), persistent=False)

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        log_student = F.log_softmax(student.prediction / self.tau, dim=-1)
        log_teacher = F.log_softmax(teacher.prediction / self.tau, dim=-1)
        divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)
        return self.tau**2 * divergence.mean(1)


class GaussianSoftLoss(DistillationLoss):
    """Soft distillation of Gaussian predictions: mean over t, n of KL(N(m_T, v_T) || N(m_S, v_S)), in closed form.

    For models that predict a variance with every mean. The unit is the divergence of a Gaussian with the teacher's mean
    and its whole variance, within and between entries, from the teacher.
    """

    def check_compatible(self, student: Encoding, teacher: Encoding) -> None:
        super().check_compatible(student, teacher)
        if student.log_variance is None or teacher.log_variance is None:
            raise TeacherError(
                "soft distillation of Gaussians needs a student and a single teacher that predict variances; set "
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
    """Squared error of layer outputs (BLEND): mean over layers l of |P_l s_l - t_l|^2 over t and width.

    Each layer is in units of its own variance in the teacher, so that no layer drowns another. P_l is a trained linear
    map from the student's width to the teacher's, and student layers are compared with the teacher's at the same
    relative depth, so that the two may differ in width and depth.
    """

    def check_compatible(self, student: Encoding, teacher: Encoding) -> None:
        if not student.features or not teacher.features:
            raise TeacherError(
                "feature distillation needs a student and a single teacher that return their layers' outputs"
            )
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
    """Returns the index of the teacher's layer at the relative depth of each layer of the student."""
    n_student_layers, n_teacher_layers = len(student.features), len(teacher.features)
    return [math.ceil((layer + 1) * n_teacher_layers / n_student_layers) - 1 for layer in range(n_student_layers)]


class CorrelationLoss(DistillationLoss):
    """Neuron-by-neuron correlations over the bins of a trial (BLEND): mean over n, m of (R_S - R_T)^2.

    A neuron whose prediction does not change in a trial correlates with nothing, instead of giving NaN. The unit is
    the mean squared correlation of the teacher. On its own this says nothing about how high rates are: keep alpha high.
    """

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        return (correlations(student.prediction) - correlations(teacher.prediction)).square().mean((1, 2))


class RepresentationLoss(DistillationLoss):
    """Angle between pooled latents (Erturk et al., 2025): mean over t of 1 - cos(S_t, T_t), without a projection.

    The unit is the paper's: 0 for latents that point the same way, 1 for latents that have nothing to do with the
    teacher's. alpha = 1 / (1 + lambda) is the paper's weight lambda. Bins of which a student saw nothing do not count.
    """

    def check_compatible(self, student: Encoding, teacher: Encoding) -> None:
        if student.latents is None or teacher.latents is None:
            raise TeacherError("representation distillation needs latents of student and teacher; return them both")
        if student.latents.shape[1:] != teacher.latents.shape[1:]:
            raise TeacherError(
                f"the teacher's latents are (bins, width) = {tuple(teacher.latents.shape[1:])}, the student's "
                f"{tuple(student.latents.shape[1:])}; give both networks one width and the same segments"
            )

    def fit_scale(self, teacher: Encoding) -> None:
        """The unit is fixed."""

    def distance(self, student: Encoding, teacher: Encoding) -> Tensor:
        assert student.latents is not None
        assert teacher.latents is not None
        cosine_distance = 1 - F.cosine_similarity(student.latents, teacher.latents, dim=-1)
        if student.latents_valid is None:
            return cosine_distance.mean(1)
        valid = student.latents_valid
        return torch.where(valid, cosine_distance, 0.0).sum(1) / valid.sum(1).clamp(min=1)


def correlations(prediction: Tensor) -> Tensor:
    """Correlation of every pair of neurons over time: (B, T', N) -> (B, N, N); 0 where a neuron is constant."""
    centred = prediction - prediction.mean(1, keepdim=True)
    norm = centred.square().sum(1, keepdim=True).clamp(min=EPS).sqrt()
    normalized = centred / norm
    return normalized.transpose(1, 2) @ normalized
