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

from blend_pl.utils.signals import STOPPING

BEAT = 2.0
"""Seconds between signs of life."""


def main() -> None:
    """Becomes the command, with a child that gives the signs."""
    end = sys.argv.index("--")
    signs, command = sys.argv[1:end], sys.argv[end + 1 :]
    process = os.getpid()
    if os.fork():
        os.execvp(command[0], command)
    # Schedulers signal all processes of a job, and the command may take a while to answer.
    for number in (*STOPPING, SIGINT):
        signal(number, SIG_IGN)
    while os.getppid() == process:
        for sign in signs:
            # A network disk may come back.
            with suppress(OSError):
                Path(sign).touch()
        time.sleep(BEAT)


if __name__ == "__main__":
    main()
