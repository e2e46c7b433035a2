"""`python -m blend_pl sweep FILE`."""

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
"""So many failures without a success between them end a command."""
LOG_TAIL_LINES = 20


def sweep(file: str, trials: int = 20, workers: int = 1, max_parallel: int = 1, output: str = "runs") -> None:
    """Runs a W&B sweep file without an account: draws settings, trains with each, and reports which were best.

    Any number of these commands, also on other machines that share the disk, work on one sweep together; one that was
    killed is started again and loses nothing, and tries again what had failed.

    Args:
        file: sweep file, as in experiments/sweeps.
        trials: how many trials the sweep shall have, over all commands and restarts.
        workers: how many processes this command runs at a time; several share the GPUs.
        max_parallel: how many trials a process has, which on a GPU train at once where their settings allow; see `many`.
        output: folder of all runs; the sweep's own is sweeps/NAME inside.

    Raises:
        ConfigError: the file is no sweep, Optuna is missing, or several trials failed in a row.
        DataError: the folder cannot be written.
        Stopped: it or one of its trials was told to end, or a trial was killed.
    """
    if min(trials, workers, max_parallel) < 1:
        raise ConfigError(f"--trials {trials} --workers {workers} --max_parallel {max_parallel}: all are at least 1")
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
            f"{MAX_CONSECUTIVE_FAILURES} trials in a row failed, see {worker_pool.failed_log}; mend the cause and start the same command again, "
            f"or mend the sweep and remove {journal.folder}"
        )
    if worker_pool.stop.is_set():
        raise TrainingInterrupted("the sweep was ended by a signal; the same command goes on where it was")


class WorkerPool:
    """Workers of one process.

    Args:
        journal: the sweep.
        n_trials: how many trials it shall have.
        max_parallel: how many of them a process has.
        output: folder of all runs.

    Attributes:
        stop: set when all shall end.
        failed_log: the log of the last trial that failed, if as many before it did as end the command.
    """

    def __init__(self, journal: Journal, n_trials: int, max_parallel: int, output: Path) -> None:
        self.journal, self.n_trials, self.max_parallel, self.output = journal, n_trials, max_parallel, output
        self.stop, self.lock = Event(), Lock()
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        self.failed_log: Path | None = None
        self.consecutive_failures = 0

    def run_worker(self, environment: dict[str, str]) -> None:
        """Runs trials until none is left to run, here or elsewhere."""
        try:
            while not self.stop.is_set():
                claims = [*islice(iter(lambda: self.journal.claim(self.n_trials), None), self.max_parallel)]
                if claims:
                    self._run_claims(claims, environment)
                elif self.journal.has_pending():
                    # Its owner may yet be lost.
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
    """The variables of a worker's processes: where there are several workers, each has one GPU."""
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
