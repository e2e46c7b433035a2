"""A student as a program of whole trials, or of whole segments of field potentials."""

from torch import Tensor, nn

from blend_pl.data.lfp.signature import Member, SessionSet
from blend_pl.data.nlb.session import Signature
from blend_pl.errors import ConfigError
from blend_pl.export.program import BATCH, Port, Program
from blend_pl.likelihoods import Likelihood
from blend_pl.models import Separate
from blend_pl.models.layers.patches import SessionNetwork

STEM = "student"
COUNTS = "spike counts of the held-in units per bin"
RATES = "expected spikes of all units per bin, held-in first"
LFP = "field potential of each channel, z-scored as in its training segments"
LATENTS = "latents, from which behaviour is decoded by linear regression"


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
        STEM,
        Rates(backbone, likelihood),
        (Port("spikes", (BATCH, session.n_observed, session.n_heldin), COUNTS),),
        (Port("rates", (BATCH, bins, session.n_units), RATES),),
    )


class Latents(nn.Module):
    """From the field potentials of one session to latents.

    Args:
        network: a student's network.
        session: name of the session.
    """

    def __init__(self, network: SessionNetwork, session: str) -> None:
        super().__init__()
        self.network = network.network(session) if isinstance(network, Separate) else network
        self.session = session

    def forward(self, lfp: Tensor) -> Tensor:
        """Segments (B, T, C) -> (B, T, H)."""
        # One name stands for all rows, whose number the program is not to know.
        return self.network(lfp, [self.session]).latents


def segment_program(network: SessionNetwork, member: Member, bins: int) -> Program:
    """The program of a session: segments of T bins of its C channels in, latents out."""
    return Program(
        STEM,
        Latents(network, member.name),
        (Port("lfp", (BATCH, bins, len(member.channel_id)), LFP),),
        (Port("latents", (BATCH, bins, network.width), LATENTS),),
    )


def member_of(sessions: SessionSet, name: str | None) -> Member:
    """One of the sessions that a student was trained on.

    Args:
        sessions: all of them.
        name: its name; None for the only one.

    Raises:
        ConfigError: there is none of that name, or there are several and none is named.
    """
    known = {member.name: member for member in sessions.sessions}
    if name is None and len(known) == 1:
        return sessions.sessions[0]
    if name not in known:
        raise ConfigError(
            f"{'a program is of one session' if name is None else f'the student knows no session {name}'}; choose "
            f"--session from {', '.join(known)}"
        )
    return known[name]
