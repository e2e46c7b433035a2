"""Batches of segments of several sessions, balanced between sessions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.segments import Segments, Standardisation, segments
from blend_pl.data.lfp.signature import Member
from blend_pl.data.loader import FixedPlan, Plan, PlannedBatches
from blend_pl.errors import TeacherError
from blend_pl.utils.device import sent


@dataclass(kw_only=True)
class SessionBatch(Batch):
    """B segments of T bins, each of one session; C LFP channels and N units in the widest session.

    Channels that a session has not are behind its own, 0 and not valid. The LFP is observed and the target, spikes are
    privileged. Segments of one session are neighbours.

    Attributes:
        sessions: name of each segment's session.
        behavior: (B, T, D) float, z-scored velocity, 0 where missing; no model's input.
        behavior_valid: (B, T, D) bool, where it was measured.
        hidden: (B, T, P) bool, patches that a network must not see; None for none.
        dropped: how many patches of each segment are, where the host knows.
    """

    sessions: tuple[str, ...]
    behavior: Tensor
    behavior_valid: Tensor
    hidden: Tensor | None = None
    dropped: tuple[int, ...] | None = None

    def inputs(self) -> tuple[Any, ...]:
        """Values, sessions, hidden patches and their numbers."""
        return self.observed, self.sessions, self.hidden, self.dropped

    def turned(self) -> "SpikeBatch":
        """The same segments with spikes in the place of the LFP, of which nothing is hidden.

        Raises:
            TeacherError: the batch carries no spikes.
        """
        if self.privileged is None or self.privileged_valid is None:
            raise TeacherError("a spike teacher needs spikes, and this batch carries none; predict with a student")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values.update(observed=self.privileged, target=self.privileged, target_valid=self.privileged_valid)
        values.update(hidden=None, dropped=None)
        return SpikeBatch(**{**values, "privileged": None, "privileged_valid": None})

    def joined(self) -> "JointBatch":
        """The same segments with spikes before the LFP, of which nothing is hidden.

        Raises:
            TeacherError: the batch carries no spikes.
        """
        if self.privileged is None or self.privileged_valid is None:
            raise TeacherError(
                "a multimodal network needs spikes beside the LFP, and this batch carries none; predict with a student"
            )
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        both = torch.cat([self.privileged, self.observed], -1)
        valid = torch.cat([self.privileged_valid, self.target_valid], -1)
        values.update(observed=both, target=both, target_valid=valid, hidden=None, dropped=None)
        values.update(privileged=None, privileged_valid=None)
        return JointBatch(**values, n_units=self.privileged.shape[-1])


@dataclass(kw_only=True)
class SpikeBatch(SessionBatch):
    """Segments of which spikes are observed."""

    def turned(self) -> "SpikeBatch":
        """Itself."""
        return self


@dataclass(kw_only=True)
class JointBatch(SessionBatch):
    """Segments of which spikes and LFP are observed.

    Attributes:
        n_units: N, how many columns are spikes; the LFP is behind them, patches in `hidden` alike.
    """

    n_units: int

    def joined(self) -> "JointBatch":
        """Itself."""
        return self

    def inputs(self) -> tuple[Any, ...]:
        """Values, sessions, hidden patches, how many values are counts, and how many patches are hidden."""
        *others, dropped = super().inputs()
        return *others, self.n_units, dropped


@dataclass(frozen=True)
class Session:
    """A session as tensors: T bins, C channels, N units, D channels of behaviour.

    Attributes:
        member: who it is.
        lfp: (T, C) float32, z-scored, 0 where missing.
        lfp_valid: (T, C) bool.
        spikes: (T, N) uint8.
        behavior: (T, D) float32, z-scored, NaN where missing.
        segments: start bins by part, int64: train, val and test.
    """

    member: Member
    lfp: Tensor
    lfp_valid: Tensor
    spikes: Tensor
    behavior: Tensor
    segments: Segments

    @classmethod
    def of(cls, recording: CrossModalRecording, length: int, split: str, seed: int) -> "Session":
        """Cuts and standardises a recording; z-scores are those of its training segments."""
        cut = segments(recording.n_bins, length, split, seed)  # type: ignore[arg-type]
        lfp, behavior = (
            torch.from_numpy(Standardisation.fit(values, cut.train, length).apply(values))
            for values in (recording.lfp, recording.behavior)
        )
        return cls(
            Member.of(recording),
            lfp.nan_to_num(0.0),
            lfp.isfinite(),
            torch.from_numpy(np.ascontiguousarray(recording.spikes)),
            behavior,
            cut,
        )

    def starts(self, part: str) -> np.ndarray:
        """Start bins of the segments of a part."""
        return getattr(self.segments, part)

    def to(self, device: torch.device) -> "Session":
        """The same session on another device."""
        names = ("lfp", "lfp_valid", "spikes", "behavior")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class Cut:
    """Where one batch is cut from.

    Attributes:
        sessions: number of the session of each of this rank's segments, in rising order.
        starts: their first bins.
        rows: their positions in the global batch.
        global_size: number of segments of all ranks.
    """

    sessions: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    global_size: int

    @classmethod
    def share(cls, sessions: np.ndarray, starts: np.ndarray, rank: int, world_size: int) -> "Cut":
        """A rank's share of a global batch."""
        order = np.argsort(sessions, kind="stable")
        rows = np.arange(len(order))[rank::world_size]
        return cls(sessions[order][rows], starts[order][rows], rows, len(order))


