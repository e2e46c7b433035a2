"""Proposal of a data file for a calcium recording, from the contents of its file."""

import glob
import re
from dataclasses import asdict, dataclass, replace

import h5py
import numpy as np

from blend_pl.data.calcium.cells import split_cells
from blend_pl.data.calcium.nwb import read_calcium_nwb
from blend_pl.data.calcium.spec import CalciumNWBNames, CalciumSpec, CellTypes
from blend_pl.data.io.behavior_candidates import SERIES_NAMES, behavior_candidates, name_rank, unique_name
from blend_pl.data.io.contents import FileContents
from blend_pl.data.io.data_file import DataFile
from blend_pl.data.io.nwb import open_nwb
from blend_pl.data.io.selection import RowSelection, read_selection_column, selection_columns
from blend_pl.errors import BlendError, DataError

ACTIVITY_NAMES = ("deconv", "dff", "df_f", "dfoverf", "fluorescence")
"""Names of traces, those without a baseline first."""
TYPE_NAMES = ("cell_type", "celltype", "type", "class", "label")
EXCITATORY = ("ec", "e", "exc", "excitatory", "pyr", "pyramidal", "glut", "glutamatergic")
INHIBITORY = ("in", "i", "inh", "inhibitory", "interneuron", "gaba", "gabaergic")
UNTYPED = ("", "unknown", "unclassified", "unlabeled", "untyped", "none", "nan", "na", "n/a", "?")
SELECTION_NAMES = ("iscell", "is_cell", "accepted", "is_accepted")
MAX_SERIES = 4
WINDOW = 200


@dataclass(frozen=True)
class _Choice:
    """Traces of a file, and what its plane segmentation says about ROIs."""

    names: CalciumNWBNames
    types: CellTypes
    rois: RowSelection | None
    reasons: dict[str, str]


def has_traces(contents: FileContents) -> bool:
    """Whether a file has traces of ROIs."""
    return any(series.neurodata_type == "RoiResponseSeries" for series in contents.series)


def propose_calcium_data_file(contents: FileContents) -> DataFile:
    """Chooses traces, ROIs, behavior and cell types, and reads the recording with them.

    Raises:
        DataError: the file has no traces, its cell types have no meaning that is known, or it cannot be read.
    """
    choice = _read_choice(contents)
    spec = CalciumSpec(
        re.sub(r"[^\w-]+", "_", contents.path.stem),
        recordings=[glob.escape(contents.path.name)],
        behavior=[],
        state=False,
        types=choice.types,
        rois=choice.rois,
    )
    behavior, rejected = [], []
    recording = read_calcium_nwb(contents.path, spec, choice.names)
    candidates = behavior_candidates(contents)
    likely = [series for series in candidates if name_rank(series.path, SERIES_NAMES) < len(SERIES_NAMES)]
    for series in likely or candidates:
        name = unique_name(series, contents)
        try:
            read_calcium_nwb(contents.path, replace(spec, behavior=[name]), choice.names)
        except BlendError as error:
            rejected.append(f"not used, {name}: {error}")
            continue
        behavior.append(name)
        if len(behavior) == MAX_SERIES:
            break
    spec = replace(spec, behavior=behavior)
    recording = read_calcium_nwb(contents.path, spec, choice.names)
    cells = split_cells([recording], spec.cells, spec.types)
    n_frames = len(recording.times)
    shorter_part = min(round(spec.train_time * n_frames), n_frames - round(spec.train_time * n_frames))
    window = min(WINDOW, shorter_part)
    sizes = ", ".join(f"{len(cells.rows_in_split(split))} {split}" for split in ("train", "val", "test"))
    reasons = choice.reasons | {
        "behavior": "each becomes a channel of privileged input" if behavior else "nothing is usable: only a baseline",
        "window": f"frames, at most those of the last quarter of {n_frames} frames, on which the model is validated",
    }
    return DataFile(
        experiment="experiments/bugeon_single_animal.yaml",
        arm="hard" if behavior else "baseline",
        class_path="blend_pl.data.calcium.CalciumNWBDataModule",
        spec=asdict(spec),
        arguments={"names": asdict(choice.names), "window": window},
        reasons=reasons,
        sizes=f"{sizes} cells, {n_frames} frames",
        remarks=[*rejected, *recording.notes],
    )


