"""Proposal of a data file for a recording, from the contents of its file."""

import glob
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from blend_pl.data.io.behavior_candidates import axis_components, behavior_candidates, name_rank, unique_name
from blend_pl.data.io.clock import MAX_SPAN_RATIO, check_spike_clock
from blend_pl.data.io.contents import FileContents
from blend_pl.data.io.data_file import DataFile
from blend_pl.data.io.nwb import Columns, open_nwb, read_time_series
from blend_pl.data.io.unit_settings import longest_span
from blend_pl.data.limits import is_constant
from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.signal_checks import wrap_period
from blend_pl.data.nlb.spec import BehaviorSpec, HeldOutSpec, PsthSpec, SessionFiles, SessionSpec, WindowSpec
from blend_pl.data.nlb.window_proposal import BIN_WIDTHS_MS, choose_split, choose_window
from blend_pl.errors import BlendError, DataError

MIN_SPIKES_PER_BIN = 0.2
MIN_REPEATS = 8
MAX_CONDITIONS = 16
CORTICAL_LAG_MS = 100
MIN_TRIALS_LARGE = 500
"""Number of training trials from which the published network and length of training are proposed."""
MIN_TRIALS_SYNTHETIC = 60
"""Number of training trials from which students with synthetic trials are proposed."""
SMALL_OVERLAYS = ("configs/model/ndt_small.yaml", "configs/trainer/few_trials.yaml")
NO_SUMMARY = {"generative_teacher": {"model": {"init_args": {"backbone": {"init_args": {"summary": 0}}}}}}
"""Setting of the generative teacher for windows that do not start at an event."""


@dataclass(frozen=True)
class Proposal:
    """A spec that reads, with the reason of each choice.

    Attributes:
        spec: the spec.
        bin_ms: bin width.
        reasons: reason by setting.
        sessions: the tensors that reading gives.
        rejected: behavior that could not be used, with the error.
    """

    spec: SessionSpec
    bin_ms: int
    reasons: dict[str, str]
    sessions: dict[str, SessionTensors]
    rejected: list[str]

    def data_file(self) -> DataFile:
        """Returns the data file, with the settings of configs/data/own_session.yaml first."""
        settings = asdict(self.spec)
        first = ["name", "files", "archive", "window", "behavior", "held_out", "split", "psth"]
        sizes = ", ".join(f"{len(session)} {split}" for split, session in self.sessions.items())
        left_out = self.sessions["train"].left_out
        return DataFile(
            experiment="experiments/mc_maze_small.yaml",
            arm=self._arm,
            class_path="blend_pl.data.NLBDataModule",
            spec={name: settings[name] for name in [*first, *(name for name in settings if name not in first)]},
            arguments={"source": "files", "bin_ms": self.bin_ms},
            reasons=self.reasons | {"arms": "windows do not start at an event: the time in a window explains nothing"},
            sizes=f"{sizes} {'windows' if self.spec.window.align is None else 'trials'}",
            remarks=[*(f"not used, {reason}" for reason in self.rejected), *([left_out] if left_out else [])],
            overlays=SMALL_OVERLAYS if len(self.sessions["train"]) < MIN_TRIALS_LARGE else (),
            arms=NO_SUMMARY if self.spec.behavior and self.spec.window.align is None else {},
        )

    @property
    def _arm(self) -> str:
        """The arm that is expected to score best; see `experiments/README.md`."""
        if self.spec.behavior is None:
            return "baseline"
        return "generative" if len(self.sessions["train"]) >= MIN_TRIALS_SYNTHETIC else "generative_posterior"


def propose_spec(contents: FileContents) -> Proposal:
    """Chooses windows, bins, behavior, split and held-out units, and reads the session with them.

    Behavior that cannot be used is left out; the first candidate that reads is chosen.

    Raises:
        DataError: the file has no units, its clocks disagree, or the session cannot be read with any behavior.
    """
    path, settings = contents.path, contents.unit_settings
    if not len(contents.units):
        raise DataError(f"{path} has no units table with spike_times; choose a file with sorted units")
    _check_longest_span(contents)
    bin_ms = _choose_bin_ms(contents.rates_hz)
    rate = float(np.median(contents.rates_hz))
    reasons = dict(settings.reasons)
    reasons["bin_ms"] = f"{rate * bin_ms / 1000:.2g} spikes per bin at the median rate of {rate:.3g} Hz"
    window, clock, reasons["window"] = choose_window(contents)
    if clock.events is not None:
        reasons["clock"] = "; ".join(
            [*filter(None, [reasons.get("clock")]), f"{window.align} counts from the start of each trial"]
        )
    split, reasons["split"] = choose_split(contents, window, clock)
    held_out, reasons["held_out"] = _choose_held_out(contents)
    psth, reasons["psth"] = _choose_psth(contents.trials, window)
    uses_table = window.align is not None and contents.trials_table is not None
    if uses_table:
        reasons["trials"] = "the table with the most intervals; the file has no intervals/trials"
    spec = SessionSpec(
        re.sub(r"[^\w-]+", "_", path.stem),
        SessionFiles(glob.escape(path.name)),
        window,
        None,
        held_out,
        split,
        psth,
        outlier_column=None,
        units=settings.selection,
        trials=contents.trials_table if uses_table else None,
        clock=clock,
    )
    rejected: list[str] = []
    for behavior, reason in _behavior_candidates(contents, window):
        candidate = replace(spec, behavior=behavior)
        try:
            sessions = read_session(candidate, path, None, bin_ms)
            _require_splits(sessions)
        except BlendError as error:
            source = " and ".join(behavior.series_names) if behavior and behavior.series else "columns of trials"
            rejected.append(f"{source if behavior else 'spikes alone'}: {error}")
            continue
        return Proposal(candidate, bin_ms, reasons | {"behavior": reason}, sessions, rejected)
    raise DataError(rejected[-1].partition(": ")[2])


