"""`python -m blend_pl.utils.heartbeat FILE... -- COMMAND...`: runs a command and touches files while it runs.

The heartbeat follows the command, not its launcher, which may have exited.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal

from blend_pl.utils.signals import TERMINATION_SIGNALS

HEARTBEAT_S = 2.0
"""Seconds between two heartbeats."""


def exec_with_heartbeat() -> None:
    """Replaces this process by the command, with a child process that touches the files."""
    separator = sys.argv.index("--")
    heartbeat_files, command = sys.argv[1:separator], sys.argv[separator + 1 :]
    command_pid = os.getpid()
    if os.fork():
        os.execvp(command[0], command)
    # Schedulers signal all processes of a job, and the command may need time to end.
    for signum in (*TERMINATION_SIGNALS, SIGINT):
        signal(signum, SIG_IGN)
    while os.getppid() == command_pid:
        for heartbeat_file in heartbeat_files:
            # A network disk may be unavailable for a while.
            with suppress(OSError):
                Path(heartbeat_file).touch()
        time.sleep(HEARTBEAT_S)


if __name__ == "__main__":
    exec_with_heartbeat()
