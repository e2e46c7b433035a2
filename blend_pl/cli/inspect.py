"""Command `inspect`: shows what an NWB file holds, and writes a data file that trains on it."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from blend_pl.data.calcium.proposal import has_traces, propose_calcium_data_file
from blend_pl.data.io.contents import FileContents, SeriesContents, read_contents
from blend_pl.data.io.data_file import DataFile
from blend_pl.data.io.nwb import Columns
from blend_pl.data.lfp.proposal import lfp_series, propose_lfp_data_file
from blend_pl.data.nlb.proposal import propose_spec
from blend_pl.errors import BlendError, ConfigError, DataError
from blend_pl.utils.files import atomic_file

_MAX_LISTED = 6
_MAX_HZ = 200.0


def inspect_file(path: str, out: str | None = None, kind: Literal["spikes", "lfp", "calcium"] | None = None) -> None:
    """Shows units, time series and trials of an NWB file, what is odd, and a data file for it.

    Args:
        path: the NWB file.
        out: writes the data file to this path; by default it is shown only.
        kind: models to train: of spikes, field potentials or calcium traces; by default of spikes if the file has
            units, and otherwise of what it has.

    Raises:
        ConfigError: the path of the data file exists.
        DataError: the file cannot be read, or nothing in it can be trained on.
    """
    if out is not None and Path(out).exists():
        raise ConfigError(f"{out} exists; choose another --out, or remove it")
    contents = read_contents(Path(path))
    print("\n".join(format_contents(contents)))
    try:
        data_file = propose_data_file(contents, kind)
    except BlendError as error:
        print(f"\nno data file: {error}")
        raise
    print("\n".join(_format_data_file(data_file)))
    text = data_file.to_yaml(str(contents.path.parent))
    if out is None:
        print(f"\n{text}", end="")
        return
    with atomic_file(Path(out)) as temporary:
        temporary.write_text(text)
    print(f"\nwrote {out}; train:")
    print(f"  {data_file.command(out)}")


def propose_data_file(contents: FileContents, kind: Literal["spikes", "lfp", "calcium"] | None = None) -> DataFile:
    """Returns a data file for what the file holds.

    Args:
        contents: contents of the file.
        kind: see `inspect_file`.

    Raises:
        DataError: the file holds nothing of this kind, or it cannot be read.
    """
    if kind == "calcium" or (kind is None and not len(contents.units) and has_traces(contents)):
        return propose_calcium_data_file(contents)
    if kind == "lfp" or (kind is None and not len(contents.units) and lfp_series(contents)):
        return propose_lfp_data_file(contents)
    others = _describe_other_signals(contents) if kind is None else []
    try:
        data_file = propose_spec(contents).data_file()
    except DataError as error:
        raise DataError("; ".join([str(error), *others])) from error
    return replace(data_file, remarks=[*others, *data_file.remarks])


def _describe_other_signals(contents: FileContents) -> list[str]:
    """Returns remarks on signals other than the spikes, and on the option that chooses each."""
    remarks = []
    potentials = lfp_series(contents)
    if potentials:
        paths = " and ".join(series.path for series in potentials)
        remarks.append(f"the file also holds field potentials ({paths}); for models of them, add --kind lfp")
    if has_traces(contents):
        remarks.append("the file also holds calcium traces; for models of them, add --kind calcium")
    return remarks


def format_contents(contents: FileContents) -> list[str]:
    """Returns the lines of a table of units, series and trials, and of what is odd."""
    rates, units = contents.rates_hz, contents.units
    n_units = f"{len(units)} with {len(units.times)} spikes" if len(units) else "none"
    lines = [str(contents.path), "", f"units: {n_units}"]
    if len(units.times):
        low, median, high = np.quantile(rates, [0, 0.5, 1])
        lines.append(f"  rates      {median:.3g} Hz (median), {low:.3g} to {high:.3g} Hz")
        lines.append(f"  spikes     from {units.times.min():.6g} to {units.times.max():.6g} s")
    if len(units) and contents.coverage is None:
        lines.append("  observed   the file has no obs_intervals")
    elif contents.coverage is not None:
        lines.append(f"  observed   {100 * np.median(contents.coverage):.3g} % of the recording (median of the units)")
    lines += [f"  {name:10} {_describe_column(column)}" for name, column in units.columns.items()]
    lines += ["", f"time series: {len(contents.series) or 'none'}"]
    for series in contents.series:
        lines.append(f"  {series.path}: {_describe_series(series)}")
    trials = contents.trials
    n_trials = len(next(iter(trials.values()), [])) if trials else 0
    lines += ["", f"trials: {n_trials or 'none'}"]
    lines += [f"  {name:18} {_describe_column(column)}" for name, column in (trials or {}).items()]
    odd = list(_odd_remarks(contents))
    return [*lines, "", "odd:", *(f"  - {remark}" for remark in odd)] if odd else lines


def _describe_series(series: SeriesContents) -> str:
    shape = " x ".join(map(str, series.shape))
    text = f"{series.neurodata_type}, {shape}"
    if series.problem:
        return text
    gap = f", longest gap {series.longest_gap_s:.3g} s" if series.longest_gap_s * series.rate_hz > 3.5 else ""
    missing = f", {100 * series.nan_fraction:.3g} % NaN" if series.nan_fraction else ""
    extent = f"{series.first_s:.6g} to {series.last_s:.6g} s"
    return f"{text}, {series.rate_hz:.4g} Hz, unit {series.unit or 'unknown'}, {extent}{gap}{missing}"


def _describe_column(column: np.ndarray) -> str:
    if column.ndim > 1:
        return f"{column.shape[1]} numbers per row"
    if column.dtype.kind == "f":
        finite = column[np.isfinite(column)]
        if not len(finite):
            return "numbers, all NaN"
        missing = f", {len(column) - len(finite)} NaN" if len(finite) < len(column) else ""
        return f"numbers, {finite.min():.6g} to {finite.max():.6g}{missing}"
    values, counts = np.unique(column, return_counts=True)
    if len(values) > _MAX_LISTED:
        return f"{len(values)} values, {values[0]} to {values[-1]}"
    return ", ".join(f"{value} ({count})" for value, count in zip(values, counts, strict=True))


def _odd_remarks(contents: FileContents) -> list[str]:
    remarks = [f"{series.path}: {series.problem}" for series in contents.series if series.problem]
    rates = contents.rates_hz
    silent, fast = int((rates == 0).sum()), int((rates > _MAX_HZ).sum())
    if silent:
        remarks.append(f"{silent} units have no spikes")
    if fast:
        remarks.append(f"{fast} units have more than {_MAX_HZ:g} Hz; check that spike times are in seconds")
    if len(np.unique(contents.units.id)) < len(contents.units):
        remarks.append("ids of units are not unique")
    if contents.coverage is not None and np.ptp(contents.coverage) > 0.01:
        remarks.append(
            f"units are observed for different times, {100 * contents.coverage.min():.3g} to "
            f"{100 * contents.coverage.max():.3g} % of the recording"
        )
    remarks += _overlap_remarks(contents.trials)
    if len(contents.units.times):
        start, stop = contents.units.times.min(), contents.units.times.max()
        for series in contents.series:
            shared = min(stop, series.last_s) - max(start, series.first_s)
            if not series.problem and shared < 0.9 * (stop - start):
                share = 100 * max(shared, 0.0) / max(stop - start, 1e-9)
                remarks.append(f"{series.path} covers {share:.3g} % of the time of the spikes")
    return remarks


def _overlap_remarks(trials: Columns | None) -> list[str]:
    if not trials or not {"start_time", "stop_time"} <= set(trials):
        return []
    start, stop = trials["start_time"].astype(float), trials["stop_time"].astype(float)
    n_overlapping = int((start[1:] < stop[:-1] - 1e-6).sum())
    return [f"{n_overlapping} trials start before the previous one stops"] if n_overlapping else []


def _format_data_file(data_file: DataFile) -> list[str]:
    return ["", f"data file: {data_file.sizes}, read without errors", *(f"  - {line}" for line in data_file.remarks)]
