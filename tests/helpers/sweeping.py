"""Functions that tests of sweeps run in child processes."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from blend_pl.__main__ import main
from blend_pl.sweep.file import read_sweep
from blend_pl.sweep.journal import Journal


def run_main(argv: list[str], environment: Mapping[str, str]) -> None:
    """Runs a command line and exits with its status."""
    os.environ.update(environment)
    sys.argv = argv
    sys.exit(main())


def claim_first_trial(folder: Path, file: Path) -> None:
    """Claims the first trial of a sweep without running it."""
    Journal(folder, read_sweep(file)).claim(1)
