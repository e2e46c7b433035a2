"""nlb_tools, called so that it gives right answers under the packages of today."""

from pathlib import Path
from typing import Any

import pytest


def make_targets(train_file: Path, name: str, bin_ms: int, save_path: Path | None = None) -> dict[str, dict[str, Any]]:
    """Targets of the validation trials by group, as the benchmark makes them; written to `save_path` if given."""
    from nlb_tools import make_tensors, nwb_interface

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nwb_interface, "_poolmap", lambda function, items, **_: list(map(function, items)))
        dataset = nwb_interface.NWBDataset(str(train_file))
        # Behaviour with gaps leaves the index unsorted under pandas 2, which drops the last trial.
        dataset.data = dataset.data.sort_index()
        dataset.resample(bin_ms)
        targets = make_tensors.make_eval_target_tensors(
            dataset, name, save_file=False, include_psth="psth_params" in make_tensors.PARAMS[name]
        )
    if save_path is not None:
        make_tensors.save_to_h5(targets, str(save_path), overwrite=True)
    return targets


def evaluate(targets: Any, submission: Path) -> dict[str, dict[str, float]]:
    """The benchmark's scores by the name of the set's split, in our names."""
    from nlb_tools.evaluation import evaluate

    names = {"co-bps": "co_bps", "vel R2": "vel_r2", "psth R2": "psth_r2", "fp-bps": "fp_bps"}
    scored = evaluate(targets, str(submission))
    return {
        group: {names[name]: value for name, value in scores.items()}
        for entry in scored
        for group, scores in entry.items()
    }
