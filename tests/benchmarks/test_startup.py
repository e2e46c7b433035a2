"""How long the command line takes to begin."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import REPOSITORY, experiment

pytestmark = pytest.mark.benchmark

FIRST_STEP = {"class_path": "helpers.first_step.FirstStep"}
TIMES = 3
BOUND = 10.0
"""Seconds of the processor to the first step, on cached data."""


def seconds(*command: str) -> tuple[float, float]:
    """What a process prints last: seconds of the processor and by the clock on the wall."""
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    processor, wall = done.stdout.split()[-2:]
    return float(processor), float(wall)


def test_fit_reaches_its_first_step(tmp_path: Path) -> None:
    reference = "import time; start = time.perf_counter(); import lightning; "
    reference += "print(time.process_time(), time.perf_counter() - start)"
    fit = ["-m", "blend_pl", "fit", "--config", str(experiment("simulated_baseline"))]
    fit += [f"--data.root={tmp_path / 'data'}", f"--output={tmp_path / 'runs'}"]
    fit += [f"--trainer.callbacks+={FIRST_STEP}", "--trainer.accelerator=auto", "--trainer.devices=1"]
    seconds(*fit)  # Simulates the session and keeps its tensors.
    alone = min(seconds("-c", reference) for _ in range(TIMES))
    ours = min(seconds(*fit) for _ in range(TIMES))
    print(
        f"\nfit to its first step: {ours[0]:.1f} s of the processor, {ours[1]:.1f} s by the clock; "
        f"importing lightning alone: {alone[0]:.1f} s, {alone[1]:.1f} s"
    )
    assert ours[0] < BOUND
