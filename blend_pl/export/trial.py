"""A student as a program of whole trials."""

from torch import Tensor, nn

from blend_pl.data.session import Signature
from blend_pl.export.program import BATCH, Port, Program
from blend_pl.likelihoods import Likelihood

COUNTS = "spike counts of the held-in units per bin"
RATES = "expected spikes of all units per bin, held-in first"


class Rates(nn.Module):
    """From spike counts to rates.

    Args:
        backbone: a student's network.
        likelihood: its observation model.
    """

    def __init__(self, backbone: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.backbone, self.likelihood = backbone, likelihood

    def forward(self, spikes: Tensor) -> Tensor:
        """Counts (B, T, C) -> expected counts per bin (B, T', N)."""
        return self.likelihood.mean(self.backbone(spikes).prediction)


def trial_program(backbone: nn.Module, likelihood: Likelihood, session: Signature) -> Program:
    """The program of a student's network: T observed bins of C units in, T' bins of all N units out."""
    bins = session.n_observed + session.n_forward
    return Program(
        "student",
        Rates(backbone, likelihood),
        (Port("spikes", (BATCH, session.n_observed, session.n_heldin), COUNTS),),
        (Port("rates", (BATCH, bins, session.n_units), RATES),),
    )
