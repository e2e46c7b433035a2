"""Journal of a sweep: its trials, their owners and their scores."""

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
    """A trial that this process has claimed.

    Attributes:
        number: number of the trial, from 0.
        values: values of its parameters.
        trial: the `optuna.Trial`.
    """

    number: int
    values: dict[str, Any]
    trial: Any


class Journal:
    """Trials of a sweep in an Optuna journal file, shared by threads, processes and machines with a common disk.

    Claims are made under a lock, so that every trial has one owner. An abandoned trial is claimed by another process
    and keeps its number, parameters and folder. A failed trial has no owner; each later `Journal` of the folder
    retries it once, so that a temporary fault does not cost a sweep its trials.

    Locks are exclusively created files, which network disks support (NFS from version 3), unlike file locks; one left
    by a killed process expires after 30 s.

    Args:
        folder: folder of the sweep; created if missing.
        sweep: the sweep; the folder must not contain another one.

    Raises:
        ConfigError: Optuna is not installed, or the folder contains another sweep.
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
                self.storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
                self.study = optuna.create_study(
                    study_name=STUDY,
                    storage=self.storage,
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
                f"{folder} contains trials of another {sweep.name}: the file or the version of blend_pl has changed "
                "since; use another --output, or rename the file"
            )
        self.initial_failure_counts = {
            trial.number: len(self.failure_reasons(trial)) for trial in self.trials() if self.is_failed(trial)
        }

    def trials(self) -> list[Any]:
        """Returns all trials, as `optuna.trial.FrozenTrial`."""
        return self.study.get_trials(deepcopy=False)

    def trial_dir(self, number: int) -> Path:
        """Returns the folder of a trial."""
        return self.folder / f"trial-{number:04d}"

    def heartbeat_file(self, number: int) -> Path:
        """Returns the file that is touched while a trial runs."""
        return self.trial_dir(number) / ".alive"

    def claim(self, n_trials: int) -> Claim | None:
        """Claims the next trial for this process.

        In this order: an abandoned trial, a new trial if there are fewer than `n_trials`, a trial that had
        failed before this journal was opened.

        Args:
            n_trials: number of trials of the sweep.

        Returns:
            The claim; None if there is no trial to claim now, see `has_pending`.
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
            # For an existing trial Optuna returns the stored values.
            optuna_trial = (
                self.study.ask() if trial is None else optuna.trial.Trial(self.study, self._trial_id(trial.number))
            )
            values = self.sweep.draw(optuna_trial)
            self.trial_dir(optuna_trial.number).mkdir(exist_ok=True)
            self.heartbeat_file(optuna_trial.number).touch()
            claim = Claim(optuna_trial.number, values, optuna_trial)
            optuna_trial.set_user_attr(OWNERS, [current_owner(os.getpid())])
            return claim

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(STUDY)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def _is_abandoned(self, trial: Any) -> bool:
        owners = trial.user_attrs.get(OWNERS)
        if trial.state.is_finished() or self.is_failed(trial):
            return False
        return owners is None or self.heartbeat_monitor.is_stale(owners, self.heartbeat_file(trial.number))

    def _next_retry(self, trials: list[Any]) -> Any:
        """Returns the trial with the fewest failures that this journal may retry; None if there is none."""
        retryable = [
            trial
            for trial in trials
            if self.is_failed(trial)
            and self.initial_failure_counts.get(trial.number) == len(self.failure_reasons(trial))
            # Results without the metric do not change on a retry.
            and not (self.trial_dir(trial.number) / RESULTS_FILE).exists()
        ]
        return min(retryable, key=lambda trial: len(self.failure_reasons(trial)), default=None)

    def _make_sampler(self, number: int) -> Any:
        """Returns a sampler seeded by the trial's number, so that a sweep with one worker is reproducible."""
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
        """Adds the process `pid` to a trial's owners; while it runs, no other process claims the trial."""
        claim.trial.set_user_attr(OWNERS, [current_owner(os.getpid()), current_owner(pid)])

    def finish(self, claim: Claim, value: float) -> None:
        """Stores the score of a trial."""
        self.study.tell(claim.number, value, skip_if_finished=True)

    def fail(self, claim: Claim, reason: str) -> None:
        """Stores the reason of a failure, unless another process has claimed the trial since."""
        with _locked(self.claim_lock):
            trial = self.trials()[claim.number]
            if trial.state.is_finished() or current_owner(os.getpid()) not in trial.user_attrs[OWNERS]:
                return
            # Optuna cannot restart a trial of state FAIL, so failures are user attributes.
            claim.trial.set_user_attr(REASONS, [*self.failure_reasons(trial), reason])
            claim.trial.set_user_attr(OWNERS, [])

    def is_failed(self, trial: Any) -> bool:
        """Returns whether a trial has failed and is not being retried."""
        return not trial.state.is_finished() and trial.user_attrs.get(OWNERS) == []

    def failure_reasons(self, trial: Any) -> list[str]:
        """Returns the reason of each failure of a trial."""
        return list(trial.user_attrs.get(REASONS, []))

    def has_pending(self) -> bool:
        """Returns whether any trial is neither finished nor failed."""
        return any(not (trial.state.is_finished() or self.is_failed(trial)) for trial in self.trials())


@contextmanager
def _locked(lock: Any) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _truncate_partial_line(path: Path) -> None:
    """Removes an incomplete last line, left by a full disk or a power cut; lines after it would be unreadable."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
