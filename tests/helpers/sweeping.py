"""What the tests of sweeps run in processes of their own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from blend_pl.__main__ import main
from blend_pl.sweep.file import read_sweep
from blend_pl.sweep.journal import Journal


def command(words: list[str], environment: Mapping[str, str]) -> None:
    """A command line to its exit status."""
    os.environ.update(environment)
    sys.argv = words
    sys.exit(main())


def claim(folder: Path, file: Path) -> None:
    """Takes the first trial of a sweep and is gone."""
    Journal(folder, read_sweep(file)).claim(1)
