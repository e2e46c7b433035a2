"""Files of several sessions below a data folder: their search, their names, and copies among them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from blend_pl.errors import DataError

N_DIGEST_ROWS = 1000
"""Approximate number of rows, evenly spaced, on which recordings are compared."""


def find_session_files(patterns: Sequence[str], root: Path, setting: str) -> list[Path]:
    """Returns the files below a folder that match any of the patterns, ordered by path.

    Hidden files and folders (`._day1.nwb` of macOS, `.ipynb_checkpoints`) and folders of simulated sessions are left
    out, unless a pattern names them. Several links to one file count as one.

    Args:
        patterns: glob patterns.
        root: the folder.
        setting: name of the setting of the patterns, for error messages.

    Raises:
        DataError: a pattern is invalid or matches nothing.
    """
    paths: dict[Path, Path] = {}
    for pattern in patterns:
        try:
            matches = [path for path in sorted(root.glob(pattern)) if path.is_file()]
        except (NotImplementedError, ValueError) as error:
            raise DataError(f"{setting} has {pattern!r}: {error}; write a pattern below data.root") from error
        matches = [path for path in matches if not _is_skipped(path.relative_to(root).parts, Path(pattern).parts)]
        if not matches:
            raise DataError(f"no file matches {pattern} in {root}; put it there, or set data.root or {setting}")
        for path in matches:
            paths.setdefault(path.resolve(), path)
    return sorted(paths.values())


def _is_skipped(parts: tuple[str, ...], pattern_parts: tuple[str, ...]) -> bool:
    names_hidden = any(part.startswith(".") and part != ".." for part in pattern_parts)
    is_hidden = any(part.startswith(".") and part != ".." for part in parts)
    return (is_hidden and not names_hidden) or ("simulated" in parts and "simulated" not in pattern_parts)


def session_names(paths: Sequence[Path], root: Path) -> list[str]:
    """Returns a unique name for each file: its stem, or its path below the root if several files have that stem.

    Args:
        paths: different files below the root.
        root: the data folder.

    Example:
        >>> session_names([Path("data/rat1/day1.nwb"), Path("data/rat2/day1.nwb"), Path("data/day2.nwb")], Path("data"))
        ['rat1/day1', 'rat2/day1', 'day2']
    """
    relative = [path.relative_to(root) for path in paths]
    candidates = [
        [path.stem for path in relative],
        [path.with_suffix("").as_posix() for path in relative],
        [path.as_posix() for path in relative],
    ]
    counts = [Counter(names) for names in candidates]
    return [
        next((names[k] for names, count in zip(candidates, counts, strict=True) if count[names[k]] == 1), str(path))
        for k, path in enumerate(relative)
    ]


def require_distinct_recordings(arrays: Mapping[Path, np.ndarray], setting: str) -> None:
    """Checks that no recording was read from two files, for example from a copy in another folder.

    Args:
        arrays: (T, N) activity by file.
        setting: name of the setting of the files, for the error message.

    Raises:
        DataError: two files contain the same activity.
    """
    path_of_digest: dict[tuple[tuple[int, ...], bytes], Path] = {}
    for path, array in arrays.items():
        rows = np.ascontiguousarray(array[:: max(1, len(array) // N_DIGEST_ROWS)])
        first_path = path_of_digest.setdefault((array.shape, sha256(rows.tobytes()).digest()), path)
        if first_path != path:
            raise DataError(
                f"{path} and {first_path} contain the same recording; remove one of them, or narrow {setting}"
            )
