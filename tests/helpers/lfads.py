"""A reference implementation of LFADS, bin by bin with cells of torch, for tests and benchmarks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models import LFADS
from blend_pl.models.lfads import Encoder


def cell(rnn: nn.Module, suffix: str = "") -> nn.GRUCell:
    """Returns a cell with the weights of a GRU in one direction, or of another cell."""
    names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    values = [rnn.get_parameter(name + suffix).detach().clone() for name in names]
    gru_cell = nn.GRUCell(values[0].shape[1], values[1].shape[1])
    gru_cell.load_state_dict(dict(zip(names, values, strict=True)))
    return gru_cell


class NaiveEncoder(nn.Module):
    """An encoder with one cell per direction, computed bin by bin."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.initial = encoder.initial
        self.forward_cell, self.backward_cell = cell(encoder.gru, "_l0"), cell(encoder.gru, "_l0_reverse")

    def forward(self, read: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the states of both directions after each bin, in the order of bins."""
        forward_states, backward_states = [], []
        state, backward_state = (initial.repeat(len(read), 1) for initial in self.initial)
        for t in range(read.shape[1]):
            state, backward_state = (
                self.forward_cell(read[:, t], state),
                self.backward_cell(read[:, -1 - t], backward_state),
            )
            forward_states.append(state)
            backward_states.insert(0, backward_state)
        return forward_states, backward_states


class NaiveLFADS(nn.Module):
    """LFADS as loops over bins of `nn.GRUCell`, with clipped states of controller and generator, without dropout.

    The noise of the initial condition (B, ic_dim) and of the inferred inputs (T, B, co_dim) is passed to `forward`.
    """

    def __init__(self, model: LFADS) -> None:
        super().__init__()
        self.model = model
        self.generator, self.controller = cell(model.generator, "_l0"), cell(model.controller)
        self.initial_encoder, self.input_encoder = (
            NaiveEncoder(model.initial_encoder),
            NaiveEncoder(model.input_encoder),
        )

    def forward(
        self, observed: Tensor, context: Tensor | None, first_noise: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns log-rates, states, and means, log-variances and samples of the inferred inputs."""
        model = self.model
        read = F.pad(observed, (0, 0, 0, model.n_encoded_bins - observed.shape[1]))
        if model.fusion is not None:
            read = model.fusion(read, context)
        forward_states, backward_states = self.initial_encoder(read)
        mean, log_variance = model.initial_posterior(torch.cat([forward_states[-1], backward_states[0]], 1)).chunk(2, 1)
        state = model.initial_state(mean + (log_variance / 2).exp() * first_noise)
        state = state.clamp(-model.cell_clip, model.cell_clip)
        forward_states, backward_states = self.input_encoder(read)
        zeros = torch.zeros_like(forward_states[0])
        control = model.controller_state.repeat(len(read), 1)
        loadings = model.factors.weight / model.factors.weight.norm(dim=1, keepdim=True)
        memory = torch.exp(-1 / model.input_prior.log_tau.exp())
        rates, states, posterior = [], [], []
        for t in range(model.bins):
            if t < model.n_encoded_bins:
                previous = forward_states[t - 1] if t > 0 else zeros
                following = backward_states[t + 1] if t + 1 < model.n_encoded_bins else zeros
                controller_input = torch.cat([previous, following, state @ loadings.T], 1)
                control = self.controller(controller_input, control).clamp(-model.cell_clip, model.cell_clip)
                mean, log_variance = model.input_posterior(control).chunk(2, 1)
                sample = mean + (log_variance / 2).exp() * noise[t]
                posterior.append((mean, log_variance, sample))
            else:
                sample = sample * memory
            state = self.generator(sample, state).clamp(-model.cell_clip, model.cell_clip)
            states.append(state)
            rates.append(model.readout(state @ loadings.T))
        means, log_variances, samples = (torch.stack(part, 1) for part in zip(*posterior, strict=True))
        return torch.stack(rates, 1), torch.stack(states, 1), means, log_variances, samples
