"""Systems of many sessions: the LFP student, the spike teacher, and the student that decodes behaviour."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.data.lfp.batches import SessionBatch, SpikeBatch
from blend_pl.data.signature import MultiSessionSignature, SessionInfo, Signature
from blend_pl.distillation.decoding import BehaviorRegression
from blend_pl.errors import ConfigError, DataError, TeacherError
from blend_pl.likelihoods import Likelihood, Poisson, UnitGaussian
from blend_pl.masking import Masking, TokenMasking
from blend_pl.models import Dims, Encoding, PerSessionNetworks
from blend_pl.models.layers.patches import SessionDims, SessionNetwork
from blend_pl.systems.schedule import WarmupCosine
from blend_pl.systems.student import Student


class LFPStudent(Student):
    """Masked auto-encoding of the LFP of many sessions (Erturk et al., NeurIPS 2025); it never sees spikes.

    Args:
        backbone: builds the network from its sizes.
        token_masking: which tokens are dropped in training.
        likelihood: observation model; None for squared error of LFP, Poisson of spikes.
        optimizer: builds the optimiser from the parameters.
        schedule: builds the learning-rate schedule from the optimiser and the number of steps.
    """

    default_likelihood: type[Likelihood] = UnitGaussian
    # Of sessions that are not in the batch, and of the predictor where no token is dropped.
    has_unused_parameters = True

    def __init__(
        self,
        backbone: Callable[[SessionDims], nn.Module],
        token_masking: TokenMasking = TokenMasking(),  # noqa: B008
        likelihood: Likelihood | None = None,
        optimizer: OptimizerCallable = AdamW,
        schedule: Callable[[Optimizer, int], LRScheduler] = WarmupCosine,
    ) -> None:
        super().__init__(backbone, Masking(0.0), likelihood or self.default_likelihood(), optimizer, schedule)  # type: ignore[arg-type]
        self.token_masking = token_masking

    def build(self, signature: Signature) -> None:
        """Builds the network for the sessions, once.

        Raises:
            ConfigError: the backbone is of one session.
            DataError: these are no sessions with LFP.
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
        """How many channels of a session the network sees."""
        return len(session.channel_id)

    def register_session(self, session: SessionInfo) -> None:
        """Lets the network run on a session that it was not trained on.

        The vectors of its patches are those of sessions of the same animal or, where there are none, of all.

        Raises:
            DataError: the session is there already.
        """
        self.network.register_session(session.name, self.n_channels(session), self.related_sessions(session))

    def related_sessions(self, session: SessionInfo) -> list[str]:
        """Names of the sessions whose vectors a new one takes over."""
        assert isinstance(self.signature, MultiSessionSignature)
        trained_sessions = self.signature.sessions
        same_subject = [other.name for other in trained_sessions if other.subject == session.subject]
        return same_subject or [other.name for other in trained_sessions]

    def mask(self, batch: SessionBatch, seed: int, epoch: int) -> tuple[SessionBatch, Tensor]:  # type: ignore[override]
        """Drops tokens; see `Student.mask`. Labels are what the dropped tokens hold, or all where none is dropped."""
        generator = torch.Generator(self.device).manual_seed(seed)
        n_patches = [self.network.n_patches(name) for name in batch.sessions]
        hidden, labels = self.sample_token_mask(batch, n_patches, self.network.patch, generator)
        dropped = self.token_masking.n_dropped(n_patches, batch.observed.shape[1])
        return replace(batch, patch_mask=hidden, n_masked=tuple(dropped)), labels & batch.target_valid

    def sample_token_mask(
        self, batch: SessionBatch, n_patches: Sequence[int], patch_size: int, generator: torch.Generator
    ) -> tuple[Tensor | None, Tensor]:
        """Which tokens to drop of what a batch observes.

        Args:
            batch: segments.
            n_patches: P of each.
            patch_size: channels of a patch.
            generator: source of chance.

        Returns:
            (B, T, P) bool, or None for none; labels (B, T, C) bool, what the dropped tokens hold, or all.
        """
        _, bins, channels = batch.observed.shape
        hidden = self.token_masking.draw_mask(
            n_patches, bins, -(-channels // patch_size), batch.global_rows, batch.global_size, generator
        )
        if hidden is None:
            return None, torch.ones_like(batch.target_valid)
        return hidden, hidden.repeat_interleave(patch_size, -1)[..., :channels]

    def validation_step(self, batch: SessionBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Logs what training minimises, with fixed masks."""
        masked, labels = self.mask(batch, batch_idx, epoch=0)
        losses = self.objective(self.encode(masked), labels, masked)
        # Means over ranks of these are global means, however few segments a rank has.
        self.validation_loss.update(losses["loss"], batch.global_size)
        self.log("val/loss", self.validation_loss, on_epoch=True, prog_bar=True)

    def latents(self, batch: SessionBatch) -> Tensor:
        """(B, T, H) latents of whole segments."""
        encoding = self.encode(batch)
        assert encoding.latents is not None
        return encoding.latents


def require_units(session: SessionInfo, needed_by: str) -> int:
    """How many units a session has.

    Raises:
        TeacherError: it has none, and somebody needs them.
    """
    if not session.unit_id:
        raise TeacherError(
            f"{needed_by} needs units, and {session.name} has none; leave it out of data.train_on and data.held_out"
        )
    return len(session.unit_id)


class SpikeTeacher(LFPStudent):
    """Masked auto-encoding of spikes: its input is what the others do not see, and it sees nothing else."""

    default_likelihood = Poisson

    def n_channels(self, session: SessionInfo) -> int:
        """How many units of a session the network sees.

        Raises:
            TeacherError: it has none.
        """
        return require_units(session, "a spike teacher")

    def mask(self, batch: SessionBatch, seed: int, epoch: int) -> tuple[SpikeBatch, Tensor]:  # type: ignore[override]
        """Drops tokens of spikes; the batch that is returned holds nothing else."""
        masked, labels = super().mask(batch.spikes_only(), seed, epoch)
        assert isinstance(masked, SpikeBatch)
        return masked, labels

    def encode(self, batch: SessionBatch) -> Encoding:  # type: ignore[override]
        """What the network makes of the spikes of a batch; of one that was masked for a student, all of them.

        Raises:
            TeacherError: the batch carries no spikes.
        """
        return super().encode(batch.spikes_only())


class LFPDecoder(LFPStudent):
    """The supervised student: it learns to decode behaviour instead of its own input."""

    def build(self, signature: Signature) -> None:
        """Builds the network and the head that decodes.

        Raises:
            ConfigError: the sessions have no behaviour.
        """
        if self.signature is not None:
            return
        super().build(signature)
        assert isinstance(signature, MultiSessionSignature)
        if signature.n_behavior == 0:
            raise ConfigError(f"a supervised student needs behaviour, and {signature} has none; choose LFPStudent")
        self.objective = BehaviorRegression(self.network.d_model, signature.n_behavior)


class _PerSessionSystem(LFPStudent):
    """A network for each session, with nothing in common."""

    def build_backbone(self, dims: Dims) -> nn.Module:
        """A network of these sizes for each session."""
        assert isinstance(dims, SessionDims)
        return PerSessionNetworks(dims, self.make_backbone)  # type: ignore[arg-type]


class SingleSessionStudent(_PerSessionSystem):
    """LFP students of single sessions, side by side: a network for each session, with nothing in common."""


class SingleSessionTeacher(_PerSessionSystem, SpikeTeacher):
    """Spike teachers of single sessions, side by side: a network for each session, with nothing in common."""
