"""The journal of a sweep: which trials there are, who runs them, what came out."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blend_pl.errors import ConfigError
from blend_pl.runs.results import RESULTS_FILE
from blend_pl.sweep.file import SweepFile
from blend_pl.sweep.owner import HeartbeatMonitor, current_owner
from blend_pl.utils.files import write_error

JOURNAL, CLAIM_LOCK = "journal.log", "claims"
SWEEP, OWNERS, REASONS = "sweep", "owners", "reasons"
STUDY = "sweep"


@dataclass(frozen=True)
class Claim:
    """A trial that is the holder's to run.

    Attributes:
        number: of the trial, from 0.
        values: its parameters.
        trial: the `optuna.Trial`.
    """

    number: int
    values: dict[str, Any]
    trial: Any


class Journal:
    """Trials of a sweep in a file that threads, processes and machines on a shared disk may use together.

    A trial is made, or taken over from an owner who is gone, under a lock: nobody runs one that another runs. It keeps
    its number, its parameters and its folder, whoever runs it. One that has failed is nobody's and is tried again, once
    by each later journal of the folder, so that no moment's trouble costs a sweep its trials.

    Locks are files that are made exclusively, which network disks can do (NFS from version 3), unlike locks on files;
    one that was left behind by a kill lapses after 30 s.

    Args:
        folder: of the sweep; made if missing.
        sweep: what is drawn. The folder's own sweep must be the same.

    Raises:
        ConfigError: Optuna is not installed, or the folder holds another sweep.
        DataError: the folder cannot be written.
    """

    def __init__(self, folder: Path, sweep: SweepFile) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
        except ImportError:
            raise ConfigError('sweep needs Optuna; run pip install "blend-pl[sweep]"') from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.sweep, self.heartbeat_monitor = folder, sweep, HeartbeatMonitor()
        path = folder / JOURNAL
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = JournalFileOpenLock(str(path))
            self.claim_lock = JournalFileOpenLock(str(folder / CLAIM_LOCK))
            with _locked(self.claim_lock):
                with _locked(lock):
                    _truncate_partial_line(path)
                self.study = optuna.create_study(
                    study_name=STUDY,
                    storage=optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock)),
                    direction="maximize" if sweep.maximize else "minimize",
                    load_if_exists=True,
                )
                stored_identity = self.study.user_attrs.get(SWEEP)
                if stored_identity is None:
                    self.study.set_user_attr(SWEEP, sweep.identity)
        except OSError as error:
            raise write_error(folder, error) from error
        if stored_identity is not None and stored_identity != sweep.identity:
            raise ConfigError(
                f"{folder} holds trials of another {sweep.name}, for the file has changed since; choose another "
                "--output, or another name for the file"
            )
        self.initial_failure_counts = {
            trial.number: len(self.failure_reasons(trial)) for trial in self.trials() if self.is_failed(trial)
        }

    def trials(self) -> list[Any]:
        """All trials, as `optuna.trial.FrozenTrial`."""
        return self.study.get_trials(deepcopy=False)

    def trial_dir(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / f"trial-{number:04d}"

    def heartbeat_file(self, number: int) -> Path:
        """The file that is touched as long as a trial runs."""
        return self.trial_dir(number) / ".alive"

    def claim(self, n_trials: int) -> Claim | None:
        """The next trial for this process.

        That is one whose owner is gone; else a new one if fewer than `n_trials` are there; else one that had failed when
        this journal was opened.

        Returns:
            The trial, or None if there is none now; see `open`.
        """
        import optuna

        with _locked(self.claim_lock):
            trials = self.trials()
            trial = next((trial for trial in trials if self._is_abandoned(trial)), None)
            if trial is None and len(trials) >= min(n_trials, self.sweep.max_trials):
                trial = self._next_retry(trials)
                if trial is None:
                    return None
            self.study.sampler = self._make_sampler(len(trials) if trial is None else trial.number)
            # Asked again, Optuna draws for a trial what it has drawn before.
            optuna_trial = self.study.ask() if trial is None else optuna.trial.Trial(self.study, trial._trial_id)
            values = self.sweep.draw(optuna_trial)
            self.trial_dir(optuna_trial.number).mkdir(exist_ok=True)
            self.heartbeat_file(optuna_trial.number).touch()
            claim = Claim(optuna_trial.number, values, optuna_trial)
            optuna_trial.set_user_attr(OWNERS, [current_owner(os.getpid())])
            return claim

    def _is_abandoned(self, trial: Any) -> bool:
        owners = trial.user_attrs.get(OWNERS)
        if trial.state.is_finished() or self.is_failed(trial):
            return False
        return owners is None or self.heartbeat_monitor.is_stale(owners, self.heartbeat_file(trial.number))

    def _next_retry(self, trials: list[Any]) -> Any:
        """The trial that failed least often of those that this journal may try again; None if there is none."""
        retryable = [
            trial
            for trial in trials
            if self.is_failed(trial)
            and self.initial_failure_counts.get(trial.number) == len(self.failure_reasons(trial))
            # A finished run would only be read once more.
            and not (self.trial_dir(trial.number) / RESULTS_FILE).exists()
        ]
        return min(retryable, key=lambda trial: len(self.failure_reasons(trial)), default=None)

    def _make_sampler(self, number: int) -> Any:
        """Seeded by the trial's number, no two processes draw the same, and one alone draws the same each time."""
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler

        if self.sweep.method == "bayes":
            return TPESampler(seed=number, constant_liar=True)
        random = RandomSampler(seed=number)
        if self.sweep.method == "random":
            return random
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return PartialFixedSampler(self.sweep.grid_point(number), random)

    def add_owner(self, claim: Claim, pid: int) -> None:
        """Says who else runs a trial: as long as that process lives, nobody takes the trial over."""
        claim.trial.set_user_attr(OWNERS, [current_owner(os.getpid()), current_owner(pid)])

    def finish(self, claim: Claim, value: float) -> None:
        """Writes down what came out of a trial."""
        self.study.tell(claim.number, value, skip_if_finished=True)

    def fail(self, claim: Claim, reason: str) -> None:
        """Writes down that a trial has failed, and why; whoever has taken it over meanwhile decides instead."""
        with _locked(self.claim_lock):
            trial = self.trials()[claim.number]
            if trial.state.is_finished() or current_owner(os.getpid()) not in trial.user_attrs[OWNERS]:
                return
            # Optuna never runs again what it was told has failed.
            claim.trial.set_user_attr(REASONS, [*self.failure_reasons(trial), reason])
            claim.trial.set_user_attr(OWNERS, [])

    def is_failed(self, trial: Any) -> bool:
        """Whether a trial has failed and nobody tries it again now."""
        return not trial.state.is_finished() and trial.user_attrs.get(OWNERS) == []

    def failure_reasons(self, trial: Any) -> list[str]:
        """Why a trial failed, each time that it did."""
        return list(trial.user_attrs.get(REASONS, []))

    def has_pending(self) -> bool:
        """Whether any trial is still to end."""
        return any(not (trial.state.is_finished() or self.is_failed(trial)) for trial in self.trials())


@contextmanager
def _locked(lock: Any) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _truncate_partial_line(path: Path) -> None:
    """Cuts off a line that a full disk or a power cut left half written; whatever came after would be unreadable."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
