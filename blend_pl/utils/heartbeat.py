"""`python -m blend_pl.utils.heartbeat HEARTBEAT_FILE... -- COMMAND...`: touches files while a command runs.

The heartbeat follows the command itself, not its launcher, which may have exited.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal

from blend_pl.utils.signals import TERMINATION_SIGNALS

HEARTBEAT_S = 2.0
"""Heartbeat interval in seconds."""


def exec_with_heartbeat() -> None:
    """Replaces this process with the command (exec).

    A child process, forked before, touches the heartbeat files until the command exits.
    """
    separator = sys.argv.index("--")
    heartbeat_files, command = sys.argv[1:separator], sys.argv[separator + 1 :]
    command_pid = os.getpid()
    if os.fork():
        os.execvp(command[0], command)
    # Schedulers signal every process of a job; the heartbeat continues until the command itself has exited.
    for signum in (*TERMINATION_SIGNALS, SIGINT):
        signal(signum, SIG_IGN)
    while os.getppid() == command_pid:
        for heartbeat_file in heartbeat_files:
            # Ignore I/O errors: a network file system may recover.
            with suppress(OSError):
                Path(heartbeat_file).touch()
        time.sleep(HEARTBEAT_S)


if __name__ == "__main__":
    exec_with_heartbeat()
