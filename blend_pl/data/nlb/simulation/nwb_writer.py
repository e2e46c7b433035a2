"""Writer of NWB files in the layout of the Neural Latents Benchmark '21."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blend_pl.data.io.nwb_writer import create_nwb, save_nwb

if TYPE_CHECKING:
    from pynwb import NWBFile

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
    """Writes one file, with whole columns at once, because pynwb's row-wise methods take minutes at MC_Maze's size.

    Args:
        path: the file.
        identifier: identifier of the file.
        description: description of the session.
        trials: columns of the trials table, any of `_COLUMN_DESCRIPTIONS`; `start_time` and `stop_time` are required.
        units: the units table.
        timestamps: (samples,) times of all series, s; required with `series`.
        series: behavior, in processing/behavior; the second and later series link to the timestamps of the first.
    """
    file = create_nwb(identifier, description, "Sim", "a simulated population")
    _add_trials(file, trials)
    _add_units(file, units)
    _add_behavior(file, timestamps, series)
    save_nwb(file, path)


def _add_trials(file: "NWBFile", trials: Mapping[str, np.ndarray]) -> None:
    from hdmf.common import ElementIdentifiers, VectorData
    from pynwb.epoch import TimeIntervals

    file.trials = TimeIntervals(
        name="trials",
        description="reaches",
        id=ElementIdentifiers(name="id", data=np.arange(len(trials["start_time"]))),
        columns=[
            VectorData(
                name=name,
                description=_COLUMN_DESCRIPTIONS[name],
                data=values if values.dtype.kind != "U" else values.tolist(),
            )
            for name, values in trials.items()
        ],
    )


def _add_units(file: "NWBFile", units: UnitsTable) -> None:
    from hdmf.common import ElementIdentifiers, VectorData
    from pynwb.misc import Units

    n_units = len(units.unit_id)
    n_spikes = np.array([len(times) for times in units.spike_times])
    spike_times = _ragged_column("spike_times", "times of spikes (s)", np.concatenate(units.spike_times), n_spikes)
    intervals = np.tile(units.obs_intervals, (n_units, 1))
    obs_intervals = _ragged_column(
        "obs_intervals", "recorded intervals (s)", intervals, np.full(n_units, len(units.obs_intervals))
    )
    heldout = VectorData(name="heldout", description="whether the unit must be predicted", data=units.heldout)
    file.units = Units(
        name="units",
        description="simulated units",
        id=ElementIdentifiers(name="id", data=units.unit_id),
        columns=[heldout, *spike_times, *obs_intervals],
        colnames=["heldout", "spike_times", "obs_intervals"],
    )


def _ragged_column(name: str, description: str, values: np.ndarray, counts: np.ndarray) -> list[Any]:
    from hdmf.common import VectorData, VectorIndex

    column = VectorData(name=name, description=description, data=values)
    return [column, VectorIndex(name=f"{name}_index", target=column, data=np.cumsum(counts))]


def _add_behavior(file: "NWBFile", timestamps: np.ndarray | None, series: Sequence[BehaviorSeries]) -> None:
    from pynwb import TimeSeries

    if not series:
        return
    module = file.create_processing_module("behavior", "hand and cursor")
    linked_timestamps = timestamps
    for behavior_series in series:
        time_series = TimeSeries(
            name=behavior_series.name,
            data=behavior_series.data,
            unit=behavior_series.unit,
            timestamps=linked_timestamps,
            comments="columns=[x,y]",
            description=behavior_series.name,
        )
        module.add(time_series)
        linked_timestamps = linked_timestamps if isinstance(linked_timestamps, TimeSeries) else time_series
