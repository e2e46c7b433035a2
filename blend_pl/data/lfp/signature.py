"""What a set of sessions and a model of several sessions must agree on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.nlb.session import Signature


@dataclass(frozen=True)
class Member:
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
    def of(cls, recording: CrossModalRecording) -> Self:
        """Reads it off a recording."""
        return cls(recording.name, recording.subject, tuple(recording.channel_id), tuple(recording.unit_id))


@dataclass(frozen=True)
class SessionSet(Signature):
    """Several sessions of different channels; what is observed is the LFP, what is privileged the spikes.

    `n_heldin` and `n_privileged` are those of the widest session, and `unit_id` is empty: each session has its own.

    Attributes:
        sessions: the sessions.
        n_behavior: channels of behaviour.
    """

    sessions: tuple[Member, ...] = ()
    n_behavior: int = 0

    @classmethod
    def of_members(cls, name: str, bin_ms: int, length: int, members: Sequence[Member], n_behavior: int) -> Self:
        """A set of sessions, cut into segments of `length` bins."""
        channels, units = (max(len(getattr(m, ids)) for m in members) for ids in ("channel_id", "unit_id"))
        return cls(name, bin_ms, length, 0, channels, units, (), tuple(members), n_behavior)

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Self:
        members = [
            Member(**{**member, "channel_id": tuple(member["channel_id"]), "unit_id": tuple(member["unit_id"])})
            for member in stored["sessions"]
        ]
        return cls(**{**stored, "unit_id": (), "sessions": tuple(members)})

    def stored(self) -> dict[str, Any]:
        members = [
            {**asdict(member), "channel_id": [*member.channel_id], "unit_id": [*member.unit_id]}
            for member in self.sessions
        ]
        return {**vars(self), "unit_id": [], "sessions": members}

    def accepts(self, session: Signature) -> bool:
        """Whether a model of these sessions can run on others: equal bins, and of those in both, equal channels.

        Segments may have another length, and sessions that the model does not know may be registered.
        """
        return (
            isinstance(session, SessionSet) and self.bin_ms == session.bin_ms and not self._differing(session.sessions)
        )

    def teaches(self, student: Signature) -> bool:
        """Whether a teacher of these sessions knows every one of a student's."""
        if not (isinstance(student, SessionSet) and self.accepts(student)):
            return False
        return {member.name for member in student.sessions} <= {member.name for member in self.sessions}

    def _differing(self, others: Sequence[Member]) -> list[str]:
        known = {member.name: member for member in self.sessions}
        return [other.name for other in others if known.get(other.name, other) != other]

    def __str__(self) -> str:
        names = [member.name for member in self.sessions]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"{self.name} ({len(names)} session(s): {shown}; {self.n_observed} bins of {self.bin_ms} ms)"
