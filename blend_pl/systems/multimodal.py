"""The model that sees spikes and LFP: what could be had with both, beside which students of the LFP are held."""

from collections.abc import Callable
from dataclasses import replace

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.data.lfp.batches import JointBatch, SessionBatch
from blend_pl.data.signature import MultiSessionSignature, SessionInfo, Signature
from blend_pl.distillation.joint import JointReconstruction
from blend_pl.errors import ConfigError
from blend_pl.masking import TokenMasking
from blend_pl.models import Dims, Encoding, MultimodalAutoencoder, PatchAutoencoder
from blend_pl.models.layers.patches import SessionDims
from blend_pl.systems.multi_session import LFPStudent, require_units
from blend_pl.systems.schedule import WarmupCosine


class Multimodal(LFPStudent):
    """Masked auto-encoding of spikes and LFP in one network (Erturk et al., NeurIPS 2025, multimodal comparison).

    It needs spikes wherever it runs, and so is no student: like a teacher's, its scores are a reference from above.

    Args:
        backbone: builds the network of the LFP from its sizes; spikes go through its encoder too.
        unit_patch: neurons of a patch.
        lfp_weight: weight of the LFP's squared error beside the spikes' negative log-likelihood. A count has hundredths
            of a nat to give, so that with 1 the network spends itself on the LFP.
        token_masking: which tokens are dropped in training, of either kind.
        optimizer: builds the optimiser from the parameters.
        schedule: builds the learning-rate schedule from the optimiser and the number of steps.
    """

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
        self.unit_patch = unit_patch
        self.objective = JointReconstruction(lfp_weight)

    def build(self, signature: Signature) -> None:
        """Builds the network for the sessions, once.

        Raises:
            ConfigError: the backbone is not one of patches.
            DataError: these are no sessions with LFP.
            TeacherError: a session has no units.
        """
        if self.signature is None and isinstance(signature, MultiSessionSignature):
            self.units_per_session = {
                session.name: require_units(session, "a multimodal network") for session in signature.sessions
            }
        super().build(signature)

    def build_backbone(self, dims: Dims) -> nn.Module:
        """A network of spikes too, around that of the LFP."""
        lfp_network = super().build_backbone(dims)
        if not isinstance(lfp_network, PatchAutoencoder):
            raise ConfigError(
                f"{type(lfp_network).__name__} cannot take spikes in; choose PatchAutoencoder of blend_pl.models"
            )
        return MultimodalAutoencoder(lfp_network, self.units_per_session, self.unit_patch)

    @property
    def multimodal_network(self) -> MultimodalAutoencoder:
        """The backbone."""
        assert isinstance(self.backbone, MultimodalAutoencoder)
        return self.backbone

    def register_session(self, session: SessionInfo) -> None:
        """Lets the network run on a session that it was not trained on; see `LFPStudent.register_session`.

        Raises:
            TeacherError: it has no units.
        """
        n_units = require_units(session, "a multimodal network")
        self.multimodal_network.register_session(
            session.name, self.n_channels(session), self.related_sessions(session), n_units
        )

    def mask(self, batch: SessionBatch, seed: int, epoch: int) -> tuple[JointBatch, Tensor]:  # type: ignore[override]
        """Drops tokens, an equal share of either kind; see `LFPStudent.mask`."""
        generator = torch.Generator(self.device).manual_seed(seed)
        joint_batch, unit_network = batch.with_spikes(), self.multimodal_network.unit_table
        n_unit_patches = [unit_network.n_patches(name) for name in batch.sessions]
        n_lfp_patches = [self.multimodal_network.n_patches(name) for name in batch.sessions]
        spike_mask, spike_labels = self.sample_token_mask(
            batch.spikes_only(), n_unit_patches, unit_network.patch, generator
        )
        lfp_mask, lfp_labels = self.sample_token_mask(batch, n_lfp_patches, self.multimodal_network.patch, generator)
        hidden = None if spike_mask is None or lfp_mask is None else torch.cat([spike_mask, lfp_mask], -1)
        labels = torch.cat([spike_labels, lfp_labels], -1)
        dropped_by_modality = (
            self.token_masking.n_dropped(n_patches, batch.observed.shape[1])
            for n_patches in (n_unit_patches, n_lfp_patches)
        )
        dropped = tuple(map(sum, zip(*dropped_by_modality, strict=True)))
        return replace(joint_batch, patch_mask=hidden, n_masked=dropped), labels & joint_batch.target_valid

    def encode(self, batch: SessionBatch) -> Encoding:  # type: ignore[override]
        """What the network makes of the spikes and the LFP of a batch.

        Raises:
            TeacherError: the batch carries no spikes.
        """
        return super().encode(batch.with_spikes())
