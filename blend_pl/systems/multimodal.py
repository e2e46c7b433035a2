"""The multimodal system: encodes spikes and LFP together, an upper reference for students of the LFP."""

from collections.abc import Callable
from dataclasses import replace

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.data.signature import MultiSessionSignature, SessionInfo, Signature
from blend_pl.distillation.joint import JointReconstruction
from blend_pl.errors import ConfigError
from blend_pl.masking import TokenMasking
from blend_pl.models import Encoding, MultimodalAutoencoder, PatchAutoencoder
from blend_pl.models.session_network import SessionDims
from blend_pl.systems.multi_session import MultiSessionSystem, require_units
from blend_pl.systems.schedule import WarmupCosine
from blend_pl.utils.checks import COUNT, check_range


class Multimodal(MultiSessionSystem):
    """Masked auto-encoding of spikes and LFP in one network (Erturk et al., NeurIPS 2025, multimodal comparison).

    It needs spikes at inference too and is therefore no student: like those of a teacher, its scores are an upper
    reference.

    Args:
        backbone: builds the network of the LFP from its sizes; its encoder processes spikes too.
        unit_patch: units of a patch.
        lfp_weight: weight of the squared error of the LFP, relative to the negative log-likelihood of spikes. The
            likelihood of a count can improve by hundredths of a nat only: with weight 1 the network learns the LFP
            alone.
        token_masking: which tokens of both modalities are dropped in training.
        optimizer: builds the optimizer from the parameters.
        schedule: builds the learning-rate schedule from the optimizer and the number of steps.
    """

    requires_privileged = True
    modality = "spikes and lfp"

    def __init__(
        self,
        backbone: Callable[[SessionDims], nn.Module],
        unit_patch: int = 64,
        lfp_weight: float = 0.1,
        token_masking: TokenMasking = TokenMasking(),  # noqa: B008
        optimizer: OptimizerCallable = AdamW,
        schedule: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
    ) -> None:
        super().__init__(backbone, token_masking, None, optimizer, schedule)
        check_range(COUNT, unit_patch=unit_patch)
        self.unit_patch = unit_patch
        self.objective = JointReconstruction(lfp_weight)

    def build(self, signature: Signature) -> None:
        """Builds the network for the sessions; does nothing if it is built already.

        Raises:
            ConfigError: the backbone is no `PatchAutoencoder`.
            DataError: the data are not sessions with LFP.
            TeacherError: a session has no units.
        """
        if self.signature is None and isinstance(signature, MultiSessionSignature):
            self.units_per_session = {
                session.name: require_units(session, "a multimodal network") for session in signature.sessions
            }
        super().build(signature)

    def build_backbone(self, dims: SessionDims) -> nn.Module:
        """Returns a network of both modalities around one of the LFP."""
        lfp_network = super().build_backbone(dims)
        if not isinstance(lfp_network, PatchAutoencoder):
            raise ConfigError(
                f"{type(lfp_network).__name__} cannot encode spikes; choose PatchAutoencoder of blend_pl.models"
            )
        return MultimodalAutoencoder(lfp_network, self.units_per_session, self.unit_patch)

    @property
    def multimodal_network(self) -> MultimodalAutoencoder:
        """The backbone."""
        assert isinstance(self.backbone, MultimodalAutoencoder)
        return self.backbone

    def register_session(self, session: SessionInfo) -> None:
        """Adds a session that the network was not trained on; see `MultiSessionSystem.register_session`.

        Raises:
            DataError: the session is registered already.
            TeacherError: it has no units.
        """
        n_units = require_units(session, "a multimodal network")
        self.multimodal_network.register_session(
            session.name, self.n_channels(session), self.related_sessions(session), n_units
        )

    def mask(self, batch: SessionBatch, seed: int, epoch: int) -> tuple[SessionBatch, Tensor]:
        """Drops an equal share of the tokens of each modality; see `MultiSessionSystem.mask`."""
        generator = torch.Generator(self.device).manual_seed(seed)
        joint_batch, unit_network = batch.with_spikes(), self.multimodal_network.unit_table
        n_unit_patches = [unit_network.n_patches(name) for name in batch.sessions]
        n_lfp_patches = [self.multimodal_network.n_patches(name) for name in batch.sessions]
        spike_mask, spike_loss_mask = self.sample_token_mask(
            batch.spikes_only(), n_unit_patches, unit_network.patch, generator
        )
        lfp_mask, lfp_loss_mask = self.sample_token_mask(batch, n_lfp_patches, self.multimodal_network.patch, generator)
        hidden = None if spike_mask is None or lfp_mask is None else torch.cat([spike_mask, lfp_mask], -1)
        loss_mask = torch.cat([spike_loss_mask, lfp_loss_mask], -1)
        dropped_by_modality = (
            self.token_masking.n_dropped(n_patches, batch.observed.shape[1])
            for n_patches in (n_unit_patches, n_lfp_patches)
        )
        dropped = tuple(map(sum, zip(*dropped_by_modality, strict=True)))
        return replace(joint_batch, patch_mask=hidden, n_masked=dropped), loss_mask & joint_batch.target_valid

    def encode(self, batch: SessionBatch) -> Encoding:
        """Encodes the spikes and the LFP of a batch.

        Raises:
            TeacherError: the batch has no spikes.
        """
        return super().encode(batch.with_spikes())
