"""Writer of NWB files in the layout of the Neural Latents Benchmark '21."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from blend_pl.data.io.nwb_writer import TableColumn, add_group, add_table, add_time_series, create_nwb

_COLUMN_DESCRIPTIONS = {
    "start_time": "start of the trial (s)",
    "stop_time": "end of the trial (s)",
    "trial_type": "reach direction index (1-based)",
    "trial_version": "reach distance index (0-based)",
    "target_on_time": "time of target presentation (s)",
    "go_cue_time": "time of the go cue (s)",
    "move_onset_time": "time of movement onset (s)",
    "rt": "time from go cue to movement onset (ms)",
    "success": "whether the reach was completed",
    "num_targets": "number of targets",
    "split": "train, val, test or none",
}


@dataclass(frozen=True)
class UnitsTable:
    """Units of a file.

    Attributes:
        unit_id: (N,) ids.
        heldout: (N,) bool.
        spike_times: sorted spike times of each unit, s.
        obs_intervals: (intervals, 2) start and stop of the recorded intervals, the same for all units, s.
    """

    unit_id: np.ndarray
    heldout: np.ndarray
    spike_times: Sequence[np.ndarray]
    obs_intervals: np.ndarray


@dataclass(frozen=True)
class BehaviorSeries:
    """A two-dimensional behavioral time series.

    Attributes:
        name: name in the file, e.g. "hand_vel".
        data: (samples, 2), columns x and y.
        unit: unit of the data.
    """

    name: str
    data: np.ndarray
    unit: str


def write_nlb_nwb(
    path: Path,
    identifier: str,
    description: str,
    trials: Mapping[str, np.ndarray],
    units: UnitsTable,
    timestamps: np.ndarray | None = None,
    series: Sequence[BehaviorSeries] = (),
) -> None:
    """Writes one file.

    Args:
        path: the file.
        identifier: identifier of the file.
        description: description of the session.
        trials: columns of the trials table, any of `_COLUMN_DESCRIPTIONS`; `start_time` and `stop_time` are required.
        units: the units table.
        timestamps: (samples,) times of all series, s; required with `series`.
        series: behavior, in processing/behavior; the second and later series link to the timestamps of the first.
    """
    with create_nwb(path, identifier, description, "Sim", "a simulated population") as file:
        _add_trials(file, trials)
        _add_units(file, units)
        if timestamps is not None:
            _add_behavior(file, timestamps, series)


def _add_trials(file: h5py.File, trials: Mapping[str, np.ndarray]) -> None:
    ids = np.arange(len(trials["start_time"]))
    columns = [TableColumn(name, _COLUMN_DESCRIPTIONS[name], values) for name, values in trials.items()]
    add_table(file.create_group("intervals"), "trials", "TimeIntervals", "reaches", ids, columns)


def _add_units(file: h5py.File, units: UnitsTable) -> None:
    n_units = len(units.unit_id)
    n_spikes = np.array([len(times) for times in units.spike_times])
    intervals = np.tile(units.obs_intervals, (n_units, 1))
    n_intervals = np.full(n_units, len(units.obs_intervals))
    columns = [
        TableColumn("heldout", "whether the unit must be predicted", units.heldout),
        TableColumn("spike_times", "times of spikes (s)", np.concatenate(units.spike_times), n_spikes),
        TableColumn("obs_intervals", "recorded intervals (s)", intervals, n_intervals),
    ]
    add_table(file, "units", "Units", "simulated units", units.unit_id, columns)


def _add_behavior(file: h5py.File, timestamps: np.ndarray, series: Sequence[BehaviorSeries]) -> None:
    module = add_group(file["processing"], "behavior", "ProcessingModule", description="hand and cursor")
    times: np.ndarray | h5py.Group = timestamps
    for behavior_series in series:
        group = add_time_series(
            module,
            behavior_series.name,
            behavior_series.data,
            behavior_series.unit,
            times,
            description=behavior_series.name,
            comments="columns=[x,y]",
        )
        times = times if isinstance(times, h5py.Group) else group