def _read_choice(contents: FileContents) -> _Choice:
    paths = [series.path for series in contents.series if series.neurodata_type == "RoiResponseSeries"]
    if not paths:
        raise DataError(f"{contents.path} has no RoiResponseSeries; choose a file with traces of ROIs")
    with open_nwb(contents.path) as file:
        tables = {path: _roi_table(file, path) for path in paths}
        best_rank = min(name_rank(path, ACTIVITY_NAMES) for path in paths)
        chosen = [path for path in paths if name_rank(path, ACTIVITY_NAMES) == best_rank]
        planes = {tables[path].name: path for path in reversed(chosen)}
        chosen = sorted(planes.values())
        activity = None if len(paths) == 1 else chosen[0] if len(chosen) == 1 else chosen
        columns = {
            name: [read_selection_column(tables[path], name) for path in chosen]
            for name in selection_columns(tables[chosen[0]])
            if all(name in tables[path] for path in chosen)
        }
        rows = np.concatenate([file[path]["rois"][()] for path in chosen]) if len(chosen) == 1 else None
    values = {name: np.concatenate(parts) for name, parts in columns.items()}
    type_columns = sorted(
        (name for name in values if name_rank(name, TYPE_NAMES) < len(TYPE_NAMES) and values[name].ndim == 1),
        key=lambda name: (values[name].dtype.kind != "U", name_rank(name, TYPE_NAMES), name),
    )
    if not type_columns:
        raise DataError(
            f"the plane segmentation of {contents.path} has no column of cell types; add one, with a value such as "
            "unknown for cells whose type is not known"
        )
    rois, reasons = _choose_rois(values)
    name = type_columns[0]
    selected = np.ones(len(values[name]), dtype=bool)
    if rois is not None:
        selected = rois.mask(values[rois.column], "the plane segmentation", "data.spec.rois")
    if rows is not None and rows.max(initial=-1) < len(selected):
        selected &= np.isin(np.arange(len(selected)), rows)
    types, reasons["types"] = _choose_types(values[name][selected].astype(str), name, str(contents.path))
    reasons["names"] = f"{' and '.join(chosen)}, cell types from {name}"
    return _Choice(CalciumNWBNames(activity, name), types, rois, reasons)


def _roi_table(file: h5py.File, path: str) -> h5py.Group:
    region = file[path].get("rois")
    if region is None or "table" not in region.attrs:
        raise DataError(f"{path} in {file.filename} references no ROIs; add its rois")
    return file[region.attrs["table"]]


def _choose_rois(columns: dict[str, np.ndarray]) -> tuple[RowSelection | None, dict[str, str]]:
    for name, column in columns.items():
        flags = column.reshape(len(column), -1)[:, 0]
        if name.lower() in SELECTION_NAMES and flags.dtype.kind in "biuf" and set(np.unique(flags)) == {0, 1}:
            value = True if flags.dtype.kind == "b" else 1
            n_left_out = int((flags == 0).sum())
            reason = f"{n_left_out} of {len(flags)} ROIs are left out, those that {name} does not mark"
            return RowSelection(name, [value]), {"rois": reason}
    return None, {}


def _choose_types(labels: np.ndarray, column: str, source: str) -> tuple[CellTypes, str]:
    """Returns the classes of labels, and the reason.

    Raises:
        DataError: labels are numbers, whose meaning is not in the file.
    """
    values, counts = np.unique(labels, return_counts=True)
    if any(re.fullmatch(r"-?[0-9.]+", value) for value in values):
        raise DataError(
            f"column {column} of {source} has cell types that are numbers ({', '.join(values[:6])}), and the file does "
            "not say which are excitatory; write names such as EC, IN, Pvalb, or set data.spec.types by hand"
        )
    excitatory, inhibitory, untyped = (
        [value for value in values.tolist() if value.strip().lower() in known]
        for known in (EXCITATORY, INHIBITORY, UNTYPED)
    )
    others = [value for value in values.tolist() if value not in (*excitatory, *inhibitory, *untyped)]
    subclasses = sorted({value.split("-")[0] for value in others})
    listed = ", ".join(f"{value or repr(value)} ({count})" for value, count in zip(values, counts, strict=True))
    reason = f"cells by label: {listed}; subclasses count as inhibitory"
    return CellTypes(excitatory, inhibitory, untyped, subclasses, {}), reason
