"""Two corruptions of the same trials, told apart from those of other trials."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from blend_pl.likelihoods import Poisson
from blend_pl.masking import Masking


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy (SimCLR, Chen et al., 2020, eq. 1).

    Each of the 2 B views has to find the other view of its trial among all 2 B - 1 others, by cosine similarity.

    Args:
        first: (B, K), one view of each trial.
        second: (B, K), the other.
        temperature: of the softmax.

    Returns:
        (B,) nats, mean of a trial's two views.
    """
    trials = len(first)
    views = F.normalize(torch.cat([first, second]), dim=-1)
    self_pairs = torch.eye(2 * trials, dtype=torch.bool, device=views.device)
    similarity = (views @ views.T / temperature).masked_fill(self_pairs, -torch.inf)
    positives = torch.arange(2 * trials, device=views.device).roll(trials)
    return F.cross_entropy(similarity, positives, reduction="none").view(2, trials).mean(0)


@dataclass(frozen=True)
class ContrastiveLoss:
    """STNDT's contrastive term (Le & Shlizerman, 2022, section 3.3): NT-Xent on embedded trials.

    Both views are corruptions of the activity that the model is given, which in masked modelling is masked already.
    Trials are compared with those of the same rank.

    Attributes:
        weight: factor of the term; 0 for none.
        temperature: of the softmax.
        corruption: what distinguishes the two views.
    """

    weight: float = 0.1
    temperature: float = 0.07
    corruption: Masking = Masking(0.05, "full", zero_ratio=0.5, random_ratio=0.5)  # noqa: RUF009

    def augment(self, observed: Tensor) -> Tensor:
        """Counts (B, T, C) -> two corruptions of each trial, (2 B, T, C): first all first ones.

        Chance is torch's own, as dropout's is.
        """
        repeated = observed.repeat(2, 1, 1)
        trials, bins, channels = repeated.shape
        mask_sample = self.corruption.sample((trials, bins, channels), None, device=repeated.device)
        return mask_sample.corrupt(repeated, Poisson().noise)

    def weighted_loss(self, *embedded: Tensor) -> Tensor:
        """The views as each stream embeds them, (2 B, ...) -> weighted sum over streams, (B,)."""
        pairs = [stream.flatten(1).unflatten(0, (2, -1)) for stream in embedded]
        return self.weight * torch.stack([nt_xent(a, b, self.temperature) for a, b in pairs]).sum(0)
