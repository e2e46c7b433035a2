"""Tests of experiments/compare.sh, with a stub in place of Python."""

import os
import subprocess
from pathlib import Path

import pytest
from helpers.cli import EXPERIMENTS

STUB = """#!/bin/sh
echo "$@" >> "$CALLS"
"""


def calls_of(tmp_path: Path, **variables: str) -> list[str]:
    """Returns the arguments of each call of Python, in order."""
    stub, calls = tmp_path / "python", tmp_path / "calls.txt"
    stub.write_text(STUB)
    stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), **variables}
    settings = {"SET": "simulated", "OUTPUT": str(tmp_path / "runs"), "UPDATE_DOC": ""}
    subprocess.run(
        ["bash", "experiments/compare.sh"],
        cwd=EXPERIMENTS.parent,
        env={**environment, **settings},
        check=True,
        capture_output=True,
        timeout=30,
    )
    return calls.read_text().splitlines()


@pytest.mark.parametrize(("sessions", "n_sessions"), [("", 1), ("201 202", 2)])
def test_every_arm_seed_and_session_is_one_run(tmp_path: Path, sessions: str, n_sessions: int) -> None:
    *fits, report = calls_of(tmp_path, SESSIONS=sessions, SEEDS="1 2", ARMS="baseline stndt_small+hard")
    assert len(fits) == len(set(fits)) == 4 * n_sessions
    assert all(call.startswith("-m blend_pl fit --config experiments/simulated.yaml+configs/") for call in fits)
    assert sum("+configs/model/stndt_small.yaml+configs/arm/hard.yaml --seed_everything 2" in fit for fit in fits) == (
        n_sessions
    )
    for session in sessions.split():
        assert sum(f"--data.simulation.seed {session} --output" in fit for fit in fits) == 4
    assert report.startswith("-m blend_pl report ")
    assert ("--pool_sessions" in report) == bool(sessions)
    assert ("--data.simulation.seed" in " ".join(fits)) == bool(sessions)
