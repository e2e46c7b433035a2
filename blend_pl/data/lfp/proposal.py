"""Proposal of a data file for a recording of spikes and field potentials, from the contents of its file."""

import glob
import re
from collections.abc import Iterator
from dataclasses import asdict

from blend_pl.data.io.behavior_candidates import behavior_candidates, unique_name
from blend_pl.data.io.contents import FileContents, SeriesContents
from blend_pl.data.io.data_file import DataFile
from blend_pl.data.lfp.batches import LFPSession
from blend_pl.data.lfp.nwb import read_nwb
from blend_pl.data.lfp.spec import LFPSeriesNames, LFPSpec
from blend_pl.errors import BlendError, DataError

MAX_LFP_HZ = 5000.0
"""Highest sampling rate of an ElectricalSeries that is taken for field potentials if no name says so."""
LENGTH = 500


def lfp_series(contents: FileContents) -> list[SeriesContents]:
    """Returns the series of field potentials of a file: those with LFP in their path, or those with low rates."""
    electrical = [series for series in contents.series if series.neurodata_type == "ElectricalSeries"]
    named = [series for series in electrical if "lfp" in series.path.lower()]
    return named or [series for series in electrical if series.rate_hz <= MAX_LFP_HZ]


def propose_lfp_data_file(contents: FileContents) -> DataFile:
    """Chooses the series of field potentials and of velocity, and the units, and reads the session with them.

    Raises:
        DataError: the file has no field potentials or behavior, or cannot be read with any behavior.
    """
    series = lfp_series(contents)
    if not series:
        raise DataError(f"{contents.path} has no ElectricalSeries of field potentials; choose a file with one")
    n_electrical = sum(item.neurodata_type == "ElectricalSeries" for item in contents.series)
    paths = [item.path for item in series]
    lfp = None if n_electrical == 1 else paths[0] if len(paths) == 1 else paths
    others = n_electrical - len(series)
    reasons = {
        "names": f"{' and '.join(paths)} as LFP{f', not {others} other ElectricalSeries' if others else ''}; "
        "line_hz: mains frequency, 50 in most countries outside of America",
        "held_out": "a single session, on which the model is trained",
    }
    reasons |= contents.unit_settings.reasons
    rejected: list[str] = []
    for names in _series_names(contents, lfp):
        spec = LFPSpec(
            re.sub(r"[^\w-]+", "_", contents.path.stem),
            nwb=[glob.escape(contents.path.name)],
            names=names,
            units=contents.unit_settings.selection,
            clock=contents.unit_settings.clock,
        )
        try:
            recording = read_nwb(contents.path, names, spec.min_rate_hz, units=spec.units, clock=spec.clock)
            session = LFPSession.from_recording(recording, LENGTH, "blocks", 42)
        except BlendError as error:
            rejected.append(f"{names.velocity or names.position}: {error}")
            continue
        n_units = f"{len(recording.unit_id)} units, {len(recording.channel_id)} channels"
        segments = ", ".join(f"{len(session.segment_starts(split))} {split}" for split in ("train", "val", "test"))
        return DataFile(
            experiment="experiments/makin.yaml",
            arm="lfp_single_session",
            class_path="blend_pl.data.lfp.MultiSessionDataModule",
            spec=asdict(spec),
            arguments={"source": "files", "length": LENGTH, "split": "blocks", "held_out": []},
            reasons=reasons,
            sizes=f"{n_units}, {segments} segments of LFP",
            remarks=[*(f"not used, {reason}" for reason in rejected), *recording.notes],
        )
    reason = rejected[-1].partition(": ")[2] if rejected else f"{contents.path} has no series of velocity or position"
    raise DataError(reason)


def _series_names(contents: FileContents, lfp: str | list[str] | None) -> Iterator[LFPSeriesNames]:
    for series in behavior_candidates(contents):
        name = unique_name(series, contents)
        is_position = any(part in name.lower() for part in ("pos", "angle")) and "vel" not in name.lower()
        yield LFPSeriesNames(lfp, position=name) if is_position else LFPSeriesNames(lfp, velocity=name)
