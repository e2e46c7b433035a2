"""Systems of several sessions with different channels: LFP students, spike teachers and behavior decoders."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.data.signature import MultiSessionSignature, SessionInfo, Signature
from blend_pl.distillation.decoding import BehaviorRegression
from blend_pl.errors import ConfigError, DataError, TeacherError
from blend_pl.likelihoods import Likelihood, Poisson, UnitGaussian
from blend_pl.masking import TokenMasking
from blend_pl.models import Encoding, PerSessionNetworks
from blend_pl.models.session_network import SessionDims, SessionNetwork
from blend_pl.systems.base import NeuralSystem
from blend_pl.systems.schedule import WarmupCosine


class MultiSessionSystem(NeuralSystem[SessionBatch, SessionDims]):
    """Masked auto-encoding of several sessions (Erturk et al., NeurIPS 2025): tokens are dropped and reconstructed.

    Args:
        backbone: builds the network from its sizes.
        token_masking: which tokens are dropped in training.
        likelihood: observation model; None for `default_likelihood`.
        optimizer: builds the optimizer from the parameters.
        schedule: builds the learning-rate schedule from the optimizer and the number of steps.
    """

    default_likelihood: type[Likelihood] = UnitGaussian
    modality = "lfp"
    """Activity in the input; a network may start from the weights of another with the same input."""
    # Those of sessions that are not in the batch, and of the predictor if no token is dropped.
    has_unused_parameters = True

    def __init__(
        self,
        backbone: Callable[[SessionDims], nn.Module],
        token_masking: TokenMasking = TokenMasking(),  # noqa: B008
        likelihood: Likelihood | None = None,
        optimizer: OptimizerCallable = AdamW,
        schedule: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
    ) -> None:
        super().__init__(backbone, likelihood, optimizer, schedule)
        self.token_masking = token_masking

    def build(self, signature: Signature) -> None:
        """Builds the network for the sessions; does nothing if it is built already.

        Raises:
            ConfigError: the backbone is a network of one session.
            DataError: the data are not sessions with LFP.
        """
        if not isinstance(signature, MultiSessionSignature):
            raise DataError(
                f"{type(self).__name__} needs sessions of spikes and LFP, and {signature} is none; choose other data"
            )
        super().build(signature)
        if not isinstance(self.backbone, SessionNetwork):
            raise ConfigError(
                f"{type(self.backbone).__name__} is no network of several sessions; choose PatchAutoencoder of "
                "blend_pl.models"
            )

    @property
    def network(self) -> SessionNetwork:
        """The backbone."""
        assert isinstance(self.backbone, SessionNetwork)
        return self.backbone

    def dims(self, signature: Signature) -> SessionDims:
        assert isinstance(signature, MultiSessionSignature)
        n_channels = {session.name: self.n_channels(session) for session in signature.sessions}
        return SessionDims.from_sessions(n_channels, signature.n_observed)

    def n_channels(self, session: SessionInfo) -> int:
        """Returns the number of input channels of a session."""
        return len(session.channel_id)

    def register_session(self, session: SessionInfo) -> None:
        """Adds a session that the network was not trained on.

        Its patch vectors are means over the sessions of the same subject or, if there are none, over all sessions.

        Raises:
            DataError: the session is registered already.
        """
        self.network.register_session(session.name, self.n_channels(session), self.related_sessions(session))

    def related_sessions(self, session: SessionInfo) -> list[str]:
        """Returns the names of the sessions that initialize a new session."""
        assert isinstance(self.signature, MultiSessionSignature)
        trained_sessions = self.signature.sessions
        same_subject = [other.name for other in trained_sessions if other.subject == session.subject]
        return same_subject or [other.name for other in trained_sessions]

    def mask(self, batch: SessionBatch, seed: int, epoch: int) -> tuple[SessionBatch, Tensor]:
        """Drops tokens. The loss mask selects the values of the dropped tokens, or all values if no token is dropped.

        See `NeuralSystem.mask`.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        n_patches = [self.network.n_patches(name) for name in batch.sessions]
        hidden, loss_mask = self.sample_token_mask(batch, n_patches, self.network.patch, generator)
        dropped = self.token_masking.n_dropped(n_patches, batch.observed.shape[1])
        return replace(batch, patch_mask=hidden, n_masked=tuple(dropped)), loss_mask & batch.target_valid

    def sample_token_mask(
        self, batch: SessionBatch, n_patches: Sequence[int], patch_size: int, generator: torch.Generator
    ) -> tuple[Tensor | None, Tensor]:
        """Draws the observed tokens to drop.

        Args:
            batch: B segments.
            n_patches: number of patches of each segment.
            patch_size: channels of a patch.
            generator: source of random numbers.

        Returns:
            (B, T, P) bool, P patches in the widest session, or None if no token is dropped; loss mask (B, T, C) bool of
            the values of the dropped tokens, or of all values.
        """
        _, bins, channels = batch.observed.shape
        hidden = self.token_masking.draw_mask(
            n_patches, bins, -(-channels // patch_size), batch.global_rows, batch.global_size, generator
        )
        if hidden is None:
            return None, torch.ones_like(batch.target_valid)
        return hidden, hidden.repeat_interleave(patch_size, -1)[..., :channels]

    def validation_step(self, batch: SessionBatch, batch_idx: int) -> None:
        """Adds the training loss of a batch, with a fixed mask, to the validation loss."""
        masked, loss_mask = self.mask(batch, batch_idx, epoch=0)
        losses = self.objective(self.encode(masked), loss_mask, masked)
        # The losses are global means on every rank, so that each rank counts all segments of the global batch.
        self.validation_loss.update(losses["loss"], batch.global_size)
        self.log("val/loss", self.validation_loss, on_epoch=True, prog_bar=True)

    def latents(self, batch: SessionBatch) -> Tensor:
        """Returns latents of whole segments, (B, T, H)."""
        encoding = self.encode(batch)
        assert encoding.latents is not None
        return encoding.latents


class LFPStudent(MultiSessionSystem):
    """Masked auto-encoding of the LFP (Erturk et al., NeurIPS 2025); spikes never reach its network."""


class SpikeTeacher(MultiSessionSystem):
    """Masked auto-encoding of spikes, the privileged activity; the LFP never reaches its network."""

    default_likelihood = Poisson
    requires_privileged = True
    modality = "spikes"

    def n_channels(self, session: SessionInfo) -> int:
        """Returns the number of units of a session.

        Raises:
            TeacherError: it has no units.
        """
        return require_units(session, "a spike teacher")

    def mask(self, batch: SessionBatch, seed: int, epoch: int) -> tuple[SessionBatch, Tensor]:
        """Drops tokens of spikes and removes the LFP; see `MultiSessionSystem.mask`."""
        return super().mask(batch.spikes_only(), seed, epoch)

    def encode(self, batch: SessionBatch) -> Encoding:
        """Encodes the spikes of a batch; if it was masked for a student, all its spikes.

        Raises:
            TeacherError: the batch has no spikes.
        """
        return super().encode(batch.spikes_only())


class LFPDecoder(MultiSessionSystem):
    """The supervised student: decodes behavior from the LFP and reconstructs nothing (Erturk et al., NeurIPS 2025)."""

    def build(self, signature: Signature) -> None:
        """Builds the network and the decoding head; does nothing if they are built already.

        Raises:
            ConfigError: the sessions have no behavior.
        """
        if self.signature is not None:
            return
        super().build(signature)
        assert isinstance(signature, MultiSessionSignature)
        if signature.n_behavior == 0:
            raise ConfigError(f"a supervised student needs behavior, and {signature} has none; choose LFPStudent")
        self.objective = BehaviorRegression(self.network.d_model, signature.n_behavior)


class SingleSessionStudent(LFPStudent):
    """LFP students with an independent network for each session: the single-session baseline."""

    def build_backbone(self, dims: SessionDims) -> nn.Module:
        """Returns one network for each session."""
        return PerSessionNetworks(dims, self.make_backbone)


class SingleSessionTeacher(SpikeTeacher):
    """Spike teachers with an independent network for each session."""

    def build_backbone(self, dims: SessionDims) -> nn.Module:
        """Returns one network for each session."""
        return PerSessionNetworks(dims, self.make_backbone)


def require_units(session: SessionInfo, needed_by: str) -> int:
    """Returns the number of units of a session.

    Raises:
        TeacherError: it has no units.
    """
    if not session.unit_id:
        raise TeacherError(
            f"{needed_by} needs units, and {session.name} has none; leave it out of data.train_on and data.held_out"
        )
    return len(session.unit_id)
