"""Command `init`: copies experiments and the files that they are composed of into a folder."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from blend_pl.config import (
    ARMS_KEY,
    BASE_KEY,
    REFERENCE_KEYS,
    YAML_SUFFIXES,
    Config,
    bundled_dir,
    compose,
    find_config,
    read_yaml,
    split_reference,
)
from blend_pl.errors import ConfigError
from blend_pl.utils.files import write_error

DEFAULT_EXPERIMENT = "experiments/simulated_hard.yaml"


def copy_experiments(folder: str, experiments: Sequence[str] = (DEFAULT_EXPERIMENT,)) -> None:
    """Copies experiments with all files that they are composed of: bases, arms and teachers.

    The copies keep their folders, configs/ and experiments/, and can be edited; in their folder they replace the files
    of the package. Existing files are never changed; either all files are copied or none.

    Args:
        folder: folder of the copies, which is created if missing.
        experiments: experiment files; by default experiments/simulated_hard.yaml.

    Raises:
        ConfigError: an experiment is invalid, a file is outside the working directory, or another file exists.
        DataError: the folder cannot be written.
    """
    names = [Path(name) for name in experiments or (DEFAULT_EXPERIMENT,)]
    sources: dict[Path, bytes] = {}
    for name in names:
        compose(name)
        sources |= {_relative_path(file): file.read_bytes() for file in find_composed_files(find_config(name))}
    targets = {Path(folder) / path: content for path, content in sources.items()}
    for target, content in targets.items():
        if target.exists() and not (target.is_file() and target.read_bytes() == content):
            raise ConfigError(f"{target} exists with other content, nothing was copied; choose another folder")
    missing = {target: content for target, content in targets.items() if not target.exists()}
    try:
        _write_all(missing)
    except OSError as error:
        raise write_error(Path(folder), error) from error
    print(f"copied {len(missing)} files to {folder}")
    change = "" if Path(folder).samefile(".") else f"cd {shlex.quote(folder)} && "
    experiment = _relative_path(find_config(names[0]).resolve())
    print(f"train: {change}blend_pl fit {shlex.quote(str(experiment))}")


def find_composed_files(path: Path) -> list[Path]:
    """Returns the resolved paths of a config file and of all files that its composition reads.

    Args:
        path: an existing config file.
    """
    files: dict[Path, None] = {}
    remaining = [path]
    while remaining:
        file = remaining.pop().resolve()
        if file not in files:
            files[file] = None
            remaining += _named_files(file)
    return list(files)


def _named_files(path: Path) -> Iterator[Path]:
    """Yields the bases of a file and the existing files that its teachers refer to."""
    settings = read_yaml(path, "config", "holds no settings")
    yield from (find_config(path.parent / base) for base in settings.get(BASE_KEY) or [])
    sections: list[Config] = [settings, *(settings.get(ARMS_KEY) or {}).values()]
    for group, key in REFERENCE_KEYS:
        for section in sections:
            references = (section.get(group) or {}).get(key) or []
            for reference in [references] if isinstance(references, str) else references:
                files = [find_config(path.parent / name) for name in split_reference(reference)]
                yield from (file for file in files if file.is_file() and file.suffix in YAML_SUFFIXES)


def _relative_path(path: Path) -> Path:
    """Returns the path of a resolved file relative to the package, or else to the working directory."""
    for root in (bundled_dir(), Path.cwd()):
        if path.is_relative_to(root.resolve()):
            return path.relative_to(root.resolve())
    raise ConfigError(f"{path} is not below the working directory; change to the folder that contains it")


def _write_all(contents: Mapping[Path, bytes]) -> None:
    """Writes new files and their folders; removes them all if that fails or is interrupted."""
    created: list[Path] = []
    try:
        for path, content in contents.items():
            for folder in reversed(path.parents):
                if not folder.exists():
                    folder.mkdir()
                    created.append(folder)
            with path.open("xb") as file:
                created.append(path)
                file.write(content)
    except BaseException:
        for path in reversed(created):
            path.rmdir() if path.is_dir() else path.unlink()
        raise
