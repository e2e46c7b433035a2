"""Reference results of nlb_tools, and small sessions of every set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from helpers.nwb_files import Written, write_bump, write_dmfc, write_maze, write_rtt
from helpers.specs import AREA2_BUMP, DMFC_RSG, MC_MAZE, MC_RTT

from blend_pl.data.nlb.spec import SessionSpec

SETS: dict[str, tuple[SessionSpec, Callable[[Path], Written]]] = {
    "mc_maze": (MC_MAZE, lambda folder: write_maze(folder, 1, 22, 10, 6, n_units=15, shuffled_ids=True)),
    "mc_rtt": (MC_RTT, lambda folder: write_rtt(folder, 2, 20, 10, 6, n_units=15)),
    "area2_bump": (AREA2_BUMP, lambda folder: write_bump(folder, 3, 22, 10, 6, n_units=15)),
    "dmfc_rsg": (DMFC_RSG, lambda folder: write_dmfc(folder, 4, 48, 40, 6, n_units=15)),
}


def nlb_dataset(path: Path, bin_ms: int) -> Any:
    """Returns a file read and resampled by nlb_tools."""
    from nlb_tools.nwb_interface import NWBDataset

    dataset = NWBDataset(str(path))
    # Behavior with gaps leaves the index unsorted under pandas 2, which drops the last trial.
    dataset.data = dataset.data.sort_index()
    dataset.resample(bin_ms)
    return dataset


def nlb_targets(dataset: Any, spec: SessionSpec, train: str | list[str] = "train") -> dict[str, Any]:
    """Returns the targets of the validation trials made by nlb_tools: one group of its target file, by name."""
    from nlb_tools import nwb_interface
    from nlb_tools.make_tensors import make_eval_target_tensors

    # A pool of processes is slower than one process for sessions of this size.
    with patch.object(nwb_interface, "_poolmap", lambda function, items, **_: list(map(function, items))):
        return make_eval_target_tensors(dataset, spec.name, train, save_file=False, include_psth=spec.psth is not None)
