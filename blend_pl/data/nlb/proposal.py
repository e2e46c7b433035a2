"""Proposal of a data file for a recording, from the contents of its file."""

import glob
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import yaml

from blend_pl.data.io.contents import FileContents, SeriesContents
from blend_pl.data.io.nwb import Columns
from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.spec import BehaviorSpec, HeldOutSpec, PsthSpec, SessionFiles, SessionSpec, SplitSpec, WindowSpec
from blend_pl.errors import BlendError, DataError

BIN_WIDTHS_MS = (5, 10, 20, 50)
MIN_SPIKES_PER_BIN = 0.2
MIN_TRIALS = 20
MIN_REPEATS = 8
MAX_CONDITIONS = 16
LEAD_MS, LENGTH_MS, FORWARD_MS = 200, 600, 200
MIN_LENGTH_MS = 200
CORTICAL_LAG_MS = 100
EVENT_NAMES = ("move", "onset", "go_cue", "go", "cue", "stim", "target")
SERIES_NAMES = ("vel", "speed", "run", "hand", "cursor", "finger", "pos", "pupil")
NEURAL_TYPES = ("ElectricalSeries", "RoiResponseSeries", "DecompositionSeries", "SpikeEventSeries")


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

    def to_yaml(self, root: str) -> str:
        """Returns the data file, in the form of configs/data/own_session.yaml.

        Args:
            root: folder of the recording.
        """
        settings = asdict(self.spec)
        order = ["name", "files", "archive", "window", "behavior", "held_out", "split", "psth"]
        lines = [
            "# Data file of a recording, to be used after a set:",
            "#   blend_pl fit --config experiments/mc_maze_small.yaml --config THIS_FILE --config configs/arm/"
            + ("hard.yaml" if self.spec.behavior else "baseline.yaml"),
            "data:",
            "  class_path: blend_pl.data.NLBDataModule",
            "  init_args:",
            "    source: files",
            f"    root: {_flow(root)}",
            f"    bin_ms: {self.bin_ms}  # {self.reasons['bin_ms']}",
            "    spec:",
        ]
        for name in [*order, *(name for name in settings if name not in order)]:
            if name in self.reasons:
                lines.append(f"      # {self.reasons[name]}")
            lines.append(f"      {name}: {_flow(settings[name])}")
        return "\n".join(lines) + "\n"


