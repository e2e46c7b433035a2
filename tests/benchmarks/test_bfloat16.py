"""Scores in bfloat16 and in fp32: of students trained in either precision, and of the same weights."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from helpers.cli import call, experiment, start

from blend_pl.callbacks import NLBEvaluation
from blend_pl.runs.folder import CONFIG_FILE, best_checkpoint, find_runs

pytestmark = pytest.mark.benchmark

SEEDS = [*range(10)]
FULL, MIXED = "32-true", "bf16-mixed"
SCORES = ("co_bps", "vel_r2")
GOAL = 1e-3
"""Maximum difference between the scores of the same weights."""


def train_students(root: Path, teacher: Path) -> dict[str, list[Path]]:
    """Trains distilled students of one teacher in both precisions; returns their runs, sorted by seed."""
    commands = {}
    for precision in (FULL, MIXED):
        arguments = [f"--data.root={root / 'data'}", f"--trainer.precision={precision}"]
        arguments.append(f"--distillation.teacher={teacher}")
        fit_args = f"--fit_args={json.dumps(arguments)}"
        output = f"--output={root / precision}"
        commands[precision] = start("multirun", experiment("simulated_hard"), f"--seeds={SEEDS}", output, fit_args)
    for command in commands.values():
        _, errors = command.communicate()
        assert command.returncode == 0, errors
    return {precision: sorted(find_runs([root / precision]), key=seed_of) for precision in commands}


def seed_of(run: Path) -> int:
    return int(results(run)["seed"])


def results(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "results.json").read_text())
    return content


def evaluate(run: Path, precision: str) -> dict[str, float]:
    """Returns the scores of a run's weights, evaluated in a precision."""
    options = ("--ckpt_path", best_checkpoint(run), f"--trainer.precision={precision}")
    callbacks = call("test", "--config", run / CONFIG_FILE, *options).trainer.callbacks
    return next(callback for callback in callbacks if isinstance(callback, NLBEvaluation)).scores


def test_scores_in_bfloat16(tmp_path: Path) -> None:
    fit = ("fit", "--config", experiment("simulated_teacher"))
    teacher = call(*fit, f"--data.root={tmp_path / 'data'}", f"--output={tmp_path / 'runs'}").run_dir
    runs = train_students(tmp_path, teacher)
    same_weights = [(evaluate(run, FULL), evaluate(run, MIXED)) for run in runs[FULL]]
    for name in SCORES:
        full, mixed = ([results(run)["scores"][name] for run in runs[precision]] for precision in (FULL, MIXED))
        differences = [one - other for one, other in zip(mixed, full, strict=True)]
        rounding = max(abs(mixed[name] - full[name]) for full, mixed in same_weights)
        print(
            f"\n{name}, {len(SEEDS)} seeds: trained in fp32 {mean(full):.4f} ± {stdev(full):.4f}, in bf16-mixed "
            f"{mean(mixed):.4f} ± {stdev(mixed):.4f}; paired difference {mean(differences):+.5f} ± "
            f"{stdev(differences) / len(differences) ** 0.5:.5f} (standard error); "
            f"of the same weights at most {rounding:.1e} (bound: {GOAL:.0e})"
        )
        assert rounding < GOAL
