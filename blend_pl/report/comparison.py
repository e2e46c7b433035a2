"""Groups of finished runs that can be compared."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from blend_pl.errors import DataError
from blend_pl.report.statistics import BlockSeed, Replicate
from blend_pl.report.test_scores import SCORE_TEST_COMMAND, ReleasedScores, read_test_scores
from blend_pl.runs.folder import find_runs
from blend_pl.runs.results import DATA_SETTINGS, ROLES, TEACHER, TEACHER_SYSTEMS, Results


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its folder and its results.

    Attributes:
        path: folder of the run.
        results: its results.
        session: name of its session, if it is pooled with those of other sessions.
    """

    path: Path
    results: Results
    session: str | None = None

    @property
    def seed(self) -> int:
        return self.results.seed

    @property
    def replicate(self) -> Replicate:
        """Seed of the run; with blocks, block and seed."""
        return self.seed if self.block is None else BlockSeed(self.block, self.seed)

    @property
    def block(self) -> str | None:
        """Session, fold or both, if runs of several are pooled."""
        fold = None if self.results.fold is None else f"fold {self.results.fold}"
        return ", ".join(filter(None, (self.session, fold))) or None

    @cached_property
    def released_scores(self) -> ReleasedScores | None:
        """Scores of a run of phase test against the released targets; None for other runs and before scoring.

        Raises:
            DataError: the file of scores is damaged.
        """
        return read_test_scores(self.path) if self.results.phase == "test" else None

    @property
    def scores(self) -> dict[str, float] | None:
        """Scores by name; None for a run of phase test that has not been scored against the released targets."""
        if self.results.phase != "test":
            return self.results.scores
        # A user's own recording may contain the targets of its test trials.
        return self.released_scores.scores if self.released_scores else self.results.scores or None


@dataclass(frozen=True)
class ExperimentResults:
    """Runs that differ only in their seed and block, which is a fold or a session.

    Attributes:
        name: name of the experiment.
        runs: one run per seed, or per block and seed.
    """

    name: str
    runs: tuple[FinishedRun, ...]

    @property
    def results(self) -> Results:
        """Results of the first run; the settings of all runs are equal except for seed and block."""
        return self.runs[0].results

    @property
    def role(self) -> str:
        """Role in the comparison, one of `ROLES`."""
        return self.results.role

    @property
    def n_scored_seeds(self) -> int:
        """Number of seeds with scores; with blocks, number of blocks."""
        scored = [run for run in self.runs if run.scores is not None]
        return len({run.seed if run.block is None else run.block for run in scored})

    @property
    def block_name(self) -> str | None:
        """Plural name of the blocks that are pooled: sessions or folds; None for a comparison over seeds."""
        if self.runs[0].session is not None:
            return "sessions" if self.results.fold is None else "folds of sessions"
        return None if self.results.fold is None else "folds"

    @property
    def scored_runs(self) -> str:
        """Describes the runs with scores: the number of seeds, or of blocks and of seeds of each."""
        if self.block_name is None:
            return str(self.n_scored_seeds)
        scored = [run for run in self.runs if run.scores is not None]
        blocks, n_seeds = f"{self.n_scored_seeds} {self.block_name}", len({run.seed for run in scored})
        if len(scored) != self.n_scored_seeds * n_seeds:
            return f"{blocks}, {len(scored)} runs"
        return blocks if n_seeds <= 1 else f"{blocks} x {n_seeds} seeds"

    def scores_by_seed(self, name: str) -> dict[Replicate, float]:
        """Returns a score by seed, or by block and seed, for the runs that have it."""
        return {run.replicate: run.scores[name] for run in self.runs if run.scores and name in run.scores}

    def oracle_fractions(self, name: str) -> dict[Replicate, float]:
        """Returns a score as a fraction of the true rates' score by seed, where true rates are available."""
        oracles = {run.replicate: (run.results.oracle or {}).get(name, 0.0) for run in self.runs}
        return {seed: score / oracles[seed] for seed, score in self.scores_by_seed(name).items() if oracles[seed] > 0}


