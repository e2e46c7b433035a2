"""`python -m blend_pl`."""

import sys

from blend_pl.cli.errors import exit_status
from blend_pl.cli.main import run_command


def main() -> int:
    """Runs the command line and returns its exit status."""
    return exit_status(lambda: run_command(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
