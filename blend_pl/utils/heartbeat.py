"""Runs a command and touches files as long as it lives.

`python -m blend_pl.utils.heartbeat SIGN... -- COMMAND...`

Whoever started the command may be gone meanwhile: the signs are those of the command itself.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal

from blend_pl.utils.signals import TERMINATION_SIGNALS

HEARTBEAT_S = 2.0
"""Seconds between signs of life."""


def heartbeat() -> None:
    """Becomes the command, with a child that gives the signs."""
    separator = sys.argv.index("--")
    heartbeat_files, command = sys.argv[1:separator], sys.argv[separator + 1 :]
    command_pid = os.getpid()
    if os.fork():
        os.execvp(command[0], command)
    # Schedulers signal all processes of a job, and the command may take a while to answer.
    for signum in (*TERMINATION_SIGNALS, SIGINT):
        signal(signum, SIG_IGN)
    while os.getppid() == command_pid:
        for heartbeat_file in heartbeat_files:
            # A network disk may come back.
            with suppress(OSError):
                Path(heartbeat_file).touch()
        time.sleep(HEARTBEAT_S)


if __name__ == "__main__":
    heartbeat()
