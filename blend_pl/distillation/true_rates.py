"""The true rates of a simulated session in place of a teacher."""

import torch
from torch import Tensor, nn

from blend_pl.data.batch import Batch
from blend_pl.likelihoods import Likelihood, Poisson
from blend_pl.models.base import Encoding

TRUE_RATES = "simulation"
"""Name of this teacher in `Distillation`."""

NEW_TRIALS = 10_000
"""Number of further trials of the simulated population, from which synthetic trials are drawn."""

_LOWEST_RATE = 1e-6


class TrueRates(nn.Module):
    """Teaches the rates that generated the spikes of a simulated session.

    A student of the true rates of the recorded trials shows what better teachers could achieve with these trials. A
    student of further trials of the same population shows what any model of the neural activity could achieve.

    Args:
        rates: (trials, T', N) true expected counts per bin of the training trials, in order.
        new_rates: (R, T', N) true expected counts per bin of further trials; None for none.
    """

    teaches_without_masks = True
    log_rates: Tensor
    new_log_rates: Tensor | None

    def __init__(self, rates: Tensor, new_rates: Tensor | None = None) -> None:
        super().__init__()
        self.likelihood: Likelihood = Poisson()
        self.register_buffer("log_rates", rates.clamp(min=_LOWEST_RATE).log(), persistent=False)
        new_log_rates = None if new_rates is None else new_rates.clamp(min=_LOWEST_RATE).log()
        self.register_buffer("new_log_rates", new_log_rates, persistent=False)

    def teach(self, batch: Batch) -> Encoding:
        """Returns the true log rates of training trials."""
        return Encoding(self.log_rates[batch.index.to(self.log_rates.device)])

    def sample(self, behavior: Tensor, behavior_valid: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the log rates of random further trials, whose behavior is not that of the arguments."""
        assert self.new_log_rates is not None
        rows = torch.randint(
            len(self.new_log_rates), (len(behavior),), generator=generator, device=self.new_log_rates.device
        )
        return self.new_log_rates[rows]
