"""Reader of the published file tree (Bugeon et al., 2022): `.npy` and `.txt` files below mouse, date, stimulus, run."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blend_pl.data.calcium.recording import CalciumRecording, at_frames, one_hot, require_increasing
from blend_pl.data.calcium.spec import SERIES, STATES, CalciumSpec
from blend_pl.errors import ConfigError, DataError

MOUSE = re.compile(r"SB\d+")
CELLS = "neuron.ttype.txt"


@dataclass(frozen=True)
class CellTable:
    """The N cells of one session (mouse and date), which all its runs share."""

    cell: np.ndarray
    identified: np.ndarray
    label: np.ndarray
    position: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def read_tree(spec: CalciumSpec, root: Path) -> list[CalciumRecording]:
    """Reads the runs that the spec names, of the mice that it names.

    Args:
        spec: says which recordings and which behaviour.
        root: folder that holds the mice's folders.

    Returns:
        The recordings, ordered by mouse, date and run.

    Raises:
        DataError: nothing matches; a file is missing, damaged or of the wrong length; a run does not fit the cell
            table; time stamps out of order; a cell id that appears twice in a session.
        ConfigError: behaviour that the tree does not have.
    """
    for name in spec.behavior:
        if name not in SERIES:
            raise ConfigError(f"data.spec.behavior names {name!r}; the published tree has {', '.join(SERIES)}")
    runs = [(session, run) for session in _sessions(spec, root) for run in _runs(spec, session)]
    if not runs:
        raise DataError(
            f"no session in {root} has a run {' or '.join(spec.recordings)}; correct data.spec.recordings, as in "
            "'Blank/01' or '*/01'"
        )
    return [read_run(spec, session, run) for session, run in runs]


def _sessions(spec: CalciumSpec, root: Path) -> list[Path]:
    mice = spec.mice or sorted(path.name for path in root.glob("*") if MOUSE.fullmatch(path.name))
    sessions = [path.parent for mouse in mice for path in sorted(root.glob(f"{mouse}/*/{CELLS}"))]
    for mouse in mice:
        if not any(session.parent.name == mouse for session in sessions):
            raise DataError(f"{root / mouse} holds no session with {CELLS}; correct data.root or data.spec.mice")
    if not sessions:
        raise DataError(f"{root} holds no folder of a mouse such as SB025; correct data.root")
    return sessions


def _runs(spec: CalciumSpec, session: Path) -> list[Path]:
    return sorted({path for pattern in spec.recordings for path in session.glob(pattern) if path.is_dir()})


def read_cells(session: Path) -> CellTable:
    """The cell table of a session.

    A cell with a UniqueID is known by it and its mouse; others are known in this session alone.

    Raises:
        DataError: see `read_tree`.
    """
    try:
        label = np.array((session / CELLS).read_text().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {session / CELLS}: {error}; fetch the tree again") from error
    label = np.char.strip(label[: len(label) - (label[-1].strip() == "")])
    unique = _load(session / "neuron.UniqueID.npy", len(label), "cells")
    position = _load(session / "neuron.stackPosCorrected.npy", len(label), "cells", width=None)
    if position.shape[1] == 2:
        position = np.column_stack([position, _load(session / "neuron.depth.npy", len(label), "cells")])
    identified = np.isfinite(unique)
    ids, count = np.unique(unique[identified], return_counts=True)
    if (count > 1).any():
        raise DataError(f"{session} has the UniqueID {int(ids[count > 1][0])} twice; give every cell one row")
    mouse, date = session.parent.name, session.name
    cell = [
        f"{mouse}/{int(value)}" if known else f"{mouse}/{date}/row{row}"
        for row, (value, known) in enumerate(zip(unique, identified, strict=True))
    ]
    return CellTable(np.array(cell), identified, label, position.astype(np.float32))


def read_run(spec: CalciumSpec, session: Path, run: Path) -> CalciumRecording:
    """One run of a session, behaviour brought onto its frames.

    Raises:
        DataError: see `read_tree`.
    """
    cells = read_cells(session)
    activity = _load(run / "frame.neuralActivity.npy", None, "frames", width=None)
    if activity.shape[1] != len(cells):
        raise DataError(
            f"{run} has {activity.shape[1]} neurons, the cell table of {session} has {len(cells)}; leave this run out "
            "of data.spec.recordings"
        )
    frames = _load(run / "frame.times.npy", len(activity), "frames")
    require_increasing(frames, str(run / "frame.times.npy"))
    channels = [_at_frames(run, SERIES[name], frames)[:, None] for name in spec.behavior]
    if spec.state:
        path = run / "frame.states.npy"
        channels.append(one_hot(_load(path, len(activity), "frames"), str(path)))
    return CalciumRecording(
        name=run.relative_to(session.parents[1]).as_posix(),
        mouse=session.parent.name,
        times=frames,
        activity=activity.astype(np.float32, copy=False),
        behavior=np.concatenate(channels, axis=1) if channels else np.empty((len(activity), 0), np.float32),
        states=len(STATES) if spec.state else 0,
        cell=cells.cell,
        identified=cells.identified,
        label=cells.label,
        position=cells.position,
    )


def _at_frames(run: Path, series: str, frames: np.ndarray) -> np.ndarray:
    clock = run / f"{series.split('.')[0]}.times.npy"
    times = _load(clock, None, "samples")
    require_increasing(times, str(clock))
    return at_frames(times, _load(run / f"{series}.npy", len(times), f"samples of {clock.name}"), frames)


def _load(path: Path, rows: int | None, of: str, width: int | None = 1) -> np.ndarray:
    """An array of numbers: (rows,) for width 1, else (rows, any width)."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; fetch the tree again, or leave this recording out") from None
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {path} ({reason}); it is damaged: fetch it again") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path} holds {array.dtype}; an array of numbers is needed")
    if width == 1:
        array = array.astype(np.float64).reshape(-1)
    elif array.ndim != 2:
        raise DataError(f"{path} has shape {array.shape}; a table of two dimensions is needed")
    if rows is not None and len(array) != rows:
        raise DataError(f"{path} has {len(array)} rows, there are {rows} {of}; fetch the tree again")
    return array
