"""Batches of segments of several sessions, balanced across sessions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.segments import SegmentSplit, split_segments, standardize_channels
from blend_pl.data.loader import BatchLoader, BatchSampler, FixedBatchSampler
from blend_pl.data.signature import SessionInfo
from blend_pl.errors import TeacherError
from blend_pl.utils.device import to_device_async


@dataclass(kw_only=True, repr=False)
class SessionBatch(Batch):
    """B segments of T bins, each of one session; C LFP channels and N units in the widest session.

    The channels of a session come first; the remaining columns are 0 and not valid. The LFP is both observed and the
    target, spikes are privileged. Segments of one session are contiguous.

    Attributes:
        sessions: name of each segment's session.
        behavior: (B, T, D) float, z-scored velocity, 0 where missing; never a model input.
        behavior_valid: (B, T, D) bool, where velocity was measured.
        patch_mask: (B, T, P) bool, patches that are masked from the network; None for none.
        n_masked: number of masked patches of each segment; None if the host does not have it.
    """

    sessions: tuple[str, ...]
    behavior: Tensor
    behavior_valid: Tensor
    patch_mask: Tensor | None = None
    n_masked: tuple[int, ...] | None = None

    def inputs(self) -> tuple[Any, ...]:
        """Returns values, sessions, the mask of patches and the numbers of masked patches."""
        return self.observed, self.sessions, self.patch_mask, self.n_masked

    def spikes_only(self) -> "SpikeBatch":
        """Returns the same segments with unmasked spikes instead of the LFP.

        Raises:
            TeacherError: the batch has no spikes.
        """
        if self.privileged is None or self.privileged_valid is None:
            raise TeacherError("a spike teacher needs spikes, but this batch has none; predict with a student")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values.update(observed=self.privileged, target=self.privileged, target_valid=self.privileged_valid)
        values.update(patch_mask=None, n_masked=None)
        return SpikeBatch(**{**values, "privileged": None, "privileged_valid": None})

    def with_spikes(self) -> "JointBatch":
        """Returns the same segments with unmasked spikes, in the first columns, and the unmasked LFP.

        Raises:
            TeacherError: the batch has no spikes.
        """
        if self.privileged is None or self.privileged_valid is None:
            raise TeacherError(
                "a multimodal network needs spikes and LFP, but this batch has no spikes; predict with a student"
            )
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        spikes_and_lfp = torch.cat([self.privileged, self.observed], -1)
        spikes_and_lfp_valid = torch.cat([self.privileged_valid, self.target_valid], -1)
        values.update(
            observed=spikes_and_lfp,
            target=spikes_and_lfp,
            target_valid=spikes_and_lfp_valid,
            patch_mask=None,
            n_masked=None,
        )
        values.update(privileged=None, privileged_valid=None)
        return JointBatch(**values, n_units=self.privileged.shape[-1])


@dataclass(kw_only=True)
class SpikeBatch(SessionBatch):
    """Segments with spikes as the observed activity and the target."""

    def spikes_only(self) -> "SpikeBatch":
        """Returns the batch itself."""
        return self


@dataclass(kw_only=True)
class JointBatch(SessionBatch):
    """Segments with spikes and LFP as the observed activity and the target.

    Attributes:
        n_units: N, number of columns with spikes; the columns of the LFP follow.
    """

    n_units: int

    def with_spikes(self) -> "JointBatch":
        """Returns the batch itself."""
        return self

    def inputs(self) -> tuple[Any, ...]:
        """Returns values, sessions, the mask of patches, the number of units and the numbers of masked patches."""
        *inputs, n_masked = super().inputs()
        return *inputs, self.n_units, n_masked


@dataclass(frozen=True)
class LFPSession:
    """Tensors of a session: T bins, C channels, N units, D channels of behavior.

    Attributes:
        info: name, subject and ids of channels and units.
        lfp: (T, C) float32, z-scored, 0 where missing.
        lfp_valid: (T, C) bool.
        spikes: (T, N) uint8.
        behavior: (T, D) float32, z-scored, NaN where missing.
        segments: start bins of the train, val and test segments.
    """

    info: SessionInfo
    lfp: Tensor
    lfp_valid: Tensor
    spikes: Tensor
    behavior: Tensor
    segments: SegmentSplit

    @classmethod
    def from_recording(cls, recording: CrossModalRecording, length: int, split: str, seed: int) -> "LFPSession":
        """Splits a recording into segments and z-scores it on the training segments.

        Args:
            recording: the recording.
            length: bins per segment.
            split: "random" or "blocks", see `split_segments`.
            seed: seed of the split.
        """
        split_starts = split_segments(recording.n_bins, length, split, seed)  # type: ignore[arg-type]
        lfp, behavior = (
            torch.from_numpy(standardize_channels(values, split_starts.train, length))
            for values in (recording.lfp, recording.behavior)
        )
        return cls(
            recording.info,
            lfp.nan_to_num(0.0),
            lfp.isfinite(),
            torch.from_numpy(np.ascontiguousarray(recording.spikes)),
            behavior,
            split_starts,
        )

    def segment_starts(self, subset: str) -> np.ndarray:
        """Returns the start bins of the segments of a split."""
        starts: np.ndarray = getattr(self.segments, subset)
        return starts

    def to(self, device: torch.device) -> "LFPSession":
        """Returns a copy on another device."""
        names = ("lfp", "lfp_valid", "spikes", "behavior")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class SegmentBatchIndex:
    """Sessions and start bins of the segments of one batch.

    Attributes:
        sessions: (B,) index of the session of each segment of this rank, in increasing order.
        starts: (B,) first bins of the segments.
        rows: (B,) positions of the segments in the global batch.
        global_size: number of segments of all ranks.
    """

    sessions: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    global_size: int

    @classmethod
    def for_rank(cls, sessions: np.ndarray, starts: np.ndarray, rank: int, world_size: int) -> "SegmentBatchIndex":
        """Returns the part of a global batch that belongs to a rank."""
        order = np.argsort(sessions, kind="stable")
        rows = np.arange(len(order))[rank::world_size]
        return cls(sessions[order][rows], starts[order][rows], rows, len(order))


class BalancedSessionSampler:
    """Draws equally many segments of every session, in a new order each epoch.

    The number of batches per epoch is that of all segments together. A session with fewer segments than its share is
    repeated in another order; one with more segments contributes a random subset.

    Args:
        starts: first bins of the segments, for each session.
        batch_size: segments per batch and rank.
        seed: seed of the run, equal on all ranks.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self, starts: Sequence[np.ndarray], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.starts, self.global_batch_size = starts, batch_size * world_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, sum(map(len, self.starts)) // self.global_batch_size)

    def __iter__(self) -> Iterator[SegmentBatchIndex]:
        rng = np.random.default_rng((self.seed, self.epoch))
        n_sessions = len(self.starts)
        n_drawn = len(self) * self.global_batch_size
        # Cycling through the sessions rotates which of them have one segment more in a batch.
        session_index = np.arange(n_drawn) % n_sessions
        segment_starts = np.empty(n_drawn, np.int64)
        for session, starts in enumerate(self.starts):
            n_required = int((session_index == session).sum())
            n_repeats = max(1, -(-n_required // len(starts)))
            segment_starts[session_index == session] = np.concatenate(
                [rng.permutation(starts) for _ in range(n_repeats)]
            )[:n_required]
        for first in range(0, n_drawn, self.global_batch_size):
            batch = slice(first, first + self.global_batch_size)
            yield SegmentBatchIndex.for_rank(session_index[batch], segment_starts[batch], self.rank, self.world_size)


class SequentialSegmentSampler(FixedBatchSampler[SegmentBatchIndex]):
    """Goes through every segment once, in order.

    Args:
        starts: first bins of the segments, for each session.
        batch_size: maximum number of segments per batch and rank.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(self, starts: Sequence[np.ndarray], batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        sessions = np.repeat(np.arange(len(starts)), [len(session_starts) for session_starts in starts])
        session_and_start = np.stack([sessions, np.concatenate(starts)])
        global_batch_size = batch_size * world_size
        batch_slices = [
            slice(first, first + global_batch_size) for first in range(0, session_and_start.shape[1], global_batch_size)
        ]
        super().__init__(
            [
                SegmentBatchIndex.for_rank(session_and_start[0, batch], session_and_start[1, batch], rank, world_size)
                for batch in batch_slices
            ]
        )


class SegmentLoader(BatchLoader[SegmentBatchIndex, SessionBatch]):
    """Iterates over `SessionBatch`es on the device of the sessions.

    Args:
        sessions: the sessions, in the order of the sampler.
        sampler: yields the index of each batch. Lightning sets its epoch.
        length: T, bins per segment.
        n_channels: C, at least the number of channels of the widest session.
        n_units: N, at least the number of units of the widest session.
    """

    def __init__(
        self,
        sessions: Sequence[LFPSession],
        sampler: BatchSampler[SegmentBatchIndex],
        length: int,
        n_channels: int,
        n_units: int,
    ) -> None:
        super().__init__(sampler)
        self.sessions, self.length = sessions, length
        self.n_channels, self.n_units = n_channels, n_units

    def gather(self, index: SegmentBatchIndex) -> SessionBatch:
        device = self.sessions[0].lfp.device
        shape = len(index.starts), self.length
        lfp, spikes = (torch.zeros(*shape, n_columns, device=device) for n_columns in (self.n_channels, self.n_units))
        lfp_valid, spikes_valid = (torch.zeros_like(values, dtype=torch.bool) for values in (lfp, spikes))
        behavior = torch.zeros(*shape, self.sessions[0].behavior.shape[1], device=device)
        starts = to_device_async(torch.from_numpy(index.starts), device)
        bins = starts[:, None] + torch.arange(self.length, device=device)
        for session_index in np.unique(index.sessions):
            first, last = np.searchsorted(index.sessions, [session_index, session_index + 1])
            session, rows, segment_bins = self.sessions[session_index], slice(first, last), bins[first:last]
            n_channels, n_units = session.lfp.shape[1], session.spikes.shape[1]
            lfp[rows, :, :n_channels] = session.lfp[segment_bins]
            lfp_valid[rows, :, :n_channels] = session.lfp_valid[segment_bins]
            spikes[rows, :, :n_units] = session.spikes[segment_bins].float()
            spikes_valid[rows, :, :n_units] = True
            behavior[rows] = session.behavior[segment_bins]
        behavior_valid = behavior.isfinite()
        return SessionBatch(
            observed=lfp,
            target=lfp,
            target_valid=lfp_valid,
            index=starts,
            global_rows=to_device_async(torch.from_numpy(index.rows), device),
            global_size=index.global_size,
            privileged=spikes,
            privileged_valid=spikes_valid,
            sessions=tuple(self.sessions[session_index].info.name for session_index in index.sessions),
            behavior=behavior.nan_to_num(0.0),
            behavior_valid=behavior_valid,
        )
