"""Programs of whole trials of spikes and of whole segments of field potentials."""

from torch import Tensor, nn

from blend_pl.data.signature import MultiSessionSignature, SessionInfo, Signature
from blend_pl.errors import ConfigError
from blend_pl.export.program import BATCH_DIM, ExportableProgram, TensorSpec
from blend_pl.likelihoods import Likelihood
from blend_pl.models import PerSessionNetworks
from blend_pl.models.session_network import SessionNetwork

PROGRAM_STEM = "student"
COUNTS_DESCRIPTION = "spike counts of the held-in units per bin"
RATES_DESCRIPTION = "expected spikes of all units per bin, held-in first"
LFP_DESCRIPTION = "field potential of each channel, z-scored with the statistics of the training segments"
LATENTS_DESCRIPTION = "latents for a linear decoder of behavior"


class RateProgram(nn.Module):
    """Maps spike counts to rates.

    Args:
        backbone: network of a student.
        likelihood: observation model.
    """

    def __init__(self, backbone: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.backbone, self.likelihood = backbone, likelihood

    def forward(self, spikes: Tensor) -> Tensor:
        """Maps counts (B, T, C) to expected counts per bin (B, T', N)."""
        return self.likelihood.mean(self.backbone(spikes).prediction)


def build_trial_program(backbone: nn.Module, likelihood: Likelihood, session: Signature) -> ExportableProgram:
    """Returns the program of a network: T observed bins of C units to T' bins of all N units."""
    bins = session.n_observed + session.n_forward
    return ExportableProgram(
        PROGRAM_STEM,
        RateProgram(backbone, likelihood),
        (TensorSpec("spikes", (BATCH_DIM, session.n_observed, session.n_heldin), COUNTS_DESCRIPTION),),
        (TensorSpec("rates", (BATCH_DIM, bins, session.n_units), RATES_DESCRIPTION),),
    )


class LatentProgram(nn.Module):
    """Maps field potentials of one session to latents.

    Args:
        network: network of a student.
        session: name of the session.
    """

    def __init__(self, network: SessionNetwork, session: str) -> None:
        super().__init__()
        self.network = network.network(session) if isinstance(network, PerSessionNetworks) else network
        self.session = session

    def forward(self, lfp: Tensor) -> Tensor:
        """Maps segments (B, T, C) to latents (B, T, H)."""
        # A single name applies to all rows, so the batch size stays dynamic.
        latents: Tensor = self.network(lfp, [self.session]).latents
        return latents


def build_segment_program(network: SessionNetwork, session_info: SessionInfo, n_bins: int) -> ExportableProgram:
    """Returns the program of a session: segments of T bins and C channels to latents."""
    return ExportableProgram(
        PROGRAM_STEM,
        LatentProgram(network, session_info.name),
        (TensorSpec("lfp", (BATCH_DIM, n_bins, len(session_info.channel_id)), LFP_DESCRIPTION),),
        (TensorSpec("latents", (BATCH_DIM, n_bins, network.d_model), LATENTS_DESCRIPTION),),
    )


def select_session(sessions: MultiSessionSignature, name: str | None) -> SessionInfo:
    """Selects one of the training sessions of a student.

    Args:
        sessions: signature of the student.
        name: name of the session; None if there is only one.

    Raises:
        ConfigError: the name is unknown, or missing although there are several sessions.
    """
    session_by_name = {session_info.name: session_info for session_info in sessions.sessions}
    if name is None and len(session_by_name) == 1:
        return sessions.sessions[0]
    if name not in session_by_name:
        raise ConfigError(
            f"{'a program covers one session' if name is None else f'the student has no session {name}'}; choose "
            f"--session from {', '.join(session_by_name)}"
        )
    return session_by_name[name]
