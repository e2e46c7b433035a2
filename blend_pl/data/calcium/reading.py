"""Reading of calcium recordings in any layout: the published tree, a simulated tree, or NWB files."""

from pathlib import Path
from typing import Literal

from blend_pl.data.calcium.archive import fetch_bugeon_dataset
from blend_pl.data.calcium.nwb import read_calcium_nwb
from blend_pl.data.calcium.recording import CalciumRecording
from blend_pl.data.calcium.simulation import BugeonSimulation, write_bugeon_dataset
from blend_pl.data.calcium.spec import CalciumNWBNames, CalciumSpec
from blend_pl.data.calcium.tree import read_bugeon_dataset
from blend_pl.data.io.generated import settings_json, simulation_folder
from blend_pl.data.io.nwb import open_nwb, read_subject_id
from blend_pl.data.io.session_files import find_session_files, require_distinct_recordings, session_names
from blend_pl.errors import DataError


def read_bugeon_recordings(
    spec: CalciumSpec,
    root: Path,
    source: Literal["files", "simulated"] = "files",
    simulation: BugeonSimulation = BugeonSimulation(),  # noqa: B008
) -> list[CalciumRecording]:
    """Reads the runs of a spec from the published or a simulated tree.

    Args:
        spec: specifies recordings and behavior.
        root: data folder; the tree is searched below it, and downloaded or simulated into it.
        source: "files" reads the published tree; "simulated" first writes a tree of `simulation`.
        simulation: parameters of the simulated tree.

    Raises:
        DataError: the tree is missing and cannot be downloaded, or a recording cannot be used.
        ConfigError: the tree does not have the behavior.
    """
    return read_bugeon_dataset(spec, locate_bugeon_dataset(spec, root, source, simulation))


def locate_bugeon_dataset(
    spec: CalciumSpec, root: Path, source: Literal["files", "simulated"], simulation: BugeonSimulation
) -> Path:
    """Returns the root of the published or a simulated tree, downloaded or simulated first if it is missing.

    Arguments and errors are those of `read_bugeon_recordings`.
    """
    if source == "files":
        return fetch_bugeon_dataset(spec, root)
    folder = simulation_folder(root, settings_json(simulation), "tree-")
    write_bugeon_dataset(simulation, folder)
    return folder


def read_nwb_recordings(spec: CalciumSpec, root: Path, names: CalciumNWBNames) -> list[CalciumRecording]:
    """Reads the NWB files that match the patterns and mice of a spec, ordered by path.

    Args:
        spec: specifies files and behavior.
        root: data folder.
        names: names of series and columns in the files.

    Raises:
        DataError: no file matches, one cannot be used, or two contain the same recording.
    """
    paths = find_session_files(spec.recordings, root, "data.spec.recordings")
    session_of_path = dict(zip(paths, session_names(paths, root), strict=True))
    selected_paths = [path for path in paths if not spec.mice or _mouse_of(path, session_of_path[path]) in spec.mice]
    if not selected_paths:
        raise DataError(
            f"no file in {root} matches {' or '.join(spec.recordings)} and the mice of the spec; correct data.root, "
            "data.spec.recordings or data.spec.mice"
        )
    recordings = [read_calcium_nwb(path, spec, names, session_of_path[path]) for path in selected_paths]
    activity_by_path = {path: recording.activity for path, recording in zip(selected_paths, recordings, strict=True)}
    require_distinct_recordings(activity_by_path, "data.spec.recordings")
    return recordings


def _mouse_of(path: Path, session: str) -> str:
    with open_nwb(path) as file:
        return read_subject_id(file, session)
