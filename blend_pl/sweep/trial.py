"""Trials of a sweep as child processes."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from os import getpid
from pathlib import Path
from threading import Event

from blend_pl.errors import DataError, TrainingInterrupted
from blend_pl.runs.results import RESULTS_FILE, Results
from blend_pl.sweep.journal import Claim, Journal
from blend_pl.utils.heartbeat import HEARTBEAT_S
from blend_pl.utils.signals import TERMINATION_SIGNALS

LOG = "log.txt"
TERMINATE_TIMEOUT_S = 60.0
"""Seconds between SIGTERM and SIGKILL for a child process."""
KILL_SIGNALS = (*TERMINATION_SIGNALS, signal.SIGINT, signal.SIGKILL)
"""Signals that interrupt a trial from outside; SIGKILL is sent when the system runs out of memory."""
INTERRUPTED_STATUSES = (
    TrainingInterrupted.status,
    *(-number for number in KILL_SIGNALS),
    *(128 + number for number in KILL_SIGNALS),
)


class TrialFailed(Exception):
    """A trial ended without a score; the message is the reason."""


class TrialInterrupted(Exception):
    """A trial was interrupted by a signal and can be resumed."""


def run_trials(
    claims: Sequence[Claim], journal: Journal, output: Path, environment: Mapping[str, str], stop: Event
) -> list[float | TrialFailed]:
    """Runs trials in one child process, resuming interrupted ones; trials with results are not run again.

    Args:
        claims: claims of the trials.
        journal: journal of the sweep.
        output: folder of all runs, where teachers are found or trained.
        environment: environment variables of the child process.
        stop: event that ends the trials.

    Returns:
        For each trial the score of its best checkpoint, or the reason of its failure.

    Raises:
        TrialInterrupted: a signal ended the child process or this one.
    """
    unfinished = [claim for claim in claims if not (journal.trial_dir(claim.number) / RESULTS_FILE).exists()]
    status = 0
    if unfinished:
        status = _run_with_heartbeat(
            _trial_command(unfinished, journal, output), unfinished, journal, environment, stop
        )
        if status in INTERRUPTED_STATUSES:
            raise TrialInterrupted
    return [_outcome(claim, journal, status) for claim in claims]


def _trial_command(claims: Sequence[Claim], journal: Journal, output: Path) -> list[str]:
    """Returns the command of the child process: `fit` for one trial, `multirun` for several."""
    common_args = ["--output", str(output)]
    if len(claims) == 1:
        run_dir = journal.trial_dir(claims[0].number)
        return [
            *journal.sweep.build_command(claims[0].values),
            *common_args,
            "--run_dir",
            str(run_dir),
            "--resume",
            "true",
        ]
    overrides = [{**claim.values, "run_dir": str(journal.trial_dir(claim.number))} for claim in claims]
    program, experiment, fit_args = journal.sweep.split_command()
    return [
        *program,
        "multirun",
        experiment,
        *common_args,
        f"--overrides={json.dumps(overrides)}",
        f"--fit_args={json.dumps(fit_args)}",
    ]


def _outcome(claim: Claim, journal: Journal, status: int) -> float | TrialFailed:
    try:
        value = float(Results.read(journal.trial_dir(claim.number)).selected[journal.sweep.metric])
    except (DataError, KeyError):
        return TrialFailed(f"exit status {status}" if status else f"it wrote no results with {journal.sweep.metric}")
    return value if math.isfinite(value) else TrialFailed(f"its {journal.sweep.metric} is {value}")


def _run_with_heartbeat(
    command: list[str], claims: Sequence[Claim], journal: Journal, environment: Mapping[str, str], stop: Event
) -> int:
    """Runs a command that touches the heartbeat files of its trials, and returns its exit status."""
    python_module = [sys.executable, "-m"]
    heartbeat_files = [str(journal.heartbeat_file(claim.number)) for claim in claims]
    child_command = [
        *python_module,
        "blend_pl.utils.child",
        str(getpid()),
        *python_module,
        "blend_pl.utils.heartbeat",
        *heartbeat_files,
        "--",
        *command,
    ]
    first_log, *other_logs = (journal.trial_dir(claim.number) / LOG for claim in claims)
    for other_log in other_logs:
        other_log.write_text(f"trained in the process of another trial; see {first_log}\n")
    with first_log.open("ab") as log:
        # In a new session, so that Ctrl-C reaches only this process, which then ends the child.
        process = subprocess.Popen(
            child_command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for claim in claims:
            journal.add_owner(claim, process.pid)
        while not _wait_for_exit(process):
            if stop.is_set():
                raise TrialInterrupted
    finally:
        _terminate(process)
    return process.returncode


def _wait_for_exit(process: "subprocess.Popen[bytes]", timeout: float = HEARTBEAT_S) -> bool:
    try:
        process.wait(timeout=timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def _terminate(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    if not _wait_for_exit(process, TERMINATE_TIMEOUT_S):
        process.kill()
        process.wait()
