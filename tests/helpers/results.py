"""Results of runs that were never trained."""

from pathlib import Path
from typing import Any

from blend_pl.runs.results import ROLES, STUDENT, Results

SCORES = {"co_bps": 0.2, "vel_r2": 0.5}

DATA_CONFIG = {"class_path": "blend_pl.data.NLBDataModule", "init_args": {"bin_ms": 20, "phase": "val", "root": "data"}}


def make_results(**changes: Any) -> Results:
    """Returns complete results with some attributes replaced."""
    attributes: dict[str, Any] = {
        "name": "x_hard",
        "role": STUDENT,
        "session": "simulated",
        "seed": 0,
        "fingerprint": "0123abcd",
        "phase": "val",
        "selection": "train_holdout (30 trials)",
        "teachers": (),
        "checkpoint": "checkpoints/best.ckpt",
        "epoch": 1,
        "selected": {"best/val/co_bps": 0.2},
        "scores": SCORES,
        "oracle": None,
        "cost": None,
        "date": "2026-01-01T00:00:00+0000",
        "commit": "abc",
        "config": {"output": "runs", "data": DATA_CONFIG},
    }
    return Results(**{**attributes, **changes})


def write_run(
    folder: Path,
    name: str,
    seed: int = 0,
    scores: dict[str, float] | None = None,
    run: str | None = None,
    init_args: dict[str, Any] | None = None,
    model: Any = "small",
    **changes: Any,
) -> Path:
    """Writes folder/name/run/results.json.

    Args:
        folder: folder of all runs.
        name: name of the experiment. If it ends in a role, that is the run's role; other runs are students.
        seed: seed of the run.
        scores: scores by name.
        run: name of the run's folder.
        init_args: arguments of the data module.
        model: settings of the model.
        changes: further attributes of `Results`.

    Returns:
        The run's folder.
    """
    run_dir = folder / name / (run or f"seed{seed}")
    run_dir.mkdir(parents=True)
    last_word = name.rpartition("_")[2]
    data_config = {**DATA_CONFIG, "init_args": {**DATA_CONFIG["init_args"], **(init_args or {})}}  # type: ignore[dict-item]
    attributes = {
        "role": last_word if last_word in ROLES else STUDENT,
        "scores": scores or SCORES,
        "config": {"output": "runs", "model": model, "data": data_config},
        **changes,
    }
    make_results(name=name, seed=seed, **attributes).write(run_dir)
    return run_dir
