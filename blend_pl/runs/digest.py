"""Digest of the data in the results and checkpoints of runs."""

from collections.abc import Callable
from pathlib import Path

import torch

from blend_pl.errors import DataError
from blend_pl.runs.folder import BEST_CHECKPOINT, CHECKPOINT_DIR, LAST_CHECKPOINT
from blend_pl.runs.results import RESULTS_FILE, Results

DIGEST_KEY = "data_digest"
"""Key of the digest in checkpoints."""

DataDigest = Callable[[], str | None]
"""Returns the digest of the data now, and reads them if necessary; None if it is unknown."""


def stored_digest(run: Path) -> str | None:
    """Returns the digest of the data that a run was trained on, from its results or else from its checkpoints.

    None if the folder holds neither, or only those of version 0.1, which have no digest.
    """
    if (run / RESULTS_FILE).exists():
        try:
            return Results.read(run).digest
        except DataError:
            # As in `find_finished_run`, damaged results count as missing.
            pass
    for name in (LAST_CHECKPOINT, BEST_CHECKPOINT):
        try:
            checkpoint = torch.load(run / CHECKPOINT_DIR / name, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # torch.load raises many types of errors for damaged files, which are reported when resumed.
            continue
        digest = checkpoint.get(DIGEST_KEY) if isinstance(checkpoint, dict) else None
        if isinstance(digest, str):
            return digest
    return None


def resumable_run_dir(run_dir: Path, data_digest: DataDigest) -> Path:
    """Returns a run's folder, with the first suffix -2, -3, ... that holds no run of other data."""
    candidate, suffix = run_dir, 2
    while (stored := stored_digest(candidate)) is not None and data_digest() not in (stored, None):
        candidate, suffix = run_dir.with_name(f"{run_dir.name}-{suffix}"), suffix + 1
    return candidate


def other_data_message(model: Path | str, stored: str | None, digest: str | None) -> str | None:
    """Returns the words that a model was trained on other data than those of now.

    Args:
        model: the run, or a name of the model.
        stored: digest of the data that it was trained on.
        digest: digest of the data now.

    Returns:
        The start of a sentence; None if the digests are equal or one is unknown.
    """
    if stored in (digest, None) or digest is None:
        return None
    return f"{model} was trained on other data (digest {stored}) than those of now (digest {digest})"
