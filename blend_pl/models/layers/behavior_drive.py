"""The part of log rates that behavior explains."""

import math

import torch
from torch import Tensor, nn

from blend_pl.models.layers.dropout import FastDropout


class BehaviorDrive(nn.Module):
    """Maps behavior around each bin, and the trial as a whole, to features of the log rates.

    Local features are those of a temporal convolution. Features of the trial are the products of a cosine basis over
    its bins and a linear summary of its behavior, so that activity before a movement can depend on the movement.
    Missing behavior is 0 in the input and marked in channels of its own.

    Args:
        channels: D, number of channels of behavior.
        bins: T', number of bins of a trial.
        half_width: number of bins before and after a bin that its local features see.
        hidden: number of local features.
        summary: number of summaries of a trial's behavior; 0 for windows that do not start at an event.
        basis: number of functions over the bins.
        rank: number of features.
        dropout: dropout of the local features and of the summary.

    Example:
        >>> import torch
        >>> drive = BehaviorDrive(channels=2, bins=30)
        >>> drive(torch.randn(8, 30, 2), torch.ones(8, 30, 2, dtype=torch.bool)).shape
        torch.Size([8, 30, 12])
    """

    basis: Tensor

    def __init__(
        self,
        channels: int,
        bins: int,
        half_width: int = 8,
        hidden: int = 48,
        summary: int = 6,
        basis: int = 10,
        rank: int = 12,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        inputs = 2 * channels + 1
        self.local = nn.Conv1d(inputs, hidden, 2 * half_width + 1, padding=half_width)
        self.summary = nn.Linear(bins * channels, summary) if summary else None
        self.dropout = FastDropout(dropout)
        phase = math.pi * (torch.arange(bins) + 0.5) / bins
        self.register_buffer("basis", torch.cos(phase[:, None] * torch.arange(min(basis, bins))), persistent=False)
        self.mix = nn.Linear(hidden + (summary + 1) * self.basis.shape[1], rank)

    def forward(self, behavior: Tensor, valid: Tensor) -> Tensor:
        """Returns (B, T', rank) features of (B, T', D) behavior and its bool mask of measured entries."""
        behavior = torch.where(valid, behavior, 0.0)
        norm = behavior.square().sum(2, keepdim=True).add(1e-6).sqrt()
        local = self.local(torch.cat([behavior, norm, valid.to(behavior.dtype)], 2).transpose(1, 2))
        features = [self.dropout(torch.tanh(local.transpose(1, 2)))]
        trial = behavior.new_ones(len(behavior), 1)
        if self.summary is not None:
            trial = torch.cat([trial, self.dropout(torch.tanh(self.summary(behavior.flatten(1))))], 1)
        features.append(torch.einsum("bs,tk->btsk", trial, self.basis).flatten(2))
        mixed: Tensor = self.mix(torch.cat(features, 2))
        return mixed

    def squared_input_weights(self) -> Tensor:
        """Returns the sum of the squared weights that local features and summaries give to behavior."""
        squared = self.local.weight.square().sum()
        return squared if self.summary is None else squared + self.summary.weight.square().sum()
