"""Reader of the published file tree (Bugeon et al., 2022): `.npy` and `.txt` files in MOUSE/DATE/STIMULUS/RUN.

A session is one mouse on one date. Each of its runs becomes a `CalciumRecording`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blend_pl.data.calcium.recording import CalciumRecording, one_hot_states
from blend_pl.data.calcium.spec import BEHAVIOR_SERIES, BEHAVIOR_STATES, CalciumSpec
from blend_pl.data.resample import interpolate_to_frames, require_increasing
from blend_pl.errors import ConfigError, DataError

MOUSE_PATTERN = re.compile(r"SB\d+")
CELL_TYPES_FILE = "neuron.ttype.txt"


@dataclass(frozen=True)
class SessionCellTable:
    """The N cells of one session (mouse and date), shared by all its runs; see `CalciumRecording` for the fields."""

    cell_id: np.ndarray
    identified: np.ndarray
    label: np.ndarray
    position: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def read_bugeon_dataset(spec: CalciumSpec, root: Path) -> list[CalciumRecording]:
    """Reads the runs and mice of a spec.

    Args:
        spec: specifies recordings and behavior.
        root: folder that contains the folders of the mice.

    Returns:
        The recordings, ordered by mouse, date and run.

    Raises:
        DataError: nothing matches; a file is missing, damaged or of the wrong length; a run does not fit the cell
            table; timestamps are out of order; a cell id appears twice in a session.
        ConfigError: the tree does not have the behavior.
    """
    for name in spec.behavior:
        if name not in BEHAVIOR_SERIES:
            raise ConfigError(f"data.spec.behavior names {name!r}; the published tree has {', '.join(BEHAVIOR_SERIES)}")
    runs = [(session, run) for session in _find_sessions(spec, root) for run in _find_runs(spec, session)]
    if not runs:
        raise DataError(
            f"no session in {root} has a run {' or '.join(spec.recordings)}; correct data.spec.recordings, for example "
            "to 'Blank/01' or '*/01'"
        )
    return [read_bugeon_run(spec, session, run) for session, run in runs]


def _find_sessions(spec: CalciumSpec, root: Path) -> list[Path]:
    mice = spec.mice or sorted(path.name for path in root.glob("*") if MOUSE_PATTERN.fullmatch(path.name))
    sessions = [path.parent for mouse in mice for path in sorted(root.glob(f"{mouse}/*/{CELL_TYPES_FILE}"))]
    for mouse in mice:
        if not any(session.parent.name == mouse for session in sessions):
            raise DataError(
                f"{root / mouse} contains no session with {CELL_TYPES_FILE}; correct data.root or data.spec.mice"
            )
    if not sessions:
        raise DataError(f"{root} contains no folder of a mouse such as SB025; correct data.root")
    return sessions


def _find_runs(spec: CalciumSpec, session: Path) -> list[Path]:
    return sorted({path for pattern in spec.recordings for path in session.glob(pattern) if path.is_dir()})


def read_cell_table(session: Path) -> SessionCellTable:
    """Reads the cell table of a session.

    The id of a cell with a UniqueID consists of the mouse and the UniqueID; other ids are valid in this session only.

    Raises:
        DataError: see `read_bugeon_dataset`.
    """
    try:
        label = np.array((session / CELL_TYPES_FILE).read_text().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {session / CELL_TYPES_FILE}: {error}; download the tree again") from error
    label = np.char.strip(label[: len(label) - (label[-1].strip() == "")])
    unique_id = _load_array(session / "neuron.UniqueID.npy", len(label), "cells")
    position = _load_array(session / "neuron.stackPosCorrected.npy", len(label), "cells", n_columns=None)
    if position.shape[1] == 2:
        position = np.column_stack([position, _load_array(session / "neuron.depth.npy", len(label), "cells")])
    identified = np.isfinite(unique_id)
    ids, counts = np.unique(unique_id[identified], return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{session} has the UniqueID {int(ids[counts > 1][0])} twice; keep one row per cell")
    mouse, date = session.parent.name, session.name
    cell_id = [
        f"{mouse}/{int(value)}" if is_identified else f"{mouse}/{date}/row{row}"
        for row, (value, is_identified) in enumerate(zip(unique_id, identified, strict=True))
    ]
    return SessionCellTable(np.array(cell_id), identified, label, position.astype(np.float32))


def read_bugeon_run(spec: CalciumSpec, session: Path, run: Path) -> CalciumRecording:
    """Reads one run of a session and interpolates behavior onto its frames.

    Raises:
        DataError: see `read_bugeon_dataset`.
    """
    cell_table = read_cell_table(session)
    activity = _load_array(run / "frame.neuralActivity.npy", None, "frames", n_columns=None)
    if activity.shape[1] != len(cell_table):
        raise DataError(
            f"{run} has {activity.shape[1]} neurons, the cell table of {session} has {len(cell_table)}; leave this run "
            "out of data.spec.recordings"
        )
    frame_times = _load_array(run / "frame.times.npy", len(activity), "frames")
    require_increasing(frame_times, str(run / "frame.times.npy"))
    channels = [_interpolate_npy_series(run, BEHAVIOR_SERIES[name], frame_times)[:, None] for name in spec.behavior]
    if spec.state:
        path = run / "frame.states.npy"
        channels.append(one_hot_states(_load_array(path, len(activity), "frames"), str(path)))
    return CalciumRecording(
        name=run.relative_to(session.parents[1]).as_posix(),
        mouse=session.parent.name,
        times=frame_times,
        activity=activity.astype(np.float32, copy=False),
        behavior=np.concatenate(channels, axis=1) if channels else np.empty((len(activity), 0), np.float32),
        n_states=len(BEHAVIOR_STATES) if spec.state else 0,
        cell_id=cell_table.cell_id,
        identified=cell_table.identified,
        label=cell_table.label,
        position=cell_table.position,
    )


def _interpolate_npy_series(run: Path, series: str, frame_times: np.ndarray) -> np.ndarray:
    times_path = run / f"{series.split('.')[0]}.times.npy"
    times = _load_array(times_path, None, "samples")
    require_increasing(times, str(times_path))
    return interpolate_to_frames(
        times, _load_array(run / f"{series}.npy", len(times), f"samples of {times_path.name}"), frame_times
    )


def _load_array(path: Path, n_rows: int | None, row_kind: str, n_columns: int | None = 1) -> np.ndarray:
    """Loads an array of numbers: (rows,) for `n_columns` 1, else (rows, columns)."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; download the tree again, or leave this recording out") from None
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {path} ({reason}); it is damaged: download it again") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path} contains {array.dtype}; an array of numbers is required")
    if n_columns == 1:
        array = array.astype(np.float64).reshape(-1)
    elif array.ndim != 2:
        raise DataError(f"{path} has shape {array.shape}; a two-dimensional array is required")
    if n_rows is not None and len(array) != n_rows:
        raise DataError(f"{path} has {len(array)} rows, there are {n_rows} {row_kind}; download the tree again")
    return array
