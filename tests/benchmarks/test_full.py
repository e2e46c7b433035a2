"""One command from NWB files to scored rates: a student of MC_Maze's size and its teacher."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.cli import REPOSITORY, experiment
from measure import DEVICE

from blend_pl.data.nlb.simulation import PRESETS
from blend_pl.data.nlb.simulation.files import TEST_FILE, TRAIN_FILE, write_session

pytestmark = pytest.mark.benchmark

FULL = PRESETS["mc_maze"]
SHORT = replace(FULL, n_train=192, n_val=64, n_test=2)
SHORT_TRAINING = ["--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1"]
COMPILED = REPOSITORY / "configs/trainer/compiled.yaml"
"""Config that compiles the networks."""
BOUND = 600.0
"""Timeout in seconds of both trainings, with the experiment's length of training, on one H100."""


def test_from_files_to_scored_rates(tmp_path: Path) -> None:
    full_size = DEVICE == "cuda"
    write_session(FULL if full_size else SHORT, tmp_path / "data")
    files = json.dumps({"train": TRAIN_FILE, "test": TEST_FILE})
    training = [f"--config={COMPILED}", *([] if full_size else SHORT_TRAINING)]
    command = ["fit", "--config", experiment("mc_maze_hard"), f"--data.root={tmp_path / 'data'}"]
    command += [f"--output={tmp_path / 'runs'}", f"--data.spec.files={files}", *training]
    command += [f"--teacher_args={json.dumps(training)}"]
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    process = subprocess.run(
        [sys.executable, "-m", "blend_pl", *command], env=environment, capture_output=True, text=True, timeout=BOUND
    )
    duration = time.perf_counter() - start
    assert process.returncode == 0, process.stderr[-3000:]
    assert len([*(tmp_path / "runs").glob("mc_maze_teacher/*/results.json")]) == 1
    (results,) = (json.loads(path.read_text()) for path in (tmp_path / "runs").glob("mc_maze_hard/*/results.json"))
    budget = "the experiment's budget" if full_size else "SHORTENED because there is no GPU: 256 trials, 2 epochs"
    device = torch.cuda.get_device_name() if full_size else "a CPU"
    print(
        f"\nteacher and student on {device}, {budget}: {duration:.0f} s, student {results['epoch']} epochs, "
        f"{1000 * results['cost']['seconds_per_step']:.1f} ms a step, co-bps {results['scores']['co_bps']:.4f}"
    )
