"""Whose a trial is, and whether its owner is still there, on this machine or on another that shares the disk."""

import os
import socket
import time
from pathlib import Path

STALE_AFTER_S = 180.0
"""Seconds without a sign after which an owner on another machine is gone; network disks show signs a minute late."""


def host_id() -> str | None:
    """Where process numbers mean the same as here, until the next start of the machine; None if it cannot be told."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot_id} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def process_id(pid: int) -> str | None:
    """What tells a process from a later one with the same number; None if there is none, or only its remains."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else f"{pid} {fields[18]}"


def current_owner(pid: int) -> list[str | None]:
    """An owner, as it is written down: a place and a process."""
    return [host_id(), process_id(pid)]


class HeartbeatMonitor:
    """Signs of life, read by whoever waits.

    An owner in this place is asked for directly. Of any other only a file is seen that changes as long as it lives: it
    is gone when this process has seen no change for `stale_after_s` seconds. So the clocks of machines need not agree.
    """

    def __init__(self, stale_after_s: float = STALE_AFTER_S) -> None:
        self.stale_after_s = stale_after_s
        self.last_changes: dict[Path, tuple[int | None, float]] = {}

    def is_stale(self, owners: list[list[str | None]], heartbeat_file: Path) -> bool:
        """Whether none of the owners is there.

        Args:
            owners: what `here` gave them.
            heartbeat_file: the file that they touch.
        """
        if host_id() is not None and all(owner[0] == host_id() for owner in owners):
            return not any(
                owner[1] is not None and process_id(int(owner[1].split()[0])) == owner[1] for owner in owners
            )
        try:
            mtime_ns: int | None = heartbeat_file.stat().st_mtime_ns
        except OSError:
            mtime_ns = None
        now = time.monotonic()
        previous, since = self.last_changes.setdefault(heartbeat_file, (mtime_ns, now))
        if previous != mtime_ns:
            self.last_changes[heartbeat_file] = (mtime_ns, now)
            return False
        return now - since > self.stale_after_s
