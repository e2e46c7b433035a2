"""A student as a program of single bins: one bin of counts in, the rates of that bin out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.data.nlb.session import Signature
from blend_pl.export.program import Port, Program
from blend_pl.export.trial_program import COUNTS, RATES
from blend_pl.likelihoods import Likelihood
from blend_pl.models import NDT
from blend_pl.models.layers.patches import SessionNetwork
from blend_pl.models.layers.transformer import TransformerLayer

CAUSAL = "configs/model/causal.yaml"


class Step(nn.Module):
    """One bin of an NDT whose attention looks back only; rates are those of the whole trial.

    The state is the number of the bin, and each layer's keys and values of the bins that attention can look back to.
    Positions are those of a trial, so a trial begins with `start()` and has T' bins at most: T with counts, and the
    forward ones with zeros, as the whole trial has them.

    Args:
        backbone: the network; `look_back` of it is not None.
        likelihood: its observation model.
    """

    positions: Tensor
    ages: Tensor

    def __init__(self, backbone: NDT, likelihood: Likelihood) -> None:
        super().__init__()
        back = look_back(backbone)
        assert back is not None
        self.likelihood, self.tokens, self.layers = likelihood, backbone.tokens, backbone.layers
        self.norm, self.readout = backbone.norm, backbone.readout
        self.unseen = backbone.tokens.pad[:2]
        self.register_buffer("positions", backbone.positions().detach().clone())
        self.register_buffer("ages", torch.arange(back, -1, -1))

    def start(self) -> list[Tensor]:
        """The state before a trial's first bin: its number, keys and values, see `forward`."""
        attention = self._stack()[0].attention
        width = attention.out_proj.in_features // attention.heads
        past = torch.zeros(len(self.layers), attention.heads, len(self.ages) - 1, width)
        return [torch.zeros(1, dtype=torch.long), past, past.clone()]

    def forward(self, spikes: Tensor, bin: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """One bin.

        Args:
            spikes: (1, C) counts.
            bin: (1,) int64, number of the bin in its trial.
            keys: (layers, heads, K, width of a head), of the K bins before; what lies before the trial is not read.
            values: the same of values.

        Returns:
            (1, N) expected counts of the bin, and the state that the next bin begins with.
        """
        counts = F.pad(spikes, self.unseen)
        # Embeddings take trials.
        tokens = self.tokens.embed(counts[None])[0] + self.positions.index_select(0, bin)
        known = self.ages <= bin
        next_keys, next_values = [], []
        for layer, past_keys, past_values in zip(self._stack(), keys, values, strict=True):
            attention = layer.attention
            q, k, v = attention.qkv(layer.norm(tokens)).unflatten(-1, (3, attention.heads, -1)).permute(1, 2, 0, 3)
            k, v = torch.cat([past_keys, k], 1), torch.cat([past_values, v], 1)
            mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], known[None])[0]
            tokens = layer.feedforward(tokens + attention.out_proj(mixed.transpose(0, 1).flatten(1)))
            next_keys.append(k[:, 1:])
            next_values.append(v[:, 1:])
        rates = self.likelihood.mean(self.readout(self.norm(tokens)))
        return rates, bin + 1, torch.stack(next_keys), torch.stack(next_values)

    def _stack(self) -> list[TransformerLayer]:
        return [layer for layer in self.layers if isinstance(layer, TransformerLayer)]


def look_back(backbone: NDT) -> int | None:
    """How many bins before its own each bin attends to; None if it attends to later ones too."""
    allowed = backbone.window.allowed
    if allowed is None or allowed.triu(1).any():
        return None
    return int(allowed.sum(1).max()) - 1


def obstacle(backbone: nn.Module) -> str | None:
    """Why a network cannot be run bin by bin, and what to do; None if it can."""
    name = type(backbone).__name__
    if isinstance(backbone, SessionNetwork):
        return f"{name} reads whole segments"
    if type(backbone) is not NDT:
        return f"{name} is run on whole trials; an NDT with --config {CAUSAL} looks back only"
    if look_back(backbone) is None:
        return f"this {name} looks ahead; train it with --config {CAUSAL}, which is --model.backbone.context_forward 0"
    return None


def step_program(backbone: NDT, likelihood: Likelihood, session: Signature) -> Program:
    """The program of one bin, see `Step`."""
    step = Step(backbone, likelihood)
    _, keys, _ = step.start()

    def state(prefix: str) -> tuple[Port, ...]:
        return (
            Port(f"{prefix}bin", (1,), "number of the bin in its trial, 0 at its start", "int64"),
            Port(f"{prefix}keys", tuple(keys.shape), "of the bins before, each layer's; 0 at a trial's start"),
            Port(f"{prefix}values", tuple(keys.shape), "of the bins before, each layer's; 0 at a trial's start"),
        )

    return Program(
        "student_step",
        step,
        (Port("spikes", (1, session.n_heldin), COUNTS), *state("")),
        (Port("rates", (1, session.n_units), RATES), *state("next_")),
    )


def stream(step: Step, spikes: Tensor) -> Tensor:
    """The rates of a trial (T', N), bin by bin from counts (T', C)."""
    state, rates = step.start(), []
    for now in spikes:
        rate, *state = step(now[None], *state)  # type: ignore[assignment]
        rates.append(rate)
    return torch.cat(rates)
