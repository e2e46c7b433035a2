"""`python -m blend_pl`."""

import sys

from blend_pl.commands import run
from blend_pl.errors import BlendError


def main() -> int:
    """Runs the command line; an error that the user can mend becomes one line and an exit status."""
    try:
        run(sys.argv[1:])
    except BlendError as error:
        print(f"blend_pl: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
