"""`python -m blend_pl.utils.child PARENT_PID COMMAND...`: runs a command that ends when its parent process ends.

On Linux, the kernel sends SIGTERM to the command when the parent exits or is killed.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Requests a SIGTERM for the end of the parent, and replaces this process by the command."""
    parent_pid, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have exited before prctl.
        if os.getppid() != int(parent_pid):
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    die_with_parent()
