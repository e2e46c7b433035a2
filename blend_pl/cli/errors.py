"""Errors that end a command, as one line and an exit status."""

import errno
import os
import signal
import sys
from collections.abc import Callable

from blend_pl.errors import BlendError

BROKEN_PIPE_STATUS = 128 + signal.SIGPIPE
"""Exit status of a program that a closed pipe ends."""
WRITE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def exit_status(command: Callable[[], object]) -> int:
    """Runs a command and returns its exit status; prints the error of a user on one line."""
    try:
        command()
        sys.stdout.flush()
    except BlendError as error:
        print(f"blend_pl: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it. The interpreter also writes what remains when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_STATUS
    except OSError as error:
        # Raised by a library that writes files of the run, such as a logger.
        if error.errno not in WRITE_ERRNOS:
            raise
        path = error.filename or "a file of this run"
        print(f"blend_pl: cannot write {path}: {os.strerror(error.errno)}; free space there", file=sys.stderr)
        return BlendError.status
    return 0
