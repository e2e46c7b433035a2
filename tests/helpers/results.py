"""Results of runs that never ran."""

import json
from pathlib import Path
from typing import Any

SCORES = {"co_bps": 0.2, "vel_r2": 0.5}


def write_run(
    folder: Path,
    name: str,
    seed: int = 0,
    scores: dict[str, float] | None = None,
    run: str | None = None,
    init_args: dict[str, Any] | None = None,
    model: str = "small",
    **entries: Any,
) -> Path:
    """Writes folder/name/run/results.json and returns the run."""
    path = folder / name / (run or f"seed{seed}")
    path.mkdir(parents=True)
    data = {"bin_ms": 20, "phase": "val", "root": "data", **(init_args or {})}
    results = {
        "name": name,
        "session": "simulated",
        "seed": seed,
        "phase": "val",
        "selection": "train_holdout (30 trials)",
        "teachers": [],
        "scores": scores or SCORES,
        "oracle": None,
        "date": "2026-01-01T00:00:00+0000",
        "commit": "abc",
        "config": {"output": "runs", "model": model, "data": {"class_path": "x", "init_args": data}},
        **entries,
    }
    (path / "results.json").write_text(json.dumps(results))
    return path