@dataclass(frozen=True)
class Comparison:
    """Experiments that are scored on the same trials of the same session and selected in the same way.

    Attributes:
        session: name of the session.
        phase: the trials that are scored, val or test.
        selection: the trials that selected the checkpoints.
        bin_ms: bin width in ms; None for calcium, where a bin is a frame of the microscope.
        experiments: experiments in the order of the table.
        notes: remarks on the comparison, one sentence each.
    """

    session: str
    phase: str
    selection: str
    bin_ms: int | None
    experiments: tuple[ExperimentResults, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        bin_width = f", {self.bin_ms} ms" if self.bin_ms else ""
        folds = f", {self.n_folds} folds" if self.n_folds else ""
        sessions = ", pooled over sessions" if self.experiments[0].runs[0].session else ""
        scored = f"scored on {self.phase}, checkpoints selected on {self.selection}"
        return f"{self.session}{bin_width}{folds}{sessions}: {scored}"

    @property
    def simulated(self) -> bool:
        """Whether the session is simulated."""
        return self.experiments[0].results.is_simulated

    @property
    def block_name(self) -> str | None:
        """Plural name of the blocks that are pooled; None for a comparison over seeds."""
        return self.experiments[0].block_name

    @property
    def n_folds(self) -> int | None:
        """Number of folds of the cross-validation, of which the runs may be a part; None without folds."""
        return self.experiments[0].results.n_folds

    def display_name(self, experiment: ExperimentResults) -> str:
        """Returns an experiment's name without the words that start all names; keeps at least the last word."""
        prefixes = zip(*(other.name.split("_")[:-1] for other in self.experiments), strict=False)
        n_shared = len(list(takewhile(lambda words: len(set(words)) == 1, prefixes)))
        return "_".join(experiment.name.split("_")[n_shared:])

    def reference_for(self, experiment: ExperimentResults, role: str) -> ExperimentResults | None:
        """Returns the baseline or teacher that an experiment is compared with.

        The teacher is the one that the experiment was distilled from, if its runs name the runs of one teacher of this
        comparison, or one with other settings of the same name. Otherwise, of several references with a network,
        returns the one with the same class of backbone and the most equal model settings; of several kinds of
        teachers, the first in `TEACHER_SYSTEMS`.

        Args:
            experiment: an experiment of this comparison.
            role: `BASELINE`, `TEACHER` or `CEILING`.

        Returns:
            The reference, which is `experiment` itself for a baseline; None if there is none, or if there are several
            and none has the same class of backbone.
        """
        own_teacher = self._own_teacher(experiment) if role == TEACHER else None
        if own_teacher is not None:
            return own_teacher
        candidates = [candidate for candidate in self.experiments if candidate.role == role]
        candidates = [
            candidate
            for candidate in candidates
            if candidate.results.has_network and _system_rank(candidate) == _system_rank(candidates[0])
        ]
        if experiment in candidates:
            return experiment
        if len(candidates) > 1:
            backbone = experiment.results.backbone_class_path
            candidates = [c for c in candidates if c.results.backbone_class_path == backbone]
        return max(candidates, key=lambda candidate: _n_shared_settings(candidate, experiment), default=None)

    def _own_teacher(self, experiment: ExperimentResults) -> ExperimentResults | None:
        """Returns the teacher that the experiment was distilled from; None if it is unknown or there are several.

        Runs are identified by the names of their folders, so that the folder of all runs may have been moved.
        """
        run_dirs = {Path(path).parent.parent.parts[-2:] for run in experiment.runs for path in run.results.teachers}
        candidates = [candidate for candidate in self.experiments if candidate.role == TEACHER]
        teachers = [
            candidate
            for candidate in candidates
            if any(run.path.resolve().parts[-2:] in run_dirs for run in candidate.runs)
        ]
        if not teachers:
            names = {parts[0] for parts in run_dirs if parts}
            teachers = [candidate for candidate in candidates if candidate.name in names]
        return teachers[0] if len(teachers) == 1 else None


def compare_runs(folders: Sequence[Path], pool_sessions: bool = False) -> list[Comparison]:
    """Groups runs into experiments, and experiments into comparisons.

    The folds of a cross-validation are in one comparison. Of the runs with one name, keeps those with the settings of
    the latest run, and the latest run of each seed and block. A note gives the number of omitted runs.

    Args:
        folders: runs, experiments (folders of runs) or folders of experiments.
        pool_sessions: whether simulated sessions that differ only in the seed of their simulation are in one
            comparison.

    Raises:
        DataError: a folder holds no finished run, or results are damaged.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for path in find_runs(folders):
        results = Results.read(path)
        is_pooled = pool_sessions and results.is_simulated
        run = FinishedRun(path, results, f"session {results.simulation_seed}" if is_pooled else None)
        data_settings = results.pooled_data_settings if is_pooled else results.data_settings
        key = [results.session, results.phase, results.selection, results.n_folds, data_settings]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(run)
    comparisons = [_build_comparison(runs) for group in groups.values() for runs in _split_by_data(group)]
    return [_note_duplicates(comparison, comparisons[:index]) for index, comparison in enumerate(comparisons)]


def _split_by_data(runs: list[FinishedRun]) -> list[list[FinishedRun]]:
    """Splits runs with equal data settings into groups of the same data, by the digest that all folds share.

    Runs of version 0.1 hold no digest: they join the others if all of these have one digest. Runs of several simulated
    sessions are not split.
    """
    if runs[0].session is not None:
        return [runs]
    groups: dict[str | None, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(run.results.recording_digest, []).append(run)
    return [runs] if len(groups.keys() - {None}) <= 1 else list(groups.values())


def _build_comparison(runs: list[FinishedRun]) -> Comparison:
    by_name: dict[str, list[FinishedRun]] = {}
    for run in runs:
        by_name.setdefault(run.results.name, []).append(run)
    notes: list[str] = []
    experiments = [_build_experiment(name, named_runs, notes) for name, named_runs in by_name.items()]
    experiments.sort(key=_table_order)
    notes += _unknown_data_notes(experiments)
    notes += _test_score_notes(experiments)
    results = runs[0].results
    return Comparison(
        results.session,
        results.phase,
        results.selection,
        results.bin_ms,
        tuple(experiments),
        tuple(notes),
    )


def _table_order(experiment: ExperimentResults) -> tuple[bool, int, int, bool]:
    """Returns the sort key of an experiment's row: baselines without a network last, controls with a teacher first."""
    results = experiment.results
    return not results.has_network, ROLES.index(results.role), _system_rank(experiment), not results.teachers


def _system_rank(experiment: ExperimentResults) -> int:
    """Returns the position of the system in `TEACHER_SYSTEMS`; 0 for other systems."""
    system = experiment.results.system_class
    return TEACHER_SYSTEMS.index(system) if system in TEACHER_SYSTEMS else 0


def _n_shared_settings(first: ExperimentResults, second: ExperimentResults) -> int:
    """Returns the number of model settings that have the same value in two experiments."""
    first_settings, second_settings = first.results.model_settings, second.results.model_settings
    return sum(first_settings[name] == second_settings[name] for name in first_settings.keys() & second_settings.keys())


def _test_score_notes(experiments: Sequence[ExperimentResults]) -> Iterable[str]:
    """Yields notes on the targets of the scored test trials and on runs without scores.

    Raises:
        DataError: runs were scored against different targets.
    """
    runs = [run for experiment in experiments for run in experiment.runs]
    scored_runs = [(run, run.released_scores) for run in runs if run.released_scores]
    run_by_targets = {released.targets_sha256: run for run, released in scored_runs}
    if len(run_by_targets) > 1:
        run_paths = " ".join(str(run.path) for run in [*run_by_targets.values()][:2])
        raise DataError(
            f"{run_paths} were scored against different test targets; score them against the same targets: "
            f"{SCORE_TEST_COMMAND.format(runs=run_paths)}"
        )
    if scored_runs:
        dates = sorted({released.date[:10] for _, released in scored_runs})
        date_range, digest = " to ".join([*dates[:1], *dates[1:][-1:]]), scored_runs[0][1].targets_sha256[:12]
        yield (
            f"Scored against the released targets (sha256 {digest}, {date_range}); do not select models, settings or "
            "seeds on these scores."
        )
    unscored_runs = [run for run in runs if run.scores is None]
    unscored_teachers = [
        e.name for e in experiments if e.role == TEACHER and any(run in unscored_runs for run in e.runs)
    ]
    if unscored_teachers:
        yield f"No scores of {', '.join(unscored_teachers)}: a teacher needs behavior, which is hidden in test trials."
    unscored_students = [
        str(run.path) for e in experiments if e.role != TEACHER for run in e.runs if run in unscored_runs
    ]
    if unscored_students:
        yield (
            f"{len(unscored_students)} run(s) have no scores because the targets of test trials are hidden; score them "
            f"against the released targets with `{SCORE_TEST_COMMAND.format(runs=' '.join(unscored_students))}`."
        )


def _unknown_data_notes(experiments: Sequence[ExperimentResults]) -> Iterable[str]:
    """Yields a note on runs without a digest of their data among runs with one."""
    runs = [run for experiment in experiments for run in experiment.runs]
    unknown = [str(run.path) for run in runs if run.results.digest is None]
    if unknown and len(unknown) < len(runs):
        yield (
            f"{len(unknown)} run(s) of version 0.1 hold no digest of their data ({', '.join(unknown)}); it is assumed "
            "that their data are those of the other runs."
        )


def _note_duplicates(comparison: Comparison, earlier: list[Comparison]) -> Comparison:
    """Adds a note on the data, or their settings, that differ from an earlier comparison with the same title."""
    duplicate = next((other for other in earlier if other.title == comparison.title), None)
    if duplicate is None:
        return comparison
    results, other_results = (compared.experiments[0].results for compared in (comparison, duplicate))
    data_settings = results.data_settings, other_results.data_settings
    differing_keys = ", ".join(key for key in DATA_SETTINGS if data_settings[0][key] != data_settings[1][key])
    note = f"Not comparable with the table of the same title above: these data settings differ: {differing_keys}."
    if not differing_keys:
        digests = [compared.digest or "unknown" for compared in (results, other_results)]
        note = (
            "Not comparable with the table of the same title above: its runs are of other data, so the recording has "
            f"changed (digest {digests[0]}, above {digests[1]})."
        )
    return replace(comparison, notes=(note, *comparison.notes))


def _build_experiment(name: str, runs: list[FinishedRun], notes: list[str]) -> ExperimentResults:
    runs = sorted(runs, key=lambda run: run.results.date)
    matching_runs = [run for run in runs if run.results.settings_key == runs[-1].results.settings_key]
    if len(matching_runs) < len(runs):
        notes.append(
            f"{name}: {len(runs) - len(matching_runs)} run(s) omitted because their settings differ from those of the "
            "latest run."
        )
    run_by_replicate = {run.replicate: run for run in matching_runs}
    if len(run_by_replicate) < len(matching_runs):
        notes.append(
            f"{name}: {len(matching_runs) - len(run_by_replicate)} run(s) omitted because a later run has the same seed"
            f"{'' if runs[-1].block is None else ' and fold or session'}."
        )
    kept_runs = sorted(run_by_replicate.values(), key=lambda run: (run.block or "", run.seed))
    return ExperimentResults(name, tuple(kept_runs))