def propose_spec(contents: FileContents) -> Proposal:
    """Chooses windows, bins, behavior, split and held-out units, and reads the session with them.

    Behavior that cannot be used is left out; the first candidate that reads is chosen.

    Raises:
        DataError: the session cannot be read with any behavior.
    """
    bin_ms = _choose_bin_ms(contents.rates_hz)
    rate = float(np.median(contents.rates_hz)) if len(contents.rates_hz) else 0.0
    reasons = {"bin_ms": f"{rate * bin_ms / 1000:.2g} spikes per bin at the median rate of {rate:.3g} Hz"}
    window, reasons["window"] = _choose_window(contents)
    split, reasons["split"] = _choose_split(contents, window)
    held_out, reasons["held_out"] = _choose_held_out(contents)
    psth, reasons["psth"] = _choose_psth(contents.trials, window)
    path = contents.path
    spec = SessionSpec(
        re.sub(r"[^\w-]+", "_", path.stem),
        SessionFiles(glob.escape(path.name)),
        window,
        None,
        held_out,
        split,
        psth,
        outlier_column=None,
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


def _require_splits(sessions: dict[str, SessionTensors]) -> None:
    for split in ("train", "val"):
        if split not in sessions or len(sessions[split]) < 2:
            raise DataError(f"too few {split} trials")


def _choose_bin_ms(rates_hz: np.ndarray) -> int:
    rate = float(np.median(rates_hz)) if len(rates_hz) else 0.0
    return next((width for width in BIN_WIDTHS_MS if rate * width / 1000 >= MIN_SPIKES_PER_BIN), BIN_WIDTHS_MS[-1])


def _choose_window(contents: FileContents) -> tuple[WindowSpec, str]:
    trials = contents.trials or {}
    continuous = WindowSpec(0, LENGTH_MS, None, FORWARD_MS, LENGTH_MS + FORWARD_MS)
    if not {"start_time", "stop_time"} <= set(trials):
        return continuous, "no trials table: windows over the whole recording that do not overlap"
    start, stop = trials["start_time"].astype(np.float64), trials["stop_time"].astype(np.float64)
    if len(start) < MIN_TRIALS:
        return continuous, f"{len(start)} trials are too few: windows over the whole recording that do not overlap"
    for name in [*_event_columns(trials), "start_time"]:
        event = trials[name].astype(np.float64)
        valid = np.isfinite(event) & np.isfinite(start) & np.isfinite(stop)
        if valid.sum() < MIN_TRIALS:
            continue
        before_ms = _floor_ms(np.quantile(event[valid] - start[valid], 0.1))
        after_ms = _floor_ms(np.quantile(stop[valid] - event[valid], 0.1))
        start_ms = -min(LEAD_MS, before_ms)
        forward_ms = FORWARD_MS if after_ms - FORWARD_MS - start_ms >= MIN_LENGTH_MS + FORWARD_MS else 0
        stop_ms = min(start_ms + LENGTH_MS, after_ms - forward_ms)
        if stop_ms - start_ms >= MIN_LENGTH_MS:
            window = WindowSpec(start_ms, stop_ms, name, forward_ms)
            return window, f"{int(valid.sum())} trials, aligned to {name}; the window is inside 90 % of the trials"
    return continuous, "trials are too short: windows over the whole recording that do not overlap"


def _floor_ms(seconds: float) -> int:
    """Returns whole milliseconds, a multiple of all bin widths."""
    step = BIN_WIDTHS_MS[-1] * 2
    return int(seconds * 1000 + 1e-6) // step * step


def _event_columns(trials: Columns) -> list[str]:
    """Returns columns with times inside of trials, likely events of alignment first."""
    start, stop = trials["start_time"], trials["stop_time"]
    names = []
    for name, column in trials.items():
        if column.ndim > 1 or column.dtype.kind != "f" or name in ("start_time", "stop_time"):
            continue
        finite = np.isfinite(column)
        inside = (column[finite] >= start[finite] - 1e-6) & (column[finite] <= stop[finite] + 1e-6)
        if finite.mean() >= 0.5 and inside.mean() >= 0.95 and np.ptp(column[finite]) > np.ptp(start) / 2:
            names.append(name)
    return sorted(names, key=lambda name: (_rank(name, EVENT_NAMES), name))


def _rank(name: str, preferred: tuple[str, ...]) -> int:
    return next((rank for rank, part in enumerate(preferred) if part in name.lower()), len(preferred))


def _choose_split(contents: FileContents, window: WindowSpec) -> tuple[SplitSpec, str]:
    if window.align is None:
        return SplitSpec(None, "block"), "contiguous blocks, so that windows of different splits are not adjacent"
    labels = (contents.trials or {}).get("split")
    if labels is not None and labels.dtype.kind == "U" and {"train", "val"} <= set(labels.tolist()):
        return SplitSpec("split"), "the file has a split"
    return SplitSpec(None, "trial"), "trials drawn at random; the remaining 15 % are the test set"


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
    return sorted(names, key=lambda name: (_rank(name, ("cond", "target", "direction", "type")), name))


def _behavior_candidates(contents: FileContents, window: WindowSpec) -> Iterator[tuple[BehaviorSpec | None, str]]:
    usable = [series for series in contents.series if not series.problem and series.neurodata_type not in NEURAL_TYPES]
    paths = [series.path for series in contents.series]
    for series in sorted(usable, key=_series_rank):
        name = series.path.rpartition("/")[2]
        if sum(path.endswith(f"/{name}") for path in paths) > 1:
            name = series.path
        is_hand = any(part in name.lower() for part in ("hand", "cursor", "finger", "wrist"))
        lag_ms = CORTICAL_LAG_MS if is_hand else 0
        lag = "motor cortex leads the hand by about 100 ms" if is_hand else "0, as nothing is known; try others"
        reason = f"{series.rate_hz:.4g} Hz, {series.unit or 'no unit'}; lag_ms: {lag}"
        yield BehaviorSpec(name, lag_ms), reason
        for period in _possible_periods(series.unit):
            yield BehaviorSpec(name, lag_ms, period=period), f"{reason}; an angle, read as cosine and sine"
        for column in range(series.shape[1] if len(series.shape) > 1 else 0):
            yield BehaviorSpec(name, lag_ms, [column]), f"{reason}; other columns cannot be used"
    trials = contents.trials or {}
    categories = category_columns(trials) if window.align is not None else []
    if categories:
        yield BehaviorSpec(categories=categories[:1]), "no usable series: a category of each trial"
    yield None, "nothing is usable as privileged input: only a baseline can be trained"


def _possible_periods(unit: str) -> list[float]:
    """Returns the periods of a series in this unit, if its plain values cannot be used."""
    name = unit.strip().lower()
    return [360.0] if name.startswith("deg") else [2 * np.pi] if name.startswith("rad") else []


def _series_rank(series: SeriesContents) -> tuple[int, int, str]:
    n_columns = series.shape[1] if len(series.shape) > 1 else 1
    return _rank(series.path, SERIES_NAMES), abs(n_columns - 2), series.path


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.strip().removesuffix("...").strip()
