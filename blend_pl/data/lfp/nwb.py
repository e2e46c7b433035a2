"""Reader of NWB files: one or more ElectricalSeries with field potentials, Units, and a behavioral TimeSeries."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.io.clock import ClockSpec, check_spike_clock, describe_duration
from blend_pl.data.io.nwb import open_nwb, read_invalid_times, read_subject_id, read_time_series, read_units
from blend_pl.data.io.nwb_units import find_units_table, has_units
from blend_pl.data.io.selection import RowSelection
from blend_pl.data.io.unit_selection import UnitSelection
from blend_pl.data.lfp.coverage import observed_bins
from blend_pl.data.lfp.electrical_series import read_lfp
from blend_pl.data.lfp.preprocessing import FilterChain, bin_lfp, without_bad_channels
from blend_pl.data.lfp.recording import BIN_MS, CrossModalRecording
from blend_pl.data.lfp.spec import LFPSeriesNames
from blend_pl.data.lfp.spikes import select_active_units, spike_counts
from blend_pl.data.lfp.timestamps import (
    overlapping_bins,
    require_finite_behavior,
    resample_velocity,
    velocity_from_position,
)
from blend_pl.errors import DataError

EVENT_TYPES = ("IntervalSeries", "AnnotationSeries")


def read_nwb(
    path: Path,
    names: LFPSeriesNames,
    min_rate_hz: float,
    session: str | None = None,
    units: UnitSelection | None = None,
    channels: RowSelection | None = None,
    bad_channels: Sequence[int | str] = (),
    clock: ClockSpec = ClockSpec(),  # noqa: B008
) -> CrossModalRecording:
    """Reads the time of one file that has both field potentials and behavior; sampling rates are those of the file.

    Args:
        path: the file.
        names: names of the series in the file.
        min_rate_hz: minimum firing rate of the units to keep.
        session: name of the session; None for the stem of the file.
        units: the units to use; None for all of `units`, or of the only other table with spike times.
        channels: rows of the electrodes table to use; None for all.
        bad_channels: names of channels to leave out, or the ids of their electrodes.
        clock: unit of the spike times.

    Raises:
        DataError: the file is damaged or lacks a series, a column or a channel; series do not overlap or have pauses;
            all units fire too rarely, or were not observed at the same time.
    """
    session = session or path.stem
    with open_nwb(path) as file:
        selected, notes = read_lfp(file, names.lfp, channels)
        waveform, bad_notes = without_bad_channels(selected, bad_channels)
        velocity, start, n_bins = _read_velocity(file, names, (waveform.start, waveform.stop), waveform.name)
        lfp_span = (waveform.start, waveform.stop)
        times, intervals, unit_id, unit_notes = _read_spike_times(file, units or UnitSelection(), clock, lfp_span)
        first_start, invalid_times = start, read_invalid_times(file)
        start, n_bins, coverage_notes = observed_bins(times, intervals, invalid_times, start, n_bins, str(path))
        n_skipped = round((start - first_start) * 1000 / BIN_MS)
        velocity = velocity[n_skipped : n_skipped + n_bins]
        spikes, unit_id = select_active_units(spike_counts(times, start, n_bins), unit_id, min_rate_hz, str(path))
        lfp = bin_lfp(waveform, FilterChain(line_hz=names.line_hz), start, n_bins)
        subject = read_subject_id(file, "")
        subject_notes = () if subject else (f"{path} has no subject_id; it counts as an animal of its own, {session}",)
        return CrossModalRecording(
            name=session,
            subject=subject or session,
            spikes=spikes,
            lfp=lfp.values,
            behavior=require_finite_behavior(velocity, str(path)),
            unit_id=unit_id,
            channel_id=tuple(waveform.channel_id[channel] for channel in lfp.channels),
            notes=(*subject_notes, *notes, *bad_notes, *unit_notes, *coverage_notes, *lfp.notes),
        )


def _read_velocity(
    file: h5py.File, names: LFPSeriesNames, lfp_span: tuple[float, float], lfp_name: str
) -> tuple[np.ndarray, float, int]:
    """Returns the velocity (T, D) in the bins that have both signals, their start and their number."""
    name = names.velocity or names.position or ""
    _refuse_events(file, name)
    series = read_time_series(file, name)
    columns = list(range(series.data.shape[1])) if names.columns is None else names.columns
    if not columns or max(columns) >= series.data.shape[1] or min(columns) < 0:
        raise DataError(
            f"{series.name} of {file.filename} has {series.data.shape[1]} columns; correct data.spec.names.columns, "
            "counted from 0"
        )
    start, n_bins = overlapping_bins((series.timestamps[0], series.timestamps[-1]), lfp_span, (series.name, lfp_name))
    data = series.data[:, columns].astype(np.float64)
    if names.velocity:
        velocity = resample_velocity(series.timestamps, data, start, n_bins)
    else:
        velocity = velocity_from_position(series.timestamps, data, start, n_bins, names.smoothing_ms)
    _require_varying_columns(velocity, columns, f"{series.name} of {file.filename}")
    return velocity, start, n_bins


def _refuse_events(file: h5py.File, name: str) -> None:
    """Checks that a series is a signal.

    Raises:
        DataError: it consists of intervals or annotations, between which there is nothing to interpolate.
    """
    for neurodata_type in EVENT_TYPES:
        if any(path.endswith(f"/{name}") for path in _series_of_type(file, neurodata_type)):
            raise DataError(
                f"{name} of {file.filename} is an {neurodata_type}, not a continuous signal; set "
                "data.spec.names.velocity or position to a TimeSeries"
            )


def _series_of_type(file: h5py.File, neurodata_type: str) -> list[str]:
    paths: list[str] = []

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if item.attrs.get("neurodata_type") == neurodata_type:
            paths.append(f"/{path}")

    file.visititems(visit)
    return paths


def _require_varying_columns(velocity: np.ndarray, columns: list[int], where: str) -> None:
    """Checks that each column of the velocity can be scored.

    Raises:
        DataError: a column is constant, or has no finite value while another has.
    """
    for column, values in zip(columns, velocity.T, strict=True):
        finite_values = values[np.isfinite(values)]
        if len(finite_values) and (finite_values == finite_values[0]).all():
            raise DataError(
                f"the velocity in column {column} of {where} is constant and cannot be scored; leave it out with "
                "data.spec.names.columns"
            )
        if not len(finite_values) and np.isfinite(velocity).any():
            raise DataError(
                f"the velocity in column {column} of {where} has no finite value and cannot be scored; leave it out "
                "with data.spec.names.columns"
            )


def _read_spike_times(
    file: h5py.File, selection: UnitSelection, clock: ClockSpec, lfp_span: tuple[float, float]
) -> tuple[list[np.ndarray], list[np.ndarray | None], tuple[str, ...], tuple[str, ...]]:
    """Returns spike times (s), observation intervals (s) and names of units, and notes; no units without a table."""
    if selection.table is None and "units" not in file and not has_units(file):
        return [], [], (), ()
    units = read_units(file, selection, clock.ticks_per_second)
    other_times = {"the field potentials": np.array(lfp_span)}
    if clock.spikes is None:
        check_spike_clock(units.times, len(units), other_times, str(file.filename))
    duration = describe_duration(units.times, clock, other_times)
    notes: tuple[str, ...] = (f"{file.filename}: {duration}",) if duration else ()
    if selection.rows is not None:
        n_units = len(find_units_table(file, selection.table)["id"])
        n_left_out = n_units - len(units)
        if n_left_out:
            notes = (
                *notes,
                f"{file.filename}: {n_left_out} of {n_units} units ({100 * n_left_out / n_units:.0f} %) are left out "
                "by data.spec.units",
            )
    unit_id = tuple(f"u{number}" for number in units.id.tolist())
    rows = range(len(units))
    return [units.spike_times(row) for row in rows], [units.obs_intervals(row) for row in rows], unit_id, notes
