"""Validation of a submission file: keys, shapes, values and the unit of the rates."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py

from blend_pl.errors import DataError
from blend_pl.submission.array_checks import check_arrays, check_names
from blend_pl.submission.consistency import UnrecordedSession, check_consistency, size_remark, unchecked_remark
from blend_pl.submission.layout import SessionSplits
from blend_pl.submission.rate_unit import find_unit_problem


def check_submission(path: Path, expected: Mapping[str, SessionSplits | UnrecordedSession]) -> None:
    """Checks a submission against the recordings of its sessions; without a recording, against its own arrays.

    Both forward arrays may be missing, and so may both training arrays of dmfc_rsg, which has no decoder.

    Rates are in spikes per bin, so that the mean of each array is that of the recorded counts, within a factor of 1.5;
    see `find_unit_problem` and, without a recording, `check_consistency`. Negative values are refused as log-rates.

    Args:
        path: the HDF5 file, written by any program.
        expected: session splits by group name, or what is known of a session whose recording is not available.

    Raises:
        DataError: the file is not a valid submission; the message names the first fault and its location.
    """
    with _open_submission(path) as file:
        check_open_submission(file, expected, path)
        for group, session in expected.items():
            if isinstance(session, UnrecordedSession):
                check_consistency(file[group], session, path)
            elif (problem := find_unit_problem(file[group], session, path)) is not None:
                raise DataError(problem)


def unrecorded_sessions(path: Path) -> dict[str, UnrecordedSession]:
    """Returns what the names of the sets in a submission say of their sessions.

    Raises:
        DataError: the file cannot be read, or holds no set.
    """
    with _open_submission(path) as file:
        groups = sorted(file)
    if not groups:
        raise DataError(f"{path} holds no set; write one group of arrays per set, e.g. mc_maze_20")
    return {group: UnrecordedSession.from_group(group) for group in groups}


def print_unrecorded(path: Path, sessions: Mapping[str, UnrecordedSession], phase: str | None = None) -> None:
    """Prints what was checked of sessions without a recording, and what was not.

    Args:
        path: the file, after `check_submission`.
        sessions: the sessions.
        phase: phase of the runs, whose sizes are compared with those of the benchmark; None without runs.
    """
    print(f"{path}: arrays of {', '.join(sessions)} are consistent with one another")
    if phase is not None:
        with _open_submission(path) as file:
            for group, session in sessions.items():
                remark = size_remark(file[group], group, session.bin_ms, phase)
                if remark is not None:
                    print(remark)
    print(unchecked_remark(sessions, path))


def check_open_submission(
    file: h5py.File, expected: Mapping[str, SessionSplits | UnrecordedSession], path: Path
) -> None:
    """Checks the names of the sets of an open file, and names, shapes and values of arrays of recorded sessions.

    The unit is not checked. Errors refer to the file as `path`.
    """
    check_names(set(file), set(expected), f"{path}", "set")
    for group, session in expected.items():
        if isinstance(session, SessionSplits):
            check_arrays(file[group], group, session.shapes(), f"{group} of {path}")


@contextmanager
def _open_submission(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot read {path} as HDF5: {' '.join(str(error).split())}; write it again") from error
