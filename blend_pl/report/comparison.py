"""Finished runs, gathered into what may be compared with one another."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from blend_pl.errors import DataError
from blend_pl.report.test_scores import SCORE_ON_TEST, ReleasedScores, read_test_scores
from blend_pl.runs.folder import find_runs
from blend_pl.runs.results import RESULTS, read_results

BASELINE, TEACHER, REFERENCE, STUDENT, SELF, OTHER = ROLES = (
    *("baseline", "teacher", "reference", "student", "self", "other"),
)
"""What an experiment is to the others, in the order of the table."""

REFERENCES = ("finetuned", "multimodal")
"""Last words of experiments whose models need what is privileged wherever they run, and are not the teacher itself."""

SINGLE_SESSION = "_ss_lfp"
"""What experiments on many sessions are held against: a network for each, on its own LFP."""

DATA = (
    *("spec", "bin_ms", "phase", "source", "simulation", "select_on", "holdout"),
    *("held_out", "length", "split", "split_seed"),
)
"""Settings of the data module that decide which trials are scored, and what is known about them."""

TRAINING = ("max_epochs", "max_steps", "gradient_clip_val", "precision")
"""Settings of the trainer that decide what is learnt, whatever machine it runs on."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what its results.json holds."""

    path: Path
    results: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.results["seed"])

    @property
    def n_teachers(self) -> int:
        return len(self.results.get("teachers") or [])

    @property
    def data(self) -> dict[str, Any]:
        return {key: self.results["config"]["data"]["init_args"].get(key) for key in DATA}

    @cached_property
    def released(self) -> ReleasedScores | None:
        """What a run of phase test scored against the released targets; None for other runs, and before scoring.

        Raises:
            DataError: that file is damaged.
        """
        return read_test_scores(self.path) if self.results["phase"] == "test" else None

    @property
    def scores(self) -> dict[str, float] | None:
        """Its scores by name; None for a run of phase test that has not been scored, for it sees no targets."""
        if self.results["phase"] != "test":
            return self.results["scores"]
        # A file of one's own may hold the targets of its test trials.
        return self.released.scores if self.released else self.results["scores"] or None

    @property
    def settings(self) -> str:
        """What runs that differ in their seed alone have in common; places and machines do not count."""
        config = self.results["config"]
        distillation = {**((config.get("distillation") or {}).get("init_args") or {}), "teacher": self.n_teachers}
        trainer = {key: config.get("trainer", {}).get(key) for key in TRAINING}
        batch = config["data"]["init_args"].get("batch_size")
        return json.dumps([config.get("model"), self.data, batch, distillation, trainer], sort_keys=True)


@dataclass(frozen=True)
class Experiment:
    """Runs that differ in their seed alone.

    Attributes:
        name: its name; by its last word it is a `baseline` (`ss_lfp` too), a `teacher`, a reference from above
            (`finetuned`, `multimodal`) or a `self`-distilled control (mc_maze_baseline), else by its results a
            student, if it had a teacher, or something other.
        runs: one run a seed.
    """

    name: str
    runs: tuple[Run, ...]

    @property
    def family(self) -> str:
        """The name without its last word."""
        return self.name.rpartition("_")[0]

    @property
    def role(self) -> str:
        word = self.name.rpartition("_")[2]
        if self.name.endswith(SINGLE_SESSION):
            return BASELINE
        if word in (BASELINE, TEACHER, SELF):
            return word
        if word in REFERENCES:
            return REFERENCE
        return STUDENT if self.runs[0].n_teachers else OTHER

    @property
    def n_scored(self) -> int:
        """Number of seeds that have scores."""
        return sum(run.scores is not None for run in self.runs)

    def scores(self, name: str) -> dict[int, float]:
        """A score by seed, of the runs that have it."""
        return {run.seed: run.scores[name] for run in self.runs if run.scores and name in run.scores}

    def fractions(self, name: str) -> dict[int, float]:
        """A score as a fraction of the true rates' score by seed, where those are known."""
        oracles = {run.seed: (run.results.get("oracle") or {}).get(name, 0.0) for run in self.runs}
        return {seed: score / oracles[seed] for seed, score in self.scores(name).items() if oracles[seed] > 0}


