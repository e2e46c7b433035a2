"""What trials are scored against beside their spikes: responses to their condition, and the decoders they belong to."""

import numpy as np

from blend_pl.data.binning import Population
from blend_pl.data.nwb import Columns, require
from blend_pl.data.placement import trials_of
from blend_pl.data.psth import smoothed_psth
from blend_pl.data.recording import Recording
from blend_pl.data.spec import Psth, SessionSpec
from blend_pl.data.windows import Windows

Condition = tuple[object, ...]


class Scoring:
    """Conditions, responses and decoders of a session, as nlb_tools finds them (Pei et al., 2021).

    Args:
        spec: names the columns and the smoothing.
        recording: the file with training and validation trials.
        groups: its held-in and its held-out units, N together.
        windows: the windows of those trials.

    Attributes:
        conditions: every combination of the condition columns' values, sorted.
        psth: (conditions, T, N) float64 mean responses, expected counts per bin.
        decoders: sorted values of the column with one decoder per value; None for one decoder.

    Raises:
        DataError: the trials table lacks a column.
    """

    def __init__(self, spec: SessionSpec, recording: Recording, groups: list[Population], windows: Windows) -> None:
        self._spec = spec
        self.conditions: list[Condition] = []
        self.psth = np.zeros((0, windows.shape.n_observed, sum(group.n_units for group in groups)))
        self.decoders: np.ndarray | None = None
        where = f"the trials table of {recording.path}"
        if spec.decode_by is not None:
            values = require(trials_of(recording), spec.decode_by, "decode_by", where)[windows.row]
            self.decoders = np.unique(values[values == values])
        if spec.psth is not None:
            for name in spec.psth.condition:
                require(trials_of(recording), name, "psth.condition", where)
            found = _conditions(spec.psth, trials_of(recording), windows)
            self.conditions = sorted({condition for condition in found if condition is not None})
            index, n = self.condition(recording.trials, windows), len(self.conditions)
            self.psth = np.concatenate(
                [smoothed_psth(group, windows, index, n, spec.psth.smoothing_ms) for group in groups], axis=2
            )

    def condition(self, trials: Columns | None, windows: Windows) -> np.ndarray:
        """(n,) int64 position of each trial's condition in `conditions`; -1 where it is unknown."""
        psth = self._spec.psth
        if psth is None or trials is None or not set(psth.condition) <= set(trials):
            return np.full(len(windows), -1)
        position: dict[Condition | None, int] = {known: index for index, known in enumerate(self.conditions)}
        return np.array([position.get(c, -1) for c in _conditions(psth, trials, windows)], dtype=np.int64)

    def decode_mask(self, trials: Columns | None, windows: Windows) -> np.ndarray:
        """(n, M) bool, the decoders that each trial belongs to; none without the column."""
        if self.decoders is None:
            return np.ones((len(windows), 1), dtype=bool)
        if trials is None or self._spec.decode_by not in trials:
            return np.zeros((len(windows), len(self.decoders)), dtype=bool)
        return trials[self._spec.decode_by][windows.row][:, None] == self.decoders


def _conditions(psth: Psth, trials: Columns, windows: Windows) -> list[Condition | None]:
    values = zip(*(trials[name][windows.row].tolist() for name in psth.condition), strict=True)
    return [None if any(value != value for value in trial) else trial for trial in values]
