"""Startup time of the command line."""

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
"""Bound of the CPU time to the first step, on cached data, in seconds."""


def seconds(*command: str) -> tuple[float, float]:
    """Runs a Python process and returns the CPU and wall-clock seconds that it prints last."""
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    processor, wall = process.stdout.split()[-2:]
    return float(processor), float(wall)


def test_fit_reaches_its_first_step(tmp_path: Path) -> None:
    reference = "import time; start = time.perf_counter(); import lightning; "
    reference += "print(time.process_time(), time.perf_counter() - start)"
    fit = ["-m", "blend_pl", "fit", "--config", str(experiment("simulated_baseline"))]
    fit += [f"--data.root={tmp_path / 'data'}", f"--output={tmp_path / 'runs'}"]
    fit += [f"--trainer.callbacks+={FIRST_STEP}", "--trainer.accelerator=auto", "--trainer.devices=1"]
    seconds(*fit)  # Simulates the session and caches its tensors.
    lightning_import = min(seconds("-c", reference) for _ in range(TIMES))
    ours = min(seconds(*fit) for _ in range(TIMES))
    print(
        f"\nfit to its first step: {ours[0]:.1f} s of CPU time, {ours[1]:.1f} s wall-clock; "
        f"importing lightning: {lightning_import[0]:.1f} s, {lightning_import[1]:.1f} s"
    )
    assert ours[0] < BOUND
