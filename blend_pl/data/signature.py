"""Signatures: the sizes and ids on which a model and its data must agree."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Signature:
    """Sizes and ids on which a session and a model trained on it must agree; stored in checkpoints.

    Attributes:
        name: name of the data set.
        bin_ms: bin width.
        n_observed: T, bins in a model's input.
        n_forward: F, bins after the input that it predicts.
        n_heldin: C, units in a model's input.
        n_privileged: D, privileged channels.
        unit_id: ids of all N units, held-in first.

    Example:
        >>> session = Signature("reach", 20, 30, 10, n_heldin=2, n_privileged=2, unit_id=(7, 9, 12))
        >>> print(session)
        reach (2 of 3 units held in, 30 + 10 bins of 20 ms, 2 privileged channels)
        >>> Signature.from_dict(session.to_dict()) == session
        True
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
        """Restores a signature from the result of `to_dict`."""
        return cls(**{**values, "unit_id": tuple(values["unit_id"])})

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for a checkpoint."""
        return {**asdict(self), "unit_id": list(self.unit_id)}

    @property
    def n_units(self) -> int:
        """N, held-in and held-out units together."""
        return len(self.unit_id)

    def can_teach(self, student: "Signature") -> bool:
        """Whether a teacher of this signature can teach a student of another; here they must be equal."""
        return self == student

    def is_compatible_with(self, session: "Signature") -> bool:
        """Whether a model of this signature can run on a session: equal bins and equally many held-in units."""
        sizes = ("bin_ms", "n_observed", "n_forward", "n_heldin")
        return all(getattr(self, size) == getattr(session, size) for size in sizes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.n_heldin} of {self.n_units} units held in, {self.n_observed} + {self.n_forward} bins "
            f"of {self.bin_ms} ms, {self.n_privileged} privileged channels)"
        )


@dataclass(frozen=True)
class SessionInfo:
    """One session of a data set.

    Attributes:
        name: name of the session.
        subject: the animal.
        channel_id: ids of the LFP channels.
        unit_id: ids of the units.
    """

    name: str
    subject: str
    channel_id: tuple[str, ...]
    unit_id: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class MultiSessionSignature(Signature):
    """Several sessions with different channels; the LFP is observed and the spikes are privileged.

    `n_heldin` and `n_privileged` are those of the widest session, and `unit_id` is empty: ids are in `sessions`.

    Attributes:
        sessions: the sessions.
        n_behavior: channels of behavior.
    """

    sessions: tuple[SessionInfo, ...] = ()
    n_behavior: int = 0

    @classmethod
    def from_sessions(
        cls, name: str, bin_ms: int, length: int, sessions: Sequence[SessionInfo], n_behavior: int
    ) -> Self:
        """Returns the signature of sessions that are divided into segments of `length` bins."""
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
        """Whether a model of these sessions can run on others: equal bins, and equal channels in common sessions.

        The length of segments may differ, and sessions that are new to the model can be registered.
        """
        return (
            isinstance(other, MultiSessionSignature)
            and self.bin_ms == other.bin_ms
            and not self._conflicting_sessions(other.sessions)
        )

    def can_teach(self, student: Signature) -> bool:
        """Whether a teacher was trained on every session of a student."""
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
