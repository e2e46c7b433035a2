"""What trials are scored against beside their spikes: their condition's response, their decoders, their timing."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require
from blend_pl.data.nlb.binning import Population
from blend_pl.data.nlb.psth import smoothed_psth
from blend_pl.data.nlb.recording import Recording
from blend_pl.data.nlb.scoring_window import scored_range
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.data.nlb.trial_values import trial_values, trusted
from blend_pl.data.nlb.trial_windows import trials_of
from blend_pl.data.nlb.windows import Windows

Condition = tuple[object, ...]

_SHORTEST = 0.8
"""A trial with less than this share of its condition's mean length belongs to no condition."""


class Scoring:
    """Conditions, responses, decoders and timing of a session, as nlb_tools finds them (Pei et al., 2021).

    Args:
        spec: names the columns and the smoothing.
        recording: the file with training and validation trials.
        groups: its held-in and its held-out units, N together.
        windows: the windows of those trials.

    Attributes:
        conditions: every combination of the condition columns' values, sorted.
        psth: (conditions, T, N) float64 mean responses around the event, expected counts per bin; NaN in bins that
            not all trials of a condition are scored in.
        decoders: sorted values of the column with one decoder per value; None for one decoder.

    Raises:
        DataError: the trials table lacks a column.
    """

    def __init__(self, spec: SessionSpec, recording: Recording, groups: list[Population], windows: Windows) -> None:
        self._spec, windows = spec, windows.aligned
        self._where = f"the trials table of {recording.path}"
        self.conditions: list[Condition] = []
        self.psth = np.zeros((0, windows.shape.n_observed, sum(group.n_units for group in groups)))
        self.decoders: np.ndarray | None = None
        self._timing: dict[Condition, int] = {}
        if spec.decode_by is not None:
            values = require(trials_of(recording), spec.decode_by, "decode_by", self._where)[windows.row]
            self.decoders = np.unique(values[values == values])
        if spec.timing is not None:
            found = self._found(spec.timing.condition, "timing.condition", trials_of(recording), windows)
            self._timing = _positions(found)
            require(trials_of(recording), spec.timing.interval, "timing.interval", self._where)
        if spec.psth is not None:
            trials = trials_of(recording)
            self.conditions = list(_positions(self._found(spec.psth.condition, "psth.condition", trials, windows)))
            self._shortest = np.zeros(len(self.conditions))
            index, length = self.condition(trials, windows), self._lengths(trials, windows)
            if spec.scored is not None:
                means = [length[index == condition].mean() for condition in range(len(self.conditions))]
                self._shortest = _SHORTEST * np.array(means)
                index = self.condition(trials, windows)
            n, sd_ms = len(self.conditions), spec.psth.smoothing_ms
            self.psth = np.concatenate([smoothed_psth(group, windows, index, n, sd_ms) for group in groups], axis=2)
            if spec.scored is not None:
                _cut(self.psth, index, *scored_range(spec.scored, windows, trials, self._where), windows)

    def condition(self, trials: Columns | None, windows: Windows) -> np.ndarray:
        """(n,) int64 position of each trial's condition in `conditions`; -1 where it is unknown or not to be used."""
        psth = self._spec.psth
        if psth is None or not self._known(trials, psth.condition):
            return np.full(len(windows), -1)
        assert trials is not None
        found = self._found(psth.condition, "psth.condition", trials, windows)
        index = _index({condition: row for row, condition in enumerate(self.conditions)}, found)
        if self._spec.scored is not None and len(self.conditions):
            index[self._lengths(trials, windows) < self._shortest[index]] = -1
        return index

    def decode_mask(self, trials: Columns | None, windows: Windows) -> np.ndarray:
        """(n, M) bool, the decoders that each trial belongs to; none without the column."""
        if self.decoders is None:
            return np.ones((len(windows), 1), dtype=bool)
        if trials is None or self._spec.decode_by not in trials:
            return np.zeros((len(windows), len(self.decoders)), dtype=bool)
        return trials[self._spec.decode_by][windows.row][:, None] == self.decoders

    def timing(self, trials: Columns | None, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int64 condition in which intervals are compared, -1 for none, and (n,) float64 produced intervals."""
        timing = self._spec.timing
        if timing is None or trials is None or not self._known(trials, [*timing.condition, timing.interval]):
            return np.full(len(windows), -1), np.full(len(windows), np.nan)
        found = self._found(timing.condition, "timing.condition", trials, windows)
        group = _index(self._timing, found)
        produced = trial_values(trials, [timing.interval], "timing.interval", windows.row, self._where)[:, 0]
        return group, np.where(group >= 0, produced, np.nan)

    def _known(self, trials: Columns | None, names: list[str]) -> bool:
        scored, outliers = self._spec.scored, self._spec.outliers
        needed = {*names, *([outliers] if outliers else []), *([scored.start, scored.stop] if scored else [])}
        return trials is not None and needed <= set(trials)

    def _lengths(self, trials: Columns, windows: Windows) -> np.ndarray:
        first, stop = scored_range(self._spec.scored, windows, trials, self._where)
        return stop - first

    def _found(self, names: list[str], setting: str, trials: Columns, windows: Windows) -> list[Condition | None]:
        """The condition of each trial; None for outliers and where a value is missing."""
        columns = [require(trials, name, setting, self._where)[windows.row].tolist() for name in names]
        kept = trusted(trials, self._spec.outliers, windows.row, self._where)
        values = zip(zip(*columns, strict=True), kept, strict=True)
        return [trial if keep and all(value == value for value in trial) else None for trial, keep in values]


def _positions(found: list[Condition | None]) -> dict[Condition, int]:
    known = sorted({condition for condition in found if condition is not None})
    return {condition: index for index, condition in enumerate(known)}


def _index(positions: dict[Condition, int], found: list[Condition | None]) -> np.ndarray:
    return np.array([-1 if condition is None else positions.get(condition, -1) for condition in found], dtype=np.int64)


def _cut(psth: np.ndarray, index: np.ndarray, first: np.ndarray, stop: np.ndarray, windows: Windows) -> None:
    """Removes from each response the bins that some trial of the condition has no score for."""
    bins = np.arange(psth.shape[1])
    for condition in range(len(psth)):
        own = index == condition
        inside = (bins >= (first - windows.start)[own].max()) & (bins < (stop - windows.start)[own].min())
        psth[condition, ~inside] = np.nan
