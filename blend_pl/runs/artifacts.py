"""Checkpoints that Weights & Biases keeps: `wandb:entity/project/artifact:alias` stands for a file below the output."""

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
"""Below the output."""
NAME_PATTERN = r"\w[\w.-]*"
REFERENCE_PATTERN = re.compile(rf"{WANDB_PREFIX}({NAME_PATTERN})/({NAME_PATTERN})/({NAME_PATTERN}):({NAME_PATTERN})")
VERSION_PATTERN = re.compile(r"v\d+")
TIMEOUT_S = 30
"""Seconds for one request."""


def fetch_artifact(reference: str, output: Path, log: Callable[[str], None]) -> Path:
    """The checkpoint of an artifact, downloaded once for each version, whoever asks first.

    A version, as in `:v3`, that is there already needs no network; an alias, as in `:latest`, is asked for each time.

    Args:
        reference: `wandb:entity/project/artifact:alias`.
        output: folder of all runs.
        log: tells the user what is going on.

    Returns:
        Path of the checkpoint, its checksum that of the artifact; what else the artifact holds lies beside it.

    Raises:
        TeacherError: no W&B, no account or network, no such artifact, or one without a checkpoint.
        DataError: the output cannot be written.
    """
    match = REFERENCE_PATTERN.fullmatch(reference)
    if match is None:
        raise TeacherError(f"{reference} is no artifact; write {WANDB_PREFIX}ENTITY/PROJECT/ARTIFACT:ALIAS")
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
                raise TeacherError(
                    f"{reference} holds no {BEST_CHECKPOINT}; name an artifact that a fit of this package has left"
                )
            log(f"downloading {reference} ({artifact.version}) into {path}")
            with atomic_folder(path) as temporary_dir:
                for file in entries:
                    _download_file(artifact, file, temporary_dir)
                artifact.verify(str(temporary_dir))
    except (AuthenticationError, UsageError) as error:
        raise TeacherError(
            f"cannot ask W&B for {reference}: {_one_line(error)}; run wandb login, or name a file"
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
        # Those of the network are of this kind too, but have no number.
        if error.errno:
            raise
        raise ValueError(str(error)) from error


def _one_line(error: Any) -> str:
    return " ".join(str(error).split()).rstrip(".")
