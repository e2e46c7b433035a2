"""Command `sweep`: runs the trials of a sweep file in worker processes."""

import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Event, Lock

from rich.console import Console

from blend_pl.errors import ConfigError, TrainingInterrupted
from blend_pl.runs.teachers import clean_environment
from blend_pl.sweep.file import read_sweep
from blend_pl.sweep.journal import Claim, Journal
from blend_pl.sweep.summary import write_summary
from blend_pl.sweep.trial import LOG, TrialFailed, TrialInterrupted, run_trials
from blend_pl.utils.heartbeat import HEARTBEAT_S
from blend_pl.utils.signals import TERMINATION_SIGNALS, handle_signals

SWEEPS = "sweeps"
MAX_CONSECUTIVE_FAILURES = 3
"""Number of consecutive failed trials after which the command ends."""
LOG_TAIL_LINES = 20


def sweep(file: str, trials: int = 20, workers: int = 1, max_parallel: int = 1, output: str = "runs") -> None:
    """Runs a W&B sweep file without an account: draws settings, trains with each, and reports the best ones.

    Several commands, also on machines that share a disk, can work on one sweep at the same time. A restarted command
    resumes interrupted trials and retries failed ones.

    Args:
        file: sweep file, as in experiments/sweeps.
        trials: number of trials of the sweep, over all commands and restarts.
        workers: number of processes that this command runs at a time; the GPUs are divided among them.
        max_parallel: number of trials per process. On a GPU they train at once where their settings allow it; see
            `multirun`.
        output: folder of all runs; the sweep's folder is sweeps/NAME inside it.

    Raises:
        ConfigError: the file is not a valid sweep, Optuna is missing, or several trials failed in a row.
        DataError: the folder cannot be written.
        TrainingInterrupted: a signal ended the command or one of its trials.
    """
    if min(trials, workers, max_parallel) < 1:
        raise ConfigError(
            f"--trials {trials} --workers {workers} --max_parallel {max_parallel}: each must be at least 1"
        )
    sweep_file = read_sweep(Path(file))
    journal = Journal(Path(output) / SWEEPS / sweep_file.name, sweep_file)
    worker_pool = WorkerPool(journal, trials, max_parallel, Path(output))
    signal_handlers = handle_signals(lambda _: worker_pool.stop.set(), (*TERMINATION_SIGNALS, signal.SIGINT))
    with signal_handlers, ThreadPoolExecutor(workers) as executor:
        for future in [
            executor.submit(worker_pool.run_worker, _worker_environment(worker_index, workers))
            for worker_index in range(workers)
        ]:
            future.result()
    write_summary(journal)
    if worker_pool.failed_log:
        raise ConfigError(
            f"{MAX_CONSECUTIVE_FAILURES} trials in a row failed, see {worker_pool.failed_log}; fix the cause and run "
            f"the same command again, or fix the sweep file and delete {journal.folder}"
        )
    if worker_pool.stop.is_set():
        raise TrainingInterrupted("a signal ended the sweep; run the same command again to resume it")


class WorkerPool:
    """The workers of one command; each runs trials in child processes.

    Args:
        journal: journal of the sweep.
        n_trials: number of trials of the sweep.
        max_parallel: number of trials per child process.
        output: folder of all runs.

    Attributes:
        stop: event that ends all workers.
        failed_log: log of the trial with which `MAX_CONSECUTIVE_FAILURES` was reached; None before.
    """

    def __init__(self, journal: Journal, n_trials: int, max_parallel: int, output: Path) -> None:
        self.journal, self.n_trials, self.max_parallel, self.output = journal, n_trials, max_parallel, output
        self.stop, self.lock = Event(), Lock()
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        self.failed_log: Path | None = None
        self.consecutive_failures = 0

    def run_worker(self, environment: dict[str, str]) -> None:
        """Runs trials until none is left to claim and none is running, here or on other machines."""
        try:
            while not self.stop.is_set():
                claims = [*islice(iter(lambda: self.journal.claim(self.n_trials), None), self.max_parallel)]
                if claims:
                    self._run_claims(claims, environment)
                elif self.journal.has_pending():
                    # A trial that runs elsewhere may be abandoned and has to be taken over then.
                    self.stop.wait(HEARTBEAT_S)
                else:
                    return
        except BaseException:
            self.stop.set()
            raise

    def _run_claims(self, claims: Sequence[Claim], environment: dict[str, str]) -> None:
        for claim in claims:
            self.console.print(f"trial {claim.number}: {self.journal.trial_dir(claim.number)}")
        try:
            outcomes = run_trials(claims, self.journal, self.output, environment, self.stop)
        except TrialInterrupted:
            self.stop.set()
            return
        for claim, outcome in zip(claims, outcomes, strict=True):
            log = self.journal.trial_dir(claim.number) / LOG
            if isinstance(outcome, TrialFailed):
                self.journal.fail(claim, str(outcome))
                self.console.print(f"trial {claim.number} failed, {outcome}; see {log}")
            else:
                self.journal.finish(claim, outcome)
                self.console.print(f"trial {claim.number}: {self.journal.sweep.metric} {outcome:.4f}")
            self._record_outcome(not isinstance(outcome, TrialFailed), log)

    def _record_outcome(self, success: bool, log: Path) -> None:
        with self.lock:
            self.consecutive_failures = 0 if success else self.consecutive_failures + 1
            if self.failed_log is None and self.consecutive_failures == MAX_CONSECUTIVE_FAILURES:
                self.failed_log = log
                self.stop.set()
                self.console.print(*log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:], sep="\n")


def _worker_environment(worker_index: int, n_workers: int) -> dict[str, str]:
    """Returns the environment of a worker's processes; with several workers, each sees one GPU."""
    import torch

    environment = clean_environment()
    visible_devices = environment.get("CUDA_VISIBLE_DEVICES")
    devices = (
        range(torch.cuda.device_count())
        if visible_devices is None
        else [device for device in visible_devices.split(",") if device]
    )
    if n_workers > 1 and devices:
        environment["CUDA_VISIBLE_DEVICES"] = str(devices[worker_index % len(devices)])
    return environment
