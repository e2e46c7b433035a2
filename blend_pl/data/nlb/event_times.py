"""Times of the events of trials in seconds of the session."""

import numpy as np

from blend_pl.data.io.clock import COARSEST_RESOLUTION_S, ClockSpec, coarse_resolution
from blend_pl.data.io.nwb import Columns
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.errors import DataError

_TOLERANCE_S = 1.0


def session_event_times(trials: Columns, spec: SessionSpec, label: str) -> Columns:
    """Returns the trials table with the event times that a spec names in seconds of the session.

    Args:
        trials: columns of the table.
        spec: names the events (`window.align` and `scoring_window`) and says from which start they count.
        label: table and file, for error messages.

    Raises:
        DataError: trials end before they start, most trials have the event at the same time or outside of themselves,
            or event times are of a type that cannot resolve a millisecond.
    """
    names = [("window.align", spec.window.align)]
    if spec.scoring_window is not None:
        names += [
            ("scoring_window.start", spec.scoring_window.start),
            ("scoring_window.stop", spec.scoring_window.stop),
        ]
    converted = dict(trials)
    for setting, name in names:
        if name is not None and name in trials and trials[name].dtype.kind in "iuf":
            converted[name] = _session_seconds(name, setting, trials, spec.clock, label)
    return converted


def _session_seconds(name: str, setting: str, trials: Columns, clock: ClockSpec, label: str) -> np.ndarray:
    if trials[name].ndim != 1:
        raise DataError(
            f"{label} has {name} of shape {trials[name].shape}, and one time per trial is needed; choose another "
            f"column for {setting}, or repair the table"
        )
    _check_resolution(trials[name], name, label)
    events = trials[name].astype(np.float64)
    if clock.events == "session":
        return events
    bounds = [trials.get(column, np.empty(0)) for column in ("start_time", "stop_time")]
    has_bounds = all(len(bound) == len(events) and bound.dtype.kind in "iuf" for bound in bounds)
    start, stop = (bound.astype(np.float64) for bound in bounds) if has_bounds else (np.full(len(events), np.nan),) * 2
    if has_bounds and (stop < start).sum() > 0.5 * len(events):
        raise DataError(f"{label} has {(stop < start).sum()} trials that end before they start; repair the table")
    if clock.events == "trial" and name not in ("start_time", "stop_time"):
        if not has_bounds:
            raise DataError(f"{label} has no start_time, from which {name} counts with clock.events: trial; add it")
        events = start + events
    finite = events[np.isfinite(events)]
    override = "or set clock.events: session if they are right"
    if len(finite) > 2 and len(np.unique(finite)) <= len(finite) / 2:
        raise DataError(
            f"{label} has only {len(np.unique(finite))} different times {name} in {len(finite)} trials: they count "
            f"from the start of each trial; set {setting} to a time of the session, {override}"
        )
    margin = np.maximum(stop - start, _TOLERANCE_S)
    outside = (events < start - margin) | (events > stop + margin)
    if outside.sum() > 0.5 * len(finite) and len(finite) > 1:
        row = int(np.flatnonzero(outside)[0])
        from_start = (events >= 0) & (events <= stop - start)
        advice = (
            "they count from the start of the trial: set clock.events: trial"
            if from_start.sum() > 0.9 * len(finite)
            else f"write seconds of the session, or set {setting} to another column"
        )
        raise DataError(
            f"{label} has {outside.sum()} of {len(finite)} trials with {name} outside of the trial (first: row {row}, "
            f"{events[row]:g} s in a trial from {start[row]:g} to {stop[row]:g} s); {advice}, {override}"
        )
    return events


def _check_resolution(events: np.ndarray, name: str, label: str) -> None:
    finite = events[np.isfinite(events)]
    resolution = coarse_resolution(finite, events.dtype)
    if resolution is not None and resolution[1] > COARSEST_RESOLUTION_S:
        raise DataError(
            f"the times {name} in {label} are {resolution[0]}, which resolves {1000 * resolution[1]:.2g} ms at "
            f"{np.abs(finite).max():g} s; write them as float64"
        )
