"""Two corruptions of the same trials, told apart from those of other trials."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    own = torch.eye(2 * trials, dtype=torch.bool, device=views.device)
    similarity = (views @ views.T / temperature).masked_fill(own, -torch.inf)
    partner = torch.arange(2 * trials, device=views.device).roll(trials)
    return F.cross_entropy(similarity, partner, reduction="none").view(2, trials).mean(0)


class Contrast(nn.Module):
    """STNDT's contrastive term (Le & Shlizerman, 2022): NT-Xent on the embedded tokens of both streams.

    Each stream has a linear projector of its own, applied to every token. With an embedding that learns nothing
    (`Identity`) the term trains its projectors alone and leaves the rest of the model as it is.

    Trials are compared with those of the same rank.

    Args:
        width: width of a neural token.
        bins: T'.
        weight: factor of the term.
        temperature: of the softmax.
        corruption: what distinguishes the two views.
    """

    def __init__(self, width: int, bins: int, weight: float, temperature: float, corruption: Masking) -> None:
        super().__init__()
        self.weight, self.temperature, self.corruption = weight, temperature, corruption
        self.temporal, self.spatial = nn.Linear(width, width), nn.Linear(bins, bins)

    def forward(self, observed: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """Counts (B, T, C) and what turns them into tokens (B, T', width) -> the weighted term, (B,)."""
        views = embed(self._corrupt(observed.repeat(2, 1, 1)))
        streams = self.temporal(views), self.spatial(views.transpose(1, 2))
        pairs = [stream.flatten(1).unflatten(0, (2, -1)) for stream in streams]
        return self.weight * torch.stack([nt_xent(a, b, self.temperature) for a, b in pairs]).sum(0)

    def _corrupt(self, views: Tensor) -> Tensor:
        # Seeded from torch's own generator on the host: the same chance on every device, without a stall.
        generator = torch.Generator(views.device).manual_seed(int(torch.randint(2**62, ())))
        trials, bins, channels = views.shape
        hidden = self.corruption.draw((trials, bins, channels), generator)
        return self.corruption.corrupt(views, hidden, generator, torch.arange(trials), trials)