def _check_longest_span(contents: FileContents) -> None:
    """Checks that spikes last about as long as what else lasts longest in the file.

    Spikes on another clock, which last about as long, can be used without behavior.

    Raises:
        DataError: spike times are not seconds of its clock, so that windows of the spikes alone would be wrong, too.
    """
    reference = longest_span(contents.spans)
    times = contents.units.times
    if reference is None or contents.unit_settings.clock.spikes is not None or not len(times):
        return
    name, (start, stop) = reference
    overlaps = start <= times.max() and times.min() <= stop
    if overlaps or np.ptp(times) > MAX_SPAN_RATIO * (stop - start):
        check_spike_clock(times, len(contents.units), {name: np.array([start, stop])}, str(contents.path))


def _require_splits(sessions: dict[str, SessionTensors]) -> None:
    for split in ("train", "val"):
        if split not in sessions or len(sessions[split]) < 2:
            raise DataError(f"too few {split} trials")


def _choose_bin_ms(rates_hz: np.ndarray) -> int:
    rate = float(np.median(rates_hz)) if len(rates_hz) else 0.0
    return next((width for width in BIN_WIDTHS_MS if rate * width / 1000 >= MIN_SPIKES_PER_BIN), BIN_WIDTHS_MS[-1])


def _choose_held_out(contents: FileContents) -> tuple[HeldOutSpec, str]:
    column = contents.units.columns.get("heldout")
    if column is not None and column.dtype.kind in "biu" and 0 < int(column.astype(bool).sum()) < len(column):
        return HeldOutSpec("heldout"), "the file has a column of held-out units"
    n_held_out = round(0.25 * len(contents.units))
    return HeldOutSpec(None, fraction=0.25), f"{n_held_out} of {len(contents.units)} units, drawn at random, for co-bps"


def _choose_psth(trials: Columns | None, window: WindowSpec) -> tuple[PsthSpec | None, str]:
    if trials is None or window.align is None:
        return None, "no trials, so no PSTHs"
    for name in category_columns(trials):
        return PsthSpec([name], 50), f"each value of {name} has at least {MIN_REPEATS} trials"
    return None, f"no column of the trials table has 2 to {MAX_CONDITIONS} values with {MIN_REPEATS} trials each"


def category_columns(trials: Columns) -> list[str]:
    """Returns the columns of the trials table that can be conditions: few values, each in enough trials."""
    names = []
    for name, column in trials.items():
        if column.ndim > 1 or name in ("start_time", "stop_time", "split") or column.dtype.kind not in "biufU":
            continue
        if column.dtype.kind == "f":
            column = column[np.isfinite(column)]
        values, counts = np.unique(column, return_counts=True)
        if 2 <= len(values) <= MAX_CONDITIONS and counts.min() >= MIN_REPEATS:
            names.append(name)
    return sorted(names, key=lambda name: (name_rank(name, ("cond", "target", "direction", "type")), name))


def _behavior_candidates(contents: FileContents, window: WindowSpec) -> Iterator[tuple[BehaviorSpec | None, str]]:
    candidates = behavior_candidates(contents)
    for series in candidates:
        name = unique_name(series, contents)
        is_hand = any(part in name.lower() for part in ("hand", "cursor", "finger", "wrist"))
        lag_ms = CORTICAL_LAG_MS if is_hand else 0
        lag = "motor cortex leads the hand by about 100 ms" if is_hand else "0, as nothing is known; try others"
        reason = f"{series.rate_hz:.4g} Hz, {series.unit or 'no unit'}; lag_ms: {lag}"
        components = axis_components(series, candidates)
        if len(components) > 1 and series is min(components, key=candidates.index):
            joined = BehaviorSpec([unique_name(component, contents) for component in components], lag_ms)
            joined_reason = f"{reason}; {len(components)} series are the axes of one signal"
            yield joined, joined_reason
            yield from _mended_series(contents.path, joined, joined_reason)
        yield BehaviorSpec(name, lag_ms), reason
        yield from _mended_series(contents.path, BehaviorSpec(name, lag_ms), reason)
        for column in range(series.shape[1] if len(series.shape) > 1 else 0):
            yield BehaviorSpec(name, lag_ms, [column]), f"{reason}; other columns cannot be used"
    trials = contents.trials or {}
    categories = category_columns(trials) if window.align is not None else []
    if categories:
        yield BehaviorSpec(categories=categories[:1]), "no usable series: a category of each trial"
    yield None, "nothing is usable as privileged input: only a baseline can be trained"


def _mended_series(path: Path, behavior: BehaviorSpec, reason: str) -> Iterator[tuple[BehaviorSpec, str]]:
    """Yields settings for series with columns that are constant, or angles that wrap around."""
    with open_nwb(path) as file:
        all_series = [read_time_series(file, name) for name in behavior.series_names]
    signals = [(column, series.unit, series.is_step) for series in all_series for column in series.data.T]
    columns = [index for index, (values, _, _) in enumerate(signals) if not is_constant(values)]
    periods = [
        None if is_step else wrap_period(values, unit) for values, unit, is_step in (signals[k] for k in columns)
    ]
    is_part = 0 < len(columns) < len(signals)
    if is_part:
        reason += "; other columns are constant"
    if any(periods):
        reason += "; an angle, read as cosine and sine"
    period: float | list[float | None] | None = periods[0] if len(set(periods)) == 1 else periods
    if is_part or any(periods):
        yield replace(behavior, columns=columns if is_part else None, period=period if any(periods) else None), reason
