"""results.json: what a run found, and all that is needed to judge and repeat it."""

import json
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_file

RESULTS_FILE = "results.json"
PACKAGES = ("blend-pl", "torch", "lightning", "torchmetrics", "numpy", "scipy")


def write_results(run: Path, **entries: Any) -> None:
    """Writes a run's results beside its checkpoints, with date, versions and git commit.

    Args:
        run: the run's folder.
        entries: JSON values.

    Raises:
        DataError: the folder cannot be written.
    """
    results = {
        **entries,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {package: metadata.version(package) for package in PACKAGES},
        "commit": _commit(),
    }
    with atomic_file(run / RESULTS_FILE) as path:
        path.write_text(json.dumps(results, indent=2) + "\n")


def read_results(run: Path) -> dict[str, Any]:
    """Reads a finished run's results.

    Raises:
        DataError: the run has none, or the file is damaged.
    """
    try:
        return json.loads((run / RESULTS_FILE).read_text())
    except FileNotFoundError:
        raise DataError(
            f"{run} has no {RESULTS_FILE}: that run has not finished; go on with --ckpt_path {run}/checkpoints/last.ckpt"
        ) from None
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"cannot read {run / RESULTS_FILE}: {error}; run that experiment again") from error


def _commit() -> str | None:
    """The commit of the package's source, marked where files differ from it; None outside a checkout."""
    package_dir = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=package_dir, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=package_dir,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")
