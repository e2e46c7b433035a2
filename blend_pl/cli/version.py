"""Versions of the package and of the packages that determine its results."""

import platform
from importlib import metadata

from blend_pl import __version__


def format_versions() -> str:
    """Returns the text of `--version`: blend_pl, torch, lightning and Python, one per line."""
    return "\n".join(
        (
            f"blend_pl {__version__}",
            f"torch {metadata.version('torch')}",
            f"lightning {metadata.version('lightning')}",
            f"Python {platform.python_version()}",
        )
    )
