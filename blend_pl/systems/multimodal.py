"""The model that sees spikes and LFP: what could be had with both, beside which students of the LFP are held."""

from collections.abc import Callable
from dataclasses import replace

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.data.lfp.batches import JointBatch, SessionBatch
from blend_pl.data.lfp.signature import Member, SessionSet
from blend_pl.data.nlb.session import Signature
from blend_pl.distillation.joint import JointReconstruction
from blend_pl.errors import ConfigError
from blend_pl.masking import TokenMasking
from blend_pl.models import Dims, Encoding, MultimodalAutoencoder, PatchAutoencoder
from blend_pl.models.layers.patches import SessionDims
from blend_pl.systems.multi_session import LFPStudent, units_of
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
        if self.signature is None and isinstance(signature, SessionSet):
            self.units = {member.name: units_of(member, "a multimodal network") for member in signature.sessions}
        super().build(signature)

    def build_backbone(self, dims: Dims) -> nn.Module:
        """A network of spikes too, around that of the LFP."""
        lfp = super().build_backbone(dims)
        if not isinstance(lfp, PatchAutoencoder):
            raise ConfigError(f"{type(lfp).__name__} cannot take spikes in; choose PatchAutoencoder of blend_pl.models")
        return MultimodalAutoencoder(lfp, self.units, self.unit_patch)

    @property
    def both(self) -> MultimodalAutoencoder:
        """The backbone."""
        assert isinstance(self.backbone, MultimodalAutoencoder)
        return self.backbone

    def register_session(self, member: Member) -> None:
        """Lets the network run on a session that it was not trained on; see `LFPStudent.register_session`.

        Raises:
            TeacherError: it has no units.
        """
        units = units_of(member, "a multimodal network")
        self.both.register_session(member.name, self.channels_of(member), self.like(member), units)

    def mask(self, batch: SessionBatch, seed: int, epoch: int) -> tuple[JointBatch, Tensor]:  # type: ignore[override]
        """Drops tokens, an equal share of either kind; see `LFPStudent.mask`."""
        generator = torch.Generator(self.device).manual_seed(seed)
        both, units = batch.joined(), self.both.units
        unit_patches = [units.patches(name) for name in batch.sessions]
        patches = [self.both.patches(name) for name in batch.sessions]
        spikes, spike_labels = self.drop(batch.turned(), unit_patches, units.patch, generator)
        lfp, lfp_labels = self.drop(batch, patches, self.both.patch, generator)
        hidden = None if spikes is None or lfp is None else torch.cat([spikes, lfp], -1)
        labels = torch.cat([spike_labels, lfp_labels], -1)
        kinds = (self.token_masking.dropped(each, batch.observed.shape[1]) for each in (unit_patches, patches))
        dropped = tuple(map(sum, zip(*kinds, strict=True)))
        return replace(both, hidden=hidden, dropped=dropped), labels & both.target_valid

    def encode(self, batch: SessionBatch) -> Encoding:  # type: ignore[override]
        """What the network makes of the spikes and the LFP of a batch.

        Raises:
            TeacherError: the batch carries no spikes.
        """
        return super().encode(batch.joined())
