"""What a set of sessions and a model of several sessions must agree on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.nlb.session import Signature


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

    @classmethod
    def from_recording(cls, recording: CrossModalRecording) -> Self:
        """Reads it off a recording."""
        return cls(recording.name, recording.subject, tuple(recording.channel_id), tuple(recording.unit_id))


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