@dataclass(frozen=True)
class Comparison:
    """Experiments that were scored on the same trials of the same session and selected in the same way.

    Attributes:
        session: name of the session.
        phase: the trials that are scored, val or test.
        selection: the trials that chose the checkpoints.
        bin_ms: bin width; None for recordings on the frames of a microscope.
        experiments: in the order of the table.
        notes: what a reader has to know, one sentence each.
    """

    session: str
    phase: str
    selection: str
    bin_ms: int | None
    experiments: tuple[Experiment, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        width = f", {self.bin_ms} ms" if self.bin_ms else ""
        return f"{self.session}{width}: scored on {self.phase}, checkpoints selected on {self.selection}"

    @property
    def simulated(self) -> bool:
        """Whether the session is simulated, whatever its name."""
        return self.experiments[0].runs[0].data["source"] == "simulated"

    def short(self, experiment: Experiment) -> str:
        """An experiment's name without the words that all begin with; its last word is always kept."""
        beginnings = zip(*(other.name.split("_")[:-1] for other in self.experiments), strict=False)
        shared = len(list(takewhile(lambda words: len(set(words)) == 1, beginnings)))
        return "_".join(experiment.name.split("_")[shared:])

    def partner(self, experiment: Experiment, role: str) -> Experiment | None:
        """The baseline or teacher that an experiment is held against: of several, that of the nearest family.

        A family is nearer the more of its words the experiment's own begins with: x_small_hard is held against
        x_small_baseline, or else against x_baseline.
        """
        candidates = [candidate for candidate in self.experiments if candidate.role == role]
        if len(candidates) > 1:
            candidates = [c for c in candidates if f"{experiment.family}_".startswith(f"{c.family}_")]
        return max(candidates, key=lambda candidate: len(candidate.family), default=None)


def compare(folders: Sequence[Path]) -> list[Comparison]:
    """Gathers runs into experiments, and experiments into comparisons.

    Of runs with one name, those count whose settings are those of the latest, and of one seed the latest; a note tells
    which others were left out.

    Args:
        folders: runs, experiments (folders of runs) or folders of experiments.

    Raises:
        DataError: a folder holds no finished run, or results are damaged.
    """
    groups: dict[str, list[Run]] = {}
    for run in (Run(path, read_results(path)) for path in find_runs(folders)):
        results = run.results
        try:
            key = [results["session"], results["phase"], results["selection"], run.data]
            _ = results["name"], results["scores"], results["date"], run.seed, run.settings
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{run.path / RESULTS} lacks {error}; run that experiment again") from error
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(run)
    comparisons = [_comparison(runs) for runs in groups.values()]
    return [_told_apart(comparison, comparisons[:index]) for index, comparison in enumerate(comparisons)]


def _comparison(runs: list[Run]) -> Comparison:
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.results["name"], []).append(run)
    notes: list[str] = []
    experiments = [_experiment(name, same, notes) for name, same in by_name.items()]
    experiments.sort(key=lambda experiment: ROLES.index(experiment.role))
    notes += _on_test(experiments)
    first = runs[0]
    return Comparison(
        first.results["session"],
        first.results["phase"],
        first.results["selection"],
        first.data["bin_ms"],
        tuple(experiments),
        tuple(notes),
    )


def _on_test(experiments: Sequence[Experiment]) -> Iterable[str]:
    """Notes what the scores of test trials are made from, and which runs have none yet.

    Raises:
        DataError: runs were scored against different targets.
    """
    runs = [run for experiment in experiments for run in experiment.runs]
    scored = [(run, run.released) for run in runs if run.released]
    one_each = {released.targets: run for run, released in scored}
    if len(one_each) > 1:
        pair = " ".join(str(run.path) for run in [*one_each.values()][:2])
        raise DataError(
            f"{pair} were scored against different test targets; score them against the same: "
            f"{SCORE_ON_TEST.format(runs=pair)}"
        )
    if scored:
        dates = sorted({released.date[:10] for _, released in scored})
        when, digest = " to ".join([*dates[:1], *dates[1:][-1:]]), scored[0][1].targets[:12]
        yield f"Scored against the released targets (sha256 {digest}, {when}); nothing may be selected on these scores."
    missing = [run for run in runs if run.scores is None]
    blind = [e.name for e in experiments if e.role == TEACHER and any(run in missing for run in e.runs)]
    if blind:
        yield f"No scores of {', '.join(blind)}: a teacher needs the behaviour that test trials hide."
    students = [str(run.path) for e in experiments if e.role != TEACHER for run in e.runs if run in missing]
    if students:
        yield (
            f"{len(students)} run(s) have no scores, for the targets of test trials are hidden from them; score them "
            f"against the released ones with `{SCORE_ON_TEST.format(runs=' '.join(students))}`."
        )


def _told_apart(comparison: Comparison, earlier: list[Comparison]) -> Comparison:
    """Notes in which settings the data differ from an earlier table's of the same title."""
    twin = next((other for other in earlier if other.title == comparison.title), None)
    if twin is None:
        return comparison
    data = [other.experiments[0].runs[0].data for other in (comparison, twin)]
    different = ", ".join(key for key in DATA if data[0][key] != data[1][key])
    note = f"Not comparable with the table of the same title above, for data settings differ: {different}."
    return replace(comparison, notes=(note, *comparison.notes))


def _experiment(name: str, runs: list[Run], notes: list[str]) -> Experiment:
    runs = sorted(runs, key=lambda run: run.results["date"])
    same = [run for run in runs if run.settings == runs[-1].settings]
    if len(same) < len(runs):
        notes.append(
            f"{name}: {len(runs) - len(same)} run(s) left out, for their settings differ from the latest run's."
        )
    by_seed = {run.seed: run for run in same}
    if len(by_seed) < len(same):
        notes.append(f"{name}: {len(same) - len(by_seed)} run(s) left out, for a later run has the same seed.")
    return Experiment(name, tuple(by_seed[seed] for seed in sorted(by_seed)))
