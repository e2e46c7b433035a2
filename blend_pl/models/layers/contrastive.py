"""The contrastive loss of STNDT."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from blend_pl.likelihoods import Poisson
from blend_pl.masking import Masking
from blend_pl.utils.checks import NON_NEGATIVE, POSITIVE, check_range


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalized temperature-scaled cross-entropy (SimCLR, Chen et al., 2020, eq. 1).

    For each of the 2 B views, classifies which of the 2 B - 1 others is of the same trial, by cosine similarity.

    Args:
        first: (B, K), one view of each trial.
        second: (B, K), the other view of each trial.
        temperature: temperature of the softmax.

    Returns:
        (B,) nats, mean over the two views of a trial.
    """
    trials = len(first)
    views = F.normalize(torch.cat([first, second]), dim=-1)
    self_pairs = torch.eye(2 * trials, dtype=torch.bool, device=views.device)
    similarity = (views @ views.T / temperature).masked_fill(self_pairs, -torch.inf)
    positives = torch.arange(2 * trials, device=views.device).roll(trials)
    return F.cross_entropy(similarity, positives, reduction="none").view(2, trials).mean(0)


@dataclass(frozen=True)
class ContrastiveLoss:
    """Contrastive term of STNDT (Le & Shlizerman, 2022, section 3.3): NT-Xent on embedded trials.

    Both views are corruptions of the input of the model, which in masked modeling is already masked. Trials are
    compared with the trials of the same rank.

    Attributes:
        weight: factor of the term; 0 to disable it.
        temperature: temperature of the softmax.
        corruption: masking that is drawn independently for the two views.
    """

    weight: float = 0.1
    temperature: float = 0.07
    corruption: Masking = Masking(0.05, "full", zero_ratio=0.5, random_ratio=0.5)  # noqa: RUF009

    def __post_init__(self) -> None:
        check_range(NON_NEGATIVE, weight=self.weight)
        check_range(POSITIVE, temperature=self.temperature)

    def augment(self, observed: Tensor) -> Tensor:
        """Returns two views of each trial of counts (B, T, C): (2 B, T, C), all first views before all second views.

        Uses the default random generator, like dropout.
        """
        repeated = observed.repeat(2, 1, 1)
        trials, bins, channels = repeated.shape
        mask_sample = self.corruption.sample((trials, bins, channels), None, device=repeated.device)
        return mask_sample.corrupt(repeated, Poisson().noise)

    def weighted_loss(self, *embedded: Tensor) -> Tensor:
        """Returns the weighted loss of each trial, (B,).

        Args:
            embedded: embeddings of the views, (2 B, ...), by one or more networks, whose losses are added.
        """
        view_pairs = [views.flatten(1).unflatten(0, (2, -1)) for views in embedded]
        return self.weight * torch.stack(
            [nt_xent(first, second, self.temperature) for first, second in view_pairs]
        ).sum(0)
