"""One trial of a sweep: a `fit` in a process and a folder of its own."""

import math
import signal
import subprocess
import sys
from collections.abc import Mapping
from os import getpid
from pathlib import Path
from threading import Event

from blend_pl.alive import BEAT
from blend_pl.errors import DataError, Stopped
from blend_pl.results import RESULTS, read_results
from blend_pl.signals import STOPPING
from blend_pl.sweep.journal import Claim, Journal

LOG = "log.txt"
PATIENCE = 60.0
"""Seconds that a process may take to end when it is told to."""
ENDING = (*STOPPING, signal.SIGINT, signal.SIGKILL)
"""SIGKILL is what a system that runs out of memory sends; none says anything of the trial's settings."""
TOLD_TO_END = (Stopped.status, *(-number for number in ENDING), *(128 + number for number in ENDING))


class TrialFailed(Exception):
    """A trial that gave no score; says why."""


class Interrupted(Exception):
    """A trial that was told to end, and is to go on some other time."""


def run_trial(claim: Claim, journal: Journal, output: Path, environment: Mapping[str, str], stop: Event) -> float:
    """Runs a trial, from its last checkpoint if it has one; one that has results already is not run again.

    Args:
        claim: the trial.
        journal: the sweep that it belongs to.
        output: folder of all runs, for teachers.
        environment: variables of its process.
        stop: set when the trial is to end.

    Returns:
        The score of its best checkpoint.

    Raises:
        TrialFailed: it ended with an error, or without that score.
        Interrupted: it, or this process, was told to end or killed.
    """
    run = journal.run_of(claim.number)
    if not (run / RESULTS).exists():
        command = [*journal.sweep.arguments(claim.values), "--output", str(output), "--run_dir", str(run)]
        status = _watched([*command, "--resume", "true"], claim, journal, environment, stop)
        if status in TOLD_TO_END:
            raise Interrupted
        if status:
            raise TrialFailed(f"exit status {status}")
    try:
        value = float(read_results(run)["selected"][journal.sweep.metric])
    except (DataError, KeyError, TypeError):
        raise TrialFailed(f"it left no results with {journal.sweep.metric}") from None
    if not math.isfinite(value):
        raise TrialFailed(f"its {journal.sweep.metric} is {value}")
    return value


def _watched(command: list[str], claim: Claim, journal: Journal, environment: Mapping[str, str], stop: Event) -> int:
    """Runs a command to its end, which shows meanwhile that the trial is alive."""
    python = [sys.executable, "-m"]
    alive = [*python, "blend_pl.alive", str(journal.sign_of(claim.number)), *command]
    child = [*python, "blend_pl.child", str(getpid()), *alive]
    with (journal.run_of(claim.number) / LOG).open("ab") as log:
        # In a session of its own: an interrupt from the keyboard reaches this process alone.
        process = subprocess.Popen(
            child, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        journal.join(claim, process.pid)
        while not _ended(process):
            if stop.is_set():
                raise Interrupted
    finally:
        _end(process)
    return process.returncode


def _ended(process: "subprocess.Popen[bytes]", within: float = BEAT) -> bool:
    try:
        process.wait(timeout=within)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    if not _ended(process, PATIENCE):
        process.kill()
        process.wait()
