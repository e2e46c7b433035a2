"""`python -m blend_pl.utils.child PARENT COMMAND...`: runs a command that is told to end when its parent is gone.

A parent that is killed cannot end what it started. On Linux the kernel does so, by SIGTERM; elsewhere it goes on.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Becomes the command."""
    parent_pid, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        # It may have died before it could be watched.
        if os.getppid() != int(parent_pid):
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    die_with_parent()
