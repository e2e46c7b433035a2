"""Owners of trials: processes on this machine or on others that share the disk, and whether they still run."""

import os
import socket
import time
from pathlib import Path

STALE_AFTER_S = 180.0
"""Seconds without a heartbeat after which an owner on another machine is gone; network disks delay it by up to 60 s."""


def host_id() -> str | None:
    """Returns a string that identifies this machine since its last boot and its PID namespace; None if unknown."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot_id} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def process_id(pid: int) -> str | None:
    """Returns PID and start time of a process, unique until the next boot; None if it is gone or a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else f"{pid} {fields[18]}"


def current_owner(pid: int) -> list[str | None]:
    """Returns the owner record of a process of this machine: `host_id` and `process_id`."""
    return [host_id(), process_id(pid)]


class HeartbeatMonitor:
    """Tells whether owners still run.

    An owner on this machine is looked up by its PID. An owner on another machine touches a heartbeat file; it is gone
    if this process has seen no change of the file for `stale_after_s` seconds, so clocks need not agree.

    Args:
        stale_after_s: seconds without a heartbeat after which an owner on another machine is gone.
    """

    def __init__(self, stale_after_s: float = STALE_AFTER_S) -> None:
        self.stale_after_s = stale_after_s
        self.last_changes: dict[Path, tuple[int | None, float]] = {}

    def is_stale(self, owners: list[list[str | None]], heartbeat_file: Path) -> bool:
        """Returns whether none of the owners still runs.

        Args:
            owners: records of `current_owner`.
            heartbeat_file: file that they touch.
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