class BalancedSegments:
    """As many segments of every session, in an order drawn anew each epoch.

    An epoch has as many batches as all segments fill. A session with fewer segments than its share begins again in
    another order; of one with more, some wait for another epoch.

    Args:
        starts: first bins of the segments of each session.
        batch_size: segments a batch, per rank.
        seed: the run's seed, equal on all ranks.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self, starts: Sequence[np.ndarray], batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.starts, self.size = starts, batch_size * world_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, sum(map(len, self.starts)) // self.size)

    def __iter__(self) -> Iterator[Cut]:
        rng = np.random.default_rng((self.seed, self.epoch))
        count = len(self.starts)
        drawn = len(self) * self.size
        # Whichever sessions get one segment more than others in a batch, others do in the next.
        turns = np.arange(drawn) % count
        order = np.empty(drawn, np.int64)
        for number, starts in enumerate(self.starts):
            wanted = int((turns == number).sum())
            rounds = max(1, -(-wanted // len(starts)))
            order[turns == number] = np.concatenate([rng.permutation(starts) for _ in range(rounds)])[:wanted]
        for first in range(0, drawn, self.size):
            batch = slice(first, first + self.size)
            yield Cut.share(turns[batch], order[batch], self.rank, self.world_size)


class EverySegment(FixedPlan[Cut]):
    """Every segment once, in order.

    Args:
        starts: first bins of the segments of each session.
        batch_size: segments a batch, per rank, at most.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, starts: Sequence[np.ndarray], batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        sessions = np.repeat(np.arange(len(starts)), [len(each) for each in starts])
        both = np.stack([sessions, np.concatenate(starts)])
        size = batch_size * world_size
        places = [slice(first, first + size) for first in range(0, both.shape[1], size)]
        super().__init__([Cut.share(both[0, place], both[1, place], rank, world_size) for place in places])


class SegmentBatches(PlannedBatches[Cut, SessionBatch]):
    """Iterates over `SessionBatch`es on the device where the sessions lie.

    Args:
        sessions: the sessions that the plan counts.
        plan: which batches there are. Lightning sets its epoch.
        length: T, bins of a segment.
        channels: C, at least those of the widest session.
        units: N, at least those of the widest session.
    """

    def __init__(self, sessions: Sequence[Session], plan: Plan[Cut], length: int, channels: int, units: int) -> None:
        super().__init__(plan)
        self.sessions, self.length = sessions, length
        self.channels, self.units = channels, units

    def cut(self, cut: Cut) -> SessionBatch:
        device = self.sessions[0].lfp.device
        shape = len(cut.starts), self.length
        lfp, spikes = (torch.zeros(*shape, width, device=device) for width in (self.channels, self.units))
        lfp_valid, spikes_valid = (torch.zeros_like(block, dtype=torch.bool) for block in (lfp, spikes))
        behavior = torch.zeros(*shape, self.sessions[0].behavior.shape[1], device=device)
        starts = sent(torch.from_numpy(cut.starts), device)
        bins = starts[:, None] + torch.arange(self.length, device=device)
        for number in np.unique(cut.sessions):
            first, last = np.searchsorted(cut.sessions, [number, number + 1])
            session, rows, frames = self.sessions[number], slice(first, last), bins[first:last]
            channels, units = session.lfp.shape[1], session.spikes.shape[1]
            lfp[rows, :, :channels] = session.lfp[frames]
            lfp_valid[rows, :, :channels] = session.lfp_valid[frames]
            spikes[rows, :, :units] = session.spikes[frames].float()
            spikes_valid[rows, :, :units] = True
            behavior[rows] = session.behavior[frames]
        known = behavior.isfinite()
        return SessionBatch(
            observed=lfp,
            target=lfp,
            target_valid=lfp_valid,
            index=starts,
            rows=sent(torch.from_numpy(cut.rows), device),
            global_size=cut.global_size,
            privileged=spikes,
            privileged_valid=spikes_valid,
            sessions=tuple(self.sessions[number].member.name for number in cut.sessions),
            behavior=behavior.nan_to_num(0.0),
            behavior_valid=known,
        )
