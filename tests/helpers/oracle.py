"""Reference scores of nlb_tools for a submission."""

from pathlib import Path
from typing import Any

from helpers.nlb import nlb_dataset, nlb_targets

from blend_pl.data.nlb.spec import SessionSpec

NAMES = {"co-bps": "co_bps", "vel R2": "vel_r2", "tp corr": "tp_corr", "psth R2": "psth_r2", "fp-bps": "fp_bps"}


def make_targets(train_file: Path, spec: SessionSpec, bin_ms: int, save_path: Path | None = None) -> dict[str, Any]:
    """Returns the benchmark's targets of the validation trials by group, and writes them to `save_path` if given."""
    from nlb_tools.make_tensors import save_to_h5

    targets = nlb_targets(nlb_dataset(train_file, bin_ms), spec)
    if save_path is not None:
        save_to_h5(targets, str(save_path), overwrite=True)
    return targets


def evaluate(targets: Any, submission: Path) -> dict[str, dict[str, float]]:
    """Returns scores by split; targets are a file name or the content of the file."""
    from nlb_tools.evaluation import evaluate

    scored = evaluate(targets, str(submission))
    return {
        group: {NAMES[name]: value for name, value in scores.items()}
        for entry in scored
        for group, scores in entry.items()
    }
