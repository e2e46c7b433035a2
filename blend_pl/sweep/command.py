"""`python -m blend_pl sweep FILE`."""

import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Event, Lock

from rich.console import Console

from blend_pl.errors import ConfigError, Stopped
from blend_pl.runs.teachers import own_environment
from blend_pl.sweep.file import read_sweep
from blend_pl.sweep.journal import Claim, Journal
from blend_pl.sweep.summary import write_summary
from blend_pl.sweep.trial import LOG, Interrupted, TrialFailed, run_trials
from blend_pl.utils.heartbeat import BEAT
from blend_pl.utils.signals import STOPPING, on_stopping

SWEEPS = "sweeps"
IN_A_ROW = 3
"""So many failures without a success between them end a command."""
LINES = 20


def sweep(file: str, trials: int = 20, workers: int = 1, together: int = 1, output: str = "runs") -> None:
    """Runs a W&B sweep file without an account: draws settings, trains with each, and reports which were best.

    Any number of these commands, also on other machines that share the disk, work on one sweep together; one that was
    killed is started again and loses nothing, and tries again what had failed.

    Args:
        file: sweep file, as in experiments/sweeps.
        trials: how many trials the sweep shall have, over all commands and restarts.
        workers: how many processes this command runs at a time; several share the GPUs.
        together: how many trials a process has, which on a GPU train at once where their settings allow; see `many`.
        output: folder of all runs; the sweep's own is sweeps/NAME inside.

    Raises:
        ConfigError: the file is no sweep, Optuna is missing, or several trials failed in a row.
        DataError: the folder cannot be written.
        Stopped: it or one of its trials was told to end, or a trial was killed.
    """
    if min(trials, workers, together) < 1:
        raise ConfigError(f"--trials {trials} --workers {workers} --together {together}: all are at least 1")
    wanted = read_sweep(Path(file))
    journal = Journal(Path(output) / SWEEPS / wanted.name, wanted)
    crew = Crew(journal, trials, together, Path(output))
    told = on_stopping(lambda _: crew.stop.set(), (*STOPPING, signal.SIGINT))
    with told, ThreadPoolExecutor(workers) as pool:
        for worker in [pool.submit(crew.work, _variables(number, workers)) for number in range(workers)]:
            worker.result()
    write_summary(journal)
    if crew.hopeless:
        raise ConfigError(
            f"{IN_A_ROW} trials in a row failed, see {crew.hopeless}; mend the cause and start the same command again, "
            f"or mend the sweep and remove {journal.folder}"
        )
    if crew.stop.is_set():
        raise Stopped("the sweep was ended by a signal; the same command goes on where it was")


class Crew:
    """Workers of one process.

    Args:
        journal: the sweep.
        wanted: how many trials it shall have.
        together: how many of them a process has.
        output: folder of all runs.

    Attributes:
        stop: set when all shall end.
        hopeless: the log of the last trial that failed, if as many before it did as end the command.
    """

    def __init__(self, journal: Journal, wanted: int, together: int, output: Path) -> None:
        self.journal, self.wanted, self.together, self.output = journal, wanted, together, output
        self.stop, self.lock = Event(), Lock()
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        self.hopeless: Path | None = None
        self.failures = 0

    def work(self, environment: dict[str, str]) -> None:
        """Runs trials until none is left to run, here or elsewhere."""
        try:
            while not self.stop.is_set():
                claims = [*islice(iter(lambda: self.journal.claim(self.wanted), None), self.together)]
                if claims:
                    self._run(claims, environment)
                elif self.journal.open():
                    # Its owner may yet be lost.
                    self.stop.wait(BEAT)
                else:
                    return
        except BaseException:
            self.stop.set()
            raise

    def _run(self, claims: Sequence[Claim], environment: dict[str, str]) -> None:
        for claim in claims:
            self.console.print(f"trial {claim.number}: {self.journal.run_of(claim.number)}")
        try:
            outcomes = run_trials(claims, self.journal, self.output, environment, self.stop)
        except Interrupted:
            self.stop.set()
            return
        for claim, outcome in zip(claims, outcomes, strict=True):
            log = self.journal.run_of(claim.number) / LOG
            if isinstance(outcome, TrialFailed):
                self.journal.fail(claim, str(outcome))
                self.console.print(f"trial {claim.number} failed, {outcome}; see {log}")
            else:
                self.journal.finish(claim, outcome)
                self.console.print(f"trial {claim.number}: {self.journal.sweep.metric} {outcome:.4f}")
            self._count(not isinstance(outcome, TrialFailed), log)

    def _count(self, success: bool, log: Path) -> None:
        with self.lock:
            self.failures = 0 if success else self.failures + 1
            if self.hopeless is None and self.failures == IN_A_ROW:
                self.hopeless = log
                self.stop.set()
                self.console.print(*log.read_text(errors="replace").splitlines()[-LINES:], sep="\n")


def _variables(worker: int, workers: int) -> dict[str, str]:
    """The variables of a worker's processes: where there are several workers, each has one GPU."""
    import torch

    variables = own_environment()
    named = variables.get("CUDA_VISIBLE_DEVICES")
    visible = range(torch.cuda.device_count()) if named is None else [each for each in named.split(",") if each]
    if workers > 1 and visible:
        variables["CUDA_VISIBLE_DEVICES"] = str(visible[worker % len(visible)])
    return variables
