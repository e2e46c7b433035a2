"""Signatures: the sizes and ids on which a model and its data must agree."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Signature:
    """What must agree between a session and a model trained on it; plain values, fit for a checkpoint.

    Attributes:
        name: name of the set.
        bin_ms: bin width.
        n_observed: T, bins a model sees.
        n_forward: F, bins after them that it predicts.
        n_heldin: C, units a model sees.
        n_privileged: D, privileged channels.
        unit_id: ids of all N units, held-in first.
    """

    name: str
    bin_ms: int
    n_observed: int
    n_forward: int
    n_heldin: int
    n_privileged: int
    unit_id: tuple[int | str, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A signature as `values` wrote it."""
        return cls(**{**values, "unit_id": tuple(values["unit_id"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {**asdict(self), "unit_id": list(self.unit_id)}

    @property
    def n_units(self) -> int:
        """N, held-in and held-out units together."""
        return len(self.unit_id)

    def can_teach(self, student: "Signature") -> bool:
        """Whether a teacher of this signature can teach a student of another: here, of the very same one."""
        return self == student

    def is_compatible_with(self, session: "Signature") -> bool:
        """Whether a model of this signature can run on a session: same bins, and as many units to look at."""
        sizes = ("bin_ms", "n_observed", "n_forward", "n_heldin")
        return all(getattr(self, size) == getattr(session, size) for size in sizes)

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.n_heldin} of {self.n_units} units held in, {self.n_observed} + {self.n_forward} bins "
            f"of {self.bin_ms} ms, {self.n_privileged} privileged channels)"
        )


@dataclass(frozen=True)
class SessionInfo:
    """One session of a set.

    Attributes:
        name: its name.
        subject: the animal.
        channel_id: ids of the LFP channels.
        unit_id: ids of the units.
    """

    name: str
    subject: str
    channel_id: tuple[str, ...]
    unit_id: tuple[str, ...]


@dataclass(frozen=True)
class MultiSessionSignature(Signature):
    """Several sessions of different channels; what is observed is the LFP, what is privileged the spikes.

    `n_heldin` and `n_privileged` are those of the widest session, and `unit_id` is empty: each session has its own.

    Attributes:
        sessions: the sessions.
        n_behavior: channels of behaviour.
    """

    sessions: tuple[SessionInfo, ...] = ()
    n_behavior: int = 0

    @classmethod
    def from_sessions(
        cls, name: str, bin_ms: int, length: int, sessions: Sequence[SessionInfo], n_behavior: int
    ) -> Self:
        """A set of sessions, cut into segments of `length` bins."""
        channels, units = (max(len(getattr(session, ids)) for session in sessions) for ids in ("channel_id", "unit_id"))
        return cls(name, bin_ms, length, 0, channels, units, (), tuple(sessions), n_behavior)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        sessions = [
            SessionInfo(**{**session, "channel_id": tuple(session["channel_id"]), "unit_id": tuple(session["unit_id"])})
            for session in values["sessions"]
        ]
        return cls(**{**values, "unit_id": (), "sessions": tuple(sessions)})

    def to_dict(self) -> dict[str, Any]:
        sessions = [
            {**asdict(session), "channel_id": [*session.channel_id], "unit_id": [*session.unit_id]}
            for session in self.sessions
        ]
        return {**vars(self), "unit_id": [], "sessions": sessions}

    def is_compatible_with(self, other: Signature) -> bool:
        """Whether a model of these sessions can run on others: equal bins, and of those in both, equal channels.

        Segments may have another length, and sessions that the model does not know may be registered.
        """
        return (
            isinstance(other, MultiSessionSignature)
            and self.bin_ms == other.bin_ms
            and not self._conflicting_sessions(other.sessions)
        )

    def can_teach(self, student: Signature) -> bool:
        """Whether a teacher of these sessions knows every one of a student's."""
        if not (isinstance(student, MultiSessionSignature) and self.is_compatible_with(student)):
            return False
        return {session.name for session in student.sessions} <= {session.name for session in self.sessions}

    def _conflicting_sessions(self, others: Sequence[SessionInfo]) -> list[str]:
        infos_by_name = {session.name: session for session in self.sessions}
        return [other.name for other in others if infos_by_name.get(other.name, other) != other]

    def __str__(self) -> str:
        names = [session.name for session in self.sessions]
        listing = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"{self.name} ({len(names)} session(s): {listing}; {self.n_observed} bins of {self.bin_ms} ms)"
