"""LFADS once more, bin by bin with torch's own cells: an oracle, and what speed is measured by."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blend_pl.models import LFADS


def cell(inputs: int, like: dict[str, Tensor]) -> nn.GRUCell:
    """A cell with the weights of one direction of a GRU, or of a cell."""
    weight_ih, weight_hh, bias_ih, bias_hh = like.values()
    made = nn.GRUCell(inputs, weight_hh.shape[1]).to(weight_hh.dtype)
    for name, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (weight_ih, weight_hh, bias_ih, bias_hh)):  # noqa: B905
        setattr(made, name, nn.Parameter(value.detach().clone()))
    return made


class NaiveLFADS(nn.Module):
    """A loop over bins of `nn.GRUCell`, one for the controller and one for the generator, states clipped in every bin.

    Without dropout. What is drawn for the initial condition (B, I) and for the inputs (T, B, U) is handed in.
    """

    def __init__(self, model: LFADS) -> None:
        super().__init__()
        self.model = model
        gru = dict(model.generator.named_parameters())
        self.generator = cell(model.generator.input_size, gru)
        self.controller = cell(model.controller.input_size, dict(model.controller.named_parameters()))

    def forward(
        self, observed: Tensor, context: Tensor | None, first_noise: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Log-rates, states, and means, log-variances and samples of the inferred inputs."""
        model = self.model
        read = F.pad(observed, (0, 0, 0, model.encoded - observed.shape[1]))
        if model.fusion is not None:
            read = model.fusion(read, context)
        _, last = model.initial_encoder.gru(read, model.initial_encoder.initial.repeat(1, len(read), 1))
        mean, log_variance = model.initial_posterior(torch.cat([*last], 1)).chunk(2, 1)
        state = model.initial_state(mean + (log_variance / 2).exp() * first_noise)
        state = state.clamp(-model.clip, model.clip)
        hidden, _ = model.input_encoder.gru(read, model.input_encoder.initial.repeat(1, len(read), 1))
        units = hidden.shape[-1] // 2
        nothing = torch.zeros_like(hidden[:, 0, :units])
        control = model.controller_state.repeat(len(read), 1)
        loadings = model.factors.weight / model.factors.weight.norm(dim=1, keepdim=True)
        memory = torch.exp(-1 / model.input_prior.log_tau.exp())
        rates, states, posterior = [], [], []
        for t in range(model.bins):
            if t < model.encoded:
                before = hidden[:, t - 1, :units] if t > 0 else nothing
                after = hidden[:, t + 1, units:] if t + 1 < model.encoded else nothing
                heard = torch.cat([before, after, state @ loadings.T], 1)
                control = self.controller(heard, control).clamp(-model.clip, model.clip)
                mean, log_variance = model.input_posterior(control).chunk(2, 1)
                sample = mean + (log_variance / 2).exp() * noise[t]
                posterior.append((mean, log_variance, sample))
            else:
                sample = sample * memory
            state = self.generator(sample, state).clamp(-model.clip, model.clip)
            states.append(state)
            rates.append(model.readout(state @ loadings.T))
        means, log_variances, samples = (torch.stack(part, 1) for part in zip(*posterior, strict=True))
        return torch.stack(rates, 1), torch.stack(states, 1), means, log_variances, samples
