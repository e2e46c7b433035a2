"""A plain training loop of NDT, as commonly written: the reference of the benchmarks."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from blend_pl.models.layers.attention import window_mask


class Trials(Dataset[tuple[Tensor, Tensor]]):
    """Dataset of single trials: counts (T', N) and behavior (T', D)."""

    def __init__(self, counts: Tensor, behavior: Tensor) -> None:
        self.counts, self.behavior = counts, behavior

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.counts[index].float(), self.behavior[index]


class PlainLayer(nn.TransformerEncoderLayer):
    """A layer that returns its attention weights, as in released code."""

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        normed = self.norm1(tokens)
        mixed, weights = self.self_attn(normed, normed, normed, attn_mask=mask, need_weights=True)
        tokens = tokens + self.dropout1(mixed)
        hidden = self.dropout(self.linear1(self.norm2(tokens)).relu())
        return tokens + self.dropout2(self.linear2(hidden)), weights


class PlainNDT(nn.Module):
    """NDT of the size of `blend_pl.models.NDT`, built from `nn.TransformerEncoderLayer`."""

    def __init__(self, neurons: int, bins: int, context: int = 0, num_heads: int = 2) -> None:
        super().__init__()
        d_model = neurons + context
        self.position = nn.Embedding(bins, d_model)
        self.layers = nn.ModuleList(PlainLayer(d_model, num_heads, 128, 0.1, batch_first=True) for _ in range(4))
        self.norm, self.readout = nn.LayerNorm(d_model), nn.Linear(d_model, neurons)
        self.drop_in, self.drop_out = nn.Dropout(0.2), nn.Dropout(0.2)
        allowed = window_mask(bins, 4, 8)
        assert allowed is not None
        self.register_buffer("mask", ~allowed)

    def forward(self, counts: Tensor, behavior: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        tokens = counts * counts.shape[-1] ** 0.5
        if behavior is not None:
            tokens = torch.cat([tokens, behavior], -1)
        tokens, layer_weights = self.drop_in(tokens + self.position.weight), []
        for layer in self.layers:
            tokens, weights = layer(tokens, self.mask)
            layer_weights.append(weights)
        return self.readout(self.drop_out(self.norm(tokens))), layer_weights


def plain_steps(
    trials: Trials, student: PlainNDT, teacher: PlainNDT | None, batch: int, observed: tuple[int, int]
) -> Iterator[None]:
    """Trains by masked modeling and, with a teacher, the mean squared error to its log-rates; yields after a step."""
    device = student.readout.weight.device
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, foreach=False)
    while True:
        for counts, behavior in DataLoader(trials, batch, shuffle=True):
            counts, behavior = counts.to(device), behavior.to(device)
            bins, channels = observed
            student_input = torch.zeros_like(counts)
            masked = torch.rand(len(counts), bins, 1, device=device) < 0.25
            student_input[:, :bins, :channels] = counts[:, :bins, :channels].masked_fill(masked, 0.0)
            labels = torch.ones_like(counts, dtype=torch.bool)
            labels[:, :bins, :channels] = masked
            optimizer.zero_grad()
            rates, _ = student(student_input)
            loss = F.poisson_nll_loss(rates[labels], counts[labels])
            if teacher is not None:
                target, _ = teacher(student_input, behavior)
                loss = 0.5 * loss + 0.5 * F.mse_loss(rates, target.detach())
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 200.0)
            optimizer.step()
            loss.item()
            yield
