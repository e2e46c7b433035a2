"""A plain training loop of NDT, as it is commonly written, to measure against."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from blend_pl.models.layers.attention import window_mask


class Trials(Dataset[tuple[Tensor, Tensor]]):
    """Trials one by one: counts (T', N), and behaviour (T', D)."""

    def __init__(self, counts: Tensor, behavior: Tensor) -> None:
        self.counts, self.behavior = counts, behavior

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.counts[index].float(), self.behavior[index]


class PlainLayer(nn.TransformerEncoderLayer):
    """A layer that returns its attention weights, as the released loops have it."""

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        normed = self.norm1(tokens)
        mixed, weights = self.self_attn(normed, normed, normed, attn_mask=mask, need_weights=True)
        tokens = tokens + self.dropout1(mixed)
        hidden = self.dropout(self.linear1(self.norm2(tokens)).relu())
        return tokens + self.dropout2(self.linear2(hidden)), weights


class PlainNDT(nn.Module):
    """NDT at the sizes of `blend_pl.models.NDT`, written with torch's own layer."""

    def __init__(self, neurons: int, bins: int, context: int = 0, heads: int = 2) -> None:
        super().__init__()
        width = neurons + context
        self.position = nn.Embedding(bins, width)
        self.layers = nn.ModuleList(PlainLayer(width, heads, 128, 0.1, batch_first=True) for _ in range(4))
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, neurons)
        self.drop_in, self.drop_out = nn.Dropout(0.2), nn.Dropout(0.2)
        allowed = window_mask(bins, 4, 8)
        assert allowed is not None
        self.register_buffer("mask", ~allowed)

    def forward(self, counts: Tensor, behavior: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        tokens = counts * counts.shape[-1] ** 0.5
        if behavior is not None:
            tokens = torch.cat([tokens, behavior], -1)
        tokens, kept = self.drop_in(tokens + self.position.weight), []
        for layer in self.layers:
            tokens, weights = layer(tokens, self.mask)
            kept.append(weights)
        return self.readout(self.drop_out(self.norm(tokens))), kept


def plain_steps(
    trials: Trials, student: PlainNDT, teacher: PlainNDT | None, batch: int, observed: tuple[int, int]
) -> Iterator[None]:
    """Trains, a step at a time: masked modelling, and the mean squared distance to the teacher's log-rates."""
    device = student.readout.weight.device
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, foreach=False)
    while True:
        for counts, behavior in DataLoader(trials, batch, shuffle=True):
            counts, behavior = counts.to(device), behavior.to(device)
            bins, channels = observed
            seen = torch.zeros_like(counts)
            hidden = torch.rand(len(counts), bins, 1, device=device) < 0.25
            seen[:, :bins, :channels] = counts[:, :bins, :channels].masked_fill(hidden, 0.0)
            labels = torch.ones_like(counts, dtype=torch.bool)
            labels[:, :bins, :channels] = hidden
            optimizer.zero_grad()
            rates, _ = student(seen)
            loss = F.poisson_nll_loss(rates[labels], counts[labels])
            if teacher is not None:
                target, _ = teacher(seen, behavior)
                loss = 0.5 * loss + 0.5 * F.mse_loss(rates, target.detach())
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 200.0)
            optimizer.step()
            loss.item()
            yield
