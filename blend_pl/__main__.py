"""`python -m blend_pl`."""

import errno
import os
import sys

from blend_pl.cli.main import run_command
from blend_pl.errors import BlendError

WRITE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main() -> int:
    """Runs the command line; an error that the user can mend becomes one line and an exit status."""
    try:
        run_command(sys.argv[1:])
    except BlendError as error:
        print(f"blend_pl: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        # Of a library that writes for us, such as a logger.
        if error.errno not in WRITE_ERRNOS:
            raise
        path = error.filename or "a file of this run"
        print(f"blend_pl: cannot write {path}: {os.strerror(error.errno)}; free space there", file=sys.stderr)
        return BlendError.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
