"""Targets of scores other than spikes: responses to conditions, decoders, and timing."""

import numpy as np

from blend_pl.data.io.nwb import Columns, require_column
from blend_pl.data.nlb.binning import SpikeTrains
from blend_pl.data.nlb.psth import smoothed_psth
from blend_pl.data.nlb.recording import NLBRecording
from blend_pl.data.nlb.scoring_window import scoring_bounds
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.data.nlb.trial_values import non_outliers, trial_values
from blend_pl.data.nlb.trial_windows import require_trials
from blend_pl.data.nlb.windows import Windows
from blend_pl.errors import DataError

ConditionKey = tuple[object, ...]

_MIN_LENGTH_RATIO = 0.8
"""A trial shorter than this fraction of its condition's mean length belongs to no condition."""


class ScoringTargets:
    """Conditions, responses, decoders and timing of a session, equal to those of nlb_tools (Pei et al., 2021).

    Args:
        spec: names the columns and the smoothing.
        recording: file with training and validation trials.
        unit_groups: held-in and held-out units, N in total.
        windows: the windows of those trials.

    Attributes:
        conditions: all combinations of values of the condition columns, sorted.
        psth: (conditions, T, N) float64 mean responses around the event, expected counts per bin; NaN in bins
            that are not scored in all trials of the condition, or in which some unit was recorded in none of them.
        decoder_values: sorted values of the column `decode_by`; None for one decoder.

    Raises:
        DataError: the trials table lacks a column, or no trial has a condition.
    """

    def __init__(
        self, spec: SessionSpec, recording: NLBRecording, unit_groups: list[SpikeTrains], windows: Windows
    ) -> None:
        self._spec, windows = spec, windows.without_jitter
        self._table_label = f"the trials table of {recording.path}"
        self.conditions: list[ConditionKey] = []
        self.psth = np.zeros((0, windows.shape.n_observed, sum(group.n_units for group in unit_groups)))
        self.decoder_values: np.ndarray | None = None
        self._timing_index: dict[ConditionKey, int] = {}
        if spec.decode_by is not None:
            values = require_column(require_trials(recording), spec.decode_by, "decode_by", self._table_label)[
                windows.row
            ]
            self.decoder_values = np.unique(values[values == values])
        if spec.timing is not None:
            trial_conditions = self._trial_conditions(
                spec.timing.condition, "timing.condition", require_trials(recording), windows
            )
            self._timing_index = _index_conditions(trial_conditions)
            require_column(require_trials(recording), spec.timing.interval, "timing.interval", self._table_label)
        if spec.psth is not None:
            trials = require_trials(recording)
            self.conditions = list(
                _index_conditions(self._trial_conditions(spec.psth.condition, "psth.condition", trials, windows))
            )
            if not self.conditions:
                raise DataError(
                    f"{self._table_label} has no condition of psth ({', '.join(spec.psth.condition)}) in any training "
                    "or validation trial; set psth.condition to columns with values, or psth: null"
                )
            self._min_lengths = np.zeros(len(self.conditions))
            index, length = self.condition(trials, windows), self._scored_lengths(trials, windows)
            if spec.scoring_window is not None:
                mean_lengths = [length[index == condition].mean() for condition in range(len(self.conditions))]
                self._min_lengths = _MIN_LENGTH_RATIO * np.array(mean_lengths)
                index = self.condition(trials, windows)
            n_conditions, sd_ms = len(self.conditions), spec.psth.smoothing_ms
            self.psth = np.concatenate(
                [smoothed_psth(group, windows, index, n_conditions, sd_ms) for group in unit_groups], axis=2
            )
            self.psth[np.isnan(self.psth).any(axis=2)] = np.nan
            if spec.scoring_window is not None:
                _mask_unscored_bins(
                    self.psth, index, *scoring_bounds(spec.scoring_window, windows, trials, self._table_label), windows
                )

    def condition(self, trials: Columns | None, windows: Windows) -> np.ndarray:
        """Returns the (n,) int64 position of each trial's condition in `conditions`; -1 for none."""
        psth = self._spec.psth
        if psth is None or not self._has_columns(trials, psth.condition):
            return np.full(len(windows), -1)
        assert trials is not None
        trial_conditions = self._trial_conditions(psth.condition, "psth.condition", trials, windows)
        index = _condition_indices({condition: row for row, condition in enumerate(self.conditions)}, trial_conditions)
        if self._spec.scoring_window is not None and len(self.conditions):
            index[self._scored_lengths(trials, windows) < self._min_lengths[index]] = -1
        return index

    def decode_mask(self, trials: Columns | None, windows: Windows) -> np.ndarray:
        """Returns the (n, M) bool decoders to which each trial belongs; none without the column."""
        if self.decoder_values is None:
            return np.ones((len(windows), 1), dtype=bool)
        if trials is None or self._spec.decode_by not in trials:
            return np.zeros((len(windows), len(self.decoder_values)), dtype=bool)
        return np.asarray(trials[self._spec.decode_by][windows.row][:, None] == self.decoder_values)

    def timing(self, trials: Columns | None, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """Returns the (n,) int64 condition of the timing score, -1 for none, and (n,) float64 produced intervals."""
        timing = self._spec.timing
        if timing is None or trials is None or not self._has_columns(trials, [*timing.condition, timing.interval]):
            return np.full(len(windows), -1), np.full(len(windows), np.nan)
        trial_conditions = self._trial_conditions(timing.condition, "timing.condition", trials, windows)
        timing_condition = _condition_indices(self._timing_index, trial_conditions)
        produced_interval = trial_values(trials, [timing.interval], "timing.interval", windows.row, self._table_label)[
            :, 0
        ]
        return timing_condition, np.where(timing_condition >= 0, produced_interval, np.nan)

    def _has_columns(self, trials: Columns | None, names: list[str]) -> bool:
        scoring_window, outlier_column = self._spec.scoring_window, self._spec.outlier_column
        required = {
            *names,
            *([outlier_column] if outlier_column else []),
            *([scoring_window.start, scoring_window.stop] if scoring_window else []),
        }
        return trials is not None and required <= set(trials)

    def _scored_lengths(self, trials: Columns, windows: Windows) -> np.ndarray:
        first, stop = scoring_bounds(self._spec.scoring_window, windows, trials, self._table_label)
        return np.asarray(stop - first)

    def _trial_conditions(
        self, names: list[str], setting: str, trials: Columns, windows: Windows
    ) -> list[ConditionKey | None]:
        """Returns the condition of each trial; None for outliers and missing values."""
        columns = [require_column(trials, name, setting, self._table_label)[windows.row].tolist() for name in names]
        non_outlier = non_outliers(trials, self._spec.outlier_column, windows.row, self._table_label)
        values = zip(zip(*columns, strict=True), non_outlier, strict=True)
        return [
            condition if is_valid and all(value == value for value in condition) else None
            for condition, is_valid in values
        ]


def _index_conditions(trial_conditions: list[ConditionKey | None]) -> dict[ConditionKey, int]:
    unique_conditions = sorted({condition for condition in trial_conditions if condition is not None})
    return {condition: index for index, condition in enumerate(unique_conditions)}


def _condition_indices(
    condition_index: dict[ConditionKey, int], trial_conditions: list[ConditionKey | None]
) -> np.ndarray:
    return np.array(
        [-1 if condition is None else condition_index.get(condition, -1) for condition in trial_conditions],
        dtype=np.int64,
    )


def _mask_unscored_bins(
    psth: np.ndarray, index: np.ndarray, first: np.ndarray, stop: np.ndarray, windows: Windows
) -> None:
    """Sets bins of a response to NaN that are not scored in some trial of the condition."""
    bins = np.arange(psth.shape[1])
    for condition in range(len(psth)):
        in_condition = index == condition
        scored_bins = (bins >= (first - windows.start)[in_condition].max()) & (
            bins < (stop - windows.start)[in_condition].min()
        )
        psth[condition, ~scored_bins] = np.nan
