"""Whose a trial is, and whether its owner is still there, on this machine or on another that shares the disk."""

import os
import socket
import time
from pathlib import Path

SILENCE = 180.0
"""Seconds without a sign after which an owner on another machine is gone; network disks show signs a minute late."""


def place() -> str | None:
    """Where process numbers mean the same as here, until the next start of the machine; None if it cannot be told."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {started} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def stamp(process: int) -> str | None:
    """What tells a process from a later one with the same number; None if there is none, or only its remains."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else f"{process} {fields[18]}"


def here(process: int) -> list[str | None]:
    """An owner, as it is written down: a place and a process."""
    return [place(), stamp(process)]


class Watch:
    """Signs of life, read by whoever waits.

    An owner in this place is asked for directly. Of any other only a file is seen that changes as long as it lives: it
    is gone when this process has seen no change for `silence` seconds. So the clocks of machines need not agree.
    """

    def __init__(self, silence: float = SILENCE) -> None:
        self.silence = silence
        self.seen: dict[Path, tuple[int | None, float]] = {}

    def gone(self, owners: list[list[str | None]], sign: Path) -> bool:
        """Whether none of the owners is there.

        Args:
            owners: what `here` gave them.
            sign: the file that they touch.
        """
        if place() is not None and all(owner[0] == place() for owner in owners):
            return not any(owner[1] is not None and stamp(int(owner[1].split()[0])) == owner[1] for owner in owners)
        try:
            changed: int | None = sign.stat().st_mtime_ns
        except OSError:
            changed = None
        now = time.monotonic()
        before, since = self.seen.setdefault(sign, (changed, now))
        if before != changed:
            self.seen[sign] = (changed, now)
            return False
        return now - since > self.silence
