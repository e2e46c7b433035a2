"""Streaming program of a causal student: counts of one bin in, rates of that bin out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.data.signature import Signature
from blend_pl.export.program import ExportableProgram, TensorSpec
from blend_pl.export.trial_program import COUNTS_DESCRIPTION, RATES_DESCRIPTION
from blend_pl.likelihoods import Likelihood
from blend_pl.models import NDT
from blend_pl.models.layers.transformer import TransformerLayer
from blend_pl.models.session_network import SessionNetwork

CAUSAL_CONFIG = "configs/model/causal.yaml"


class StreamingNDT(nn.Module):
    """Processes a causal NDT bin by bin; rates equal those of the whole trial.

    The state holds the index of the bin and, for each layer, the keys and values of the past bins in the attention
    window. Positions are relative to the trial, so a trial starts with `initial_state()` and has at most T' bins: T
    bins with counts, followed by forward bins with zeros.

    Args:
        backbone: causal network, for which `causal_window` is not None.
        likelihood: observation model.
    """

    positions: Tensor
    lags: Tensor

    def __init__(self, backbone: NDT, likelihood: Likelihood) -> None:
        super().__init__()
        n_past_bins = causal_window(backbone)
        assert n_past_bins is not None
        self.likelihood, self.tokens, self.layers = likelihood, backbone.input_embedding, backbone.layers
        self.norm, self.readout = backbone.norm, backbone.readout
        self.padding = backbone.input_embedding.pad[:2]
        self.register_buffer("positions", backbone.positions().detach().clone())
        self.register_buffer("lags", torch.arange(n_past_bins, -1, -1))

    def initial_state(self) -> list[Tensor]:
        """Returns the state before the first bin of a trial: bin index, keys and values; see `forward`."""
        attention = self._transformer_layers()[0].attention
        head_dim = attention.out_proj.in_features // attention.num_heads
        empty_cache = torch.zeros(len(self.layers), attention.num_heads, len(self.lags) - 1, head_dim)
        return [torch.zeros(1, dtype=torch.long), empty_cache, empty_cache.clone()]

    def forward(self, spikes: Tensor, bin: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """Processes one bin.

        Args:
            spikes: (1, C) counts.
            bin: (1,) int64, index of the bin in the trial.
            keys: (layers, heads, K, head_dim), keys of the K previous bins; entries before the trial are masked.
            values: (layers, heads, K, head_dim), values of the K previous bins.

        Returns:
            (1, N) expected counts of the bin, followed by the state for the next bin.
        """
        counts = F.pad(spikes, self.padding)
        # Embeddings expect a trial dimension.
        tokens = self.tokens.embed(counts[None])[0] + self.positions.index_select(0, bin)
        attention_mask = self.lags <= bin
        next_keys, next_values = [], []
        for layer, past_keys, past_values in zip(self._transformer_layers(), keys, values, strict=True):
            attention = layer.attention
            q, k, v = attention.qkv(layer.norm(tokens)).unflatten(-1, (3, attention.num_heads, -1)).permute(1, 2, 0, 3)
            k, v = torch.cat([past_keys, k], 1), torch.cat([past_values, v], 1)
            attended = F.scaled_dot_product_attention(q[None], k[None], v[None], attention_mask[None])[0]
            tokens = layer.feedforward(tokens + attention.out_proj(attended.transpose(0, 1).flatten(1)))
            next_keys.append(k[:, 1:])
            next_values.append(v[:, 1:])
        rates = self.likelihood.mean(self.readout(self.norm(tokens)))
        return rates, bin + 1, torch.stack(next_keys), torch.stack(next_values)

    def _transformer_layers(self) -> list[TransformerLayer]:
        return [layer for layer in self.layers if isinstance(layer, TransformerLayer)]


def causal_window(backbone: NDT) -> int | None:
    """Returns the number of past bins in the attention window; None if attention is not causal."""
    allowed = backbone.window.allowed
    if allowed is None or allowed.triu(1).any():
        return None
    return int(allowed.sum(1).max()) - 1


def streaming_unsupported_reason(backbone: nn.Module) -> str | None:
    """Returns why a network cannot run bin by bin and the remedy; None if it can."""
    name = type(backbone).__name__
    if isinstance(backbone, SessionNetwork):
        return f"{name} processes whole segments"
    if type(backbone) is not NDT:
        return f"{name} processes whole trials; use an NDT with --config {CAUSAL_CONFIG}, which is causal"
    if causal_window(backbone) is None:
        return (
            f"this {name} attends to future bins; train it with --config {CAUSAL_CONFIG}, which sets "
            "--model.backbone.context_forward 0"
        )
    return None


def build_streaming_program(backbone: NDT, likelihood: Likelihood, session: Signature) -> ExportableProgram:
    """Returns the program of a single bin; see `StreamingNDT`."""
    step = StreamingNDT(backbone, likelihood)
    _, keys, _ = step.initial_state()

    def state_specs(prefix: str) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec(f"{prefix}bin", (1,), "index of the bin in the trial, 0 at its start", "int64"),
            TensorSpec(f"{prefix}keys", tuple(keys.shape), "previous bins of each layer; 0 at the trial's start"),
            TensorSpec(f"{prefix}values", tuple(keys.shape), "previous bins of each layer; 0 at the trial's start"),
        )

    return ExportableProgram(
        "student_step",
        step,
        (TensorSpec("spikes", (1, session.n_heldin), COUNTS_DESCRIPTION), *state_specs("")),
        (TensorSpec("rates", (1, session.n_units), RATES_DESCRIPTION), *state_specs("next_")),
    )


def stream_trial(step: StreamingNDT, spikes: Tensor) -> Tensor:
    """Returns rates (T', N) of a trial, computed bin by bin from counts (T', C)."""
    state, rates = step.initial_state(), []
    for bin_counts in spikes:
        rate, *state = step(bin_counts[None], *state)
        rates.append(rate)
    return torch.cat(rates)
