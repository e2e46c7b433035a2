"""Checkpoints in artifacts of Weights & Biases, referenced as `wandb:entity/project/artifact:alias`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from blend_pl.errors import TeacherError
from blend_pl.runs.folder import BEST_CHECKPOINT
from blend_pl.utils.files import atomic_folder, write_error

WANDB_PREFIX = "wandb:"
ARTIFACTS_DIR = "artifacts"
"""Folder of downloads in the folder of all runs."""
NAME_PATTERN = r"\w[\w.-]*"
REFERENCE_PATTERN = re.compile(rf"{WANDB_PREFIX}({NAME_PATTERN})/({NAME_PATTERN})/({NAME_PATTERN}):({NAME_PATTERN})")
VERSION_PATTERN = re.compile(r"v\d+")
TIMEOUT_S = 30
"""Timeout of one request in seconds."""


def fetch_artifact(reference: str, output: Path, log: Callable[[str], None]) -> Path:
    """Downloads the checkpoint of an artifact, once per version; safe across processes.

    A version, as in `:v3`, that was downloaded before needs no network; an alias, as in `:latest`, is always looked up.

    Args:
        reference: `wandb:entity/project/artifact:alias`.
        output: folder of all runs.
        log: prints messages.

    Returns:
        Path of the checkpoint, with a verified checksum; the other files of the artifact are in the same folder.

    Raises:
        TeacherError: W&B is not installed, there is no account or network, or the artifact is missing or has no
            checkpoint.
        DataError: the folder cannot be written.
    """
    match = REFERENCE_PATTERN.fullmatch(reference)
    if match is None:
        raise TeacherError(f"{reference} is not an artifact; write {WANDB_PREFIX}ENTITY/PROJECT/ARTIFACT:ALIAS")
    entity, project, name, alias = match.groups()
    folder = output / ARTIFACTS_DIR / entity / project
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            cached = (
                sorted(folder.glob(f"{name}-{alias}-*/{BEST_CHECKPOINT}")) if VERSION_PATTERN.fullmatch(alias) else []
            )
            return cached[-1] if cached else _download_artifact(reference, folder, log)
    except OSError as error:
        raise write_error(folder, error) from error


def _download_artifact(reference: str, folder: Path, log: Callable[[str], None]) -> Path:
    try:
        import wandb
        from wandb.errors import AuthenticationError, CommError, UsageError
    except ImportError:
        raise TeacherError(f'{reference} needs W&B; run pip install "blend-pl[wandb]"') from None
    entity, project, name = reference.removeprefix(WANDB_PREFIX).split("/")
    try:
        api = wandb.Api({"entity": entity, "project": project}, timeout=TIMEOUT_S)
        artifact = api.artifact(f"{entity}/{project}/{name}")
        digest = re.sub(r"\W", "", artifact.digest)[:8]
        path = folder / f"{name.split(':')[0]}-{artifact.version}-{digest}"
        if not path.exists():
            entries = artifact.manifest.entries
            if BEST_CHECKPOINT not in entries:
                raise TeacherError(f"{reference} holds no {BEST_CHECKPOINT}; name an artifact of a fit of this package")
            log(f"downloading {reference} ({artifact.version}) into {path}")
            with atomic_folder(path) as temporary_dir:
                for file in entries:
                    _download_file(artifact, file, temporary_dir)
                artifact.verify(str(temporary_dir))
    except (AuthenticationError, UsageError) as error:
        raise TeacherError(
            f"cannot access {reference} on W&B: {_one_line(error)}; run wandb login, or name a file"
        ) from error
    except (CommError, ValueError) as error:
        raise TeacherError(
            f"cannot get {reference} from W&B: {_one_line(error)}; check its name and the network"
        ) from error
    return path / BEST_CHECKPOINT


def _download_file(artifact: Any, file: str, folder: Path) -> None:
    try:
        artifact.get_entry(file).download(str(folder), skip_cache=True)
    except OSError as error:
        # Errors of the network are also OSErrors, but have no errno.
        if error.errno:
            raise
        raise ValueError(str(error)) from error


def _one_line(error: Any) -> str:
    return " ".join(str(error).split()).rstrip(".")
