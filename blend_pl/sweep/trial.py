"""Trials of a sweep: a process for one or for several, a folder for each."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from os import getpid
from pathlib import Path
from threading import Event

from blend_pl.errors import DataError, Stopped
from blend_pl.runs.results import RESULTS, read_results
from blend_pl.sweep.journal import Claim, Journal
from blend_pl.utils.heartbeat import BEAT
from blend_pl.utils.signals import STOPPING

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


def run_trials(
    claims: Sequence[Claim], journal: Journal, output: Path, environment: Mapping[str, str], stop: Event
) -> list[float | TrialFailed]:
    """Runs trials in one process, from where they were; those that have results already are not run again.

    Args:
        claims: the trials.
        journal: the sweep that they belong to.
        output: folder of all runs, for teachers.
        environment: variables of the process.
        stop: set when the trials are to end.

    Returns:
        The score of the best checkpoint of each, or why there is none.

    Raises:
        Interrupted: the process, or this one, was told to end or killed.
    """
    missing = [claim for claim in claims if not (journal.run_of(claim.number) / RESULTS).exists()]
    status = 0
    if missing:
        status = _watched(_command(missing, journal, output), missing, journal, environment, stop)
        if status in TOLD_TO_END:
            raise Interrupted
    return [_outcome(claim, journal, status) for claim in claims]


def _command(claims: Sequence[Claim], journal: Journal, output: Path) -> list[str]:
    """A `fit` for one trial, `many` for several."""
    shared = ["--output", str(output)]
    if len(claims) == 1:
        run = journal.run_of(claims[0].number)
        return [*journal.sweep.arguments(claims[0].values), *shared, "--run_dir", str(run), "--resume", "true"]
    points = [{**claim.values, "run_dir": str(journal.run_of(claim.number))} for claim in claims]
    program, experiment, fit = journal.sweep.shared()
    return [*program, "many", experiment, *shared, f"--points={json.dumps(points)}", f"--fit_args={json.dumps(fit)}"]


def _outcome(claim: Claim, journal: Journal, status: int) -> float | TrialFailed:
    try:
        value = float(read_results(journal.run_of(claim.number))["selected"][journal.sweep.metric])
    except (DataError, KeyError, TypeError):
        return TrialFailed(f"exit status {status}" if status else f"it left no results with {journal.sweep.metric}")
    return value if math.isfinite(value) else TrialFailed(f"its {journal.sweep.metric} is {value}")


def _watched(
    command: list[str], claims: Sequence[Claim], journal: Journal, environment: Mapping[str, str], stop: Event
) -> int:
    """Runs a command to its end, which shows meanwhile that its trials are alive."""
    python = [sys.executable, "-m"]
    signs = [str(journal.sign_of(claim.number)) for claim in claims]
    child = [
        *python,
        "blend_pl.utils.child",
        str(getpid()),
        *python,
        "blend_pl.utils.heartbeat",
        *signs,
        "--",
        *command,
    ]
    first, *others = (journal.run_of(claim.number) / LOG for claim in claims)
    for other in others:
        other.write_text(f"trained together with others; see {first}\n")
    with first.open("ab") as log:
        # In a session of its own: an interrupt from the keyboard reaches this process alone.
        process = subprocess.Popen(
            child, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for claim in claims:
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
