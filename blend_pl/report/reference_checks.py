"""Warnings about students and teachers that do not exceed simpler models, and the teacher that a gap refers to."""

from collections.abc import Iterator
from statistics import fmean

from blend_pl.metrics.labels import SCORE_LABELS
from blend_pl.report.comparison import Comparison, ExperimentResults
from blend_pl.report.statistics import BlockSeed, SeedSummary
from blend_pl.report.tables import COMPARED_SCORES, higher_is_better
from blend_pl.runs.results import BASELINE, STUDENT, TEACHER

STUDENT_SCORES = ("co_bps", "vel_r2")
"""Scores in which students are compared with baselines without a network."""

ZERO_IS_UNINFORMED = ("co_bps", "vel_r2", "new_r2")
"""Scores that are 0 for a constant prediction."""


def reference_warnings(comparison: Comparison) -> Iterator[str]:
    """Yields a sentence for each student below a plain baseline and each teacher that is no better than the baseline.

    A sentence on the teachers that "gap closed" refers to follows if there are several.
    """
    for experiment in comparison.experiments:
        if experiment.role == STUDENT:
            yield from _plain_baseline_warnings(comparison, experiment)
        if experiment.role == TEACHER:
            yield from _teacher_warnings(comparison, experiment)
    yield from _teacher_references(comparison)


def _plain_baseline_warnings(comparison: Comparison, student: ExperimentResults) -> Iterator[str]:
    """Yields a sentence for each score in which a baseline without a network is better by more than the spread."""
    plain_baselines = [e for e in comparison.experiments if e.role == BASELINE and not e.results.has_network]
    for key in STUDENT_SCORES:
        scored = [e for e in plain_baselines if e.scores_by_seed(key)]
        if not scored or not student.scores_by_seed(key):
            continue
        best = max(scored, key=lambda e: fmean(e.scores_by_seed(key).values()))
        difference, spread = _difference_and_spread(student, best, key)
        if difference < -spread:
            yield (
                f"{student.name} loses to {best.name}, which needs no network, in {SCORE_LABELS[key]} "
                f"({_means(key, student, best)}), by more than its spread."
            )


def _teacher_warnings(comparison: Comparison, teacher: ExperimentResults) -> Iterator[str]:
    """Yields a sentence for each score in which a teacher does not exceed the baseline by more than its spread."""
    baseline = comparison.reference_for(teacher, BASELINE)
    for key in COMPARED_SCORES:
        scores = teacher.scores_by_seed(key)
        if not scores:
            continue
        if baseline is not None and baseline.scores_by_seed(key):
            difference, spread = _difference_and_spread(teacher, baseline, key)
            if difference <= spread:
                yield (
                    f"{teacher.name} is no better than {baseline.name} in {SCORE_LABELS[key]} "
                    f"({_means(key, teacher, baseline)}), so no gain of its students there is due to it."
                )
                continue
        if key in ZERO_IS_UNINFORMED and fmean(scores.values()) <= 0:
            yield (
                f"{teacher.name} is no better than a constant prediction in {SCORE_LABELS[key]} "
                f"({fmean(scores.values()):.4f}), so its students have nothing to learn from it there."
            )


def _teacher_references(comparison: Comparison) -> Iterator[str]:
    """Yields the teacher that "gap closed" of each student refers to, if the students have several."""
    students_by_teacher: dict[str, list[str]] = {}
    for experiment in comparison.experiments:
        teacher = comparison.reference_for(experiment, TEACHER)
        if experiment.role == STUDENT and teacher is not None:
            students_by_teacher.setdefault(teacher.name, []).append(experiment.name)
    if len(students_by_teacher) > 1:
        references = "; ".join(f"{', '.join(names)}: {teacher}" for teacher, names in students_by_teacher.items())
        yield f"Gap closed refers to the teacher of each student ({references})."


def _difference_and_spread(experiment: ExperimentResults, other: ExperimentResults, key: str) -> tuple[float, float]:
    """Returns the mean difference over common seeds (of all seeds without a common one) and its spread.

    The spread is the standard deviation of the first experiment over seeds, and of the differences over folds or
    sessions, whose scores differ more than those of two experiments on one.
    """
    values, other_values = higher_is_better(experiment, key), higher_is_better(other, key)
    differences = {seed: values[seed] - other_values[seed] for seed in values.keys() & other_values.keys()}
    spread = SeedSummary.from_values(differences if any(isinstance(s, BlockSeed) for s in differences) else values)
    difference = fmean(differences.values()) if differences else fmean(values.values()) - fmean(other_values.values())
    return difference, spread.sd or 0.0 if spread else 0.0


def _means(key: str, *experiments: ExperimentResults) -> str:
    return " against ".join(f"{fmean(experiment.scores_by_seed(key).values()):.4f}" for experiment in experiments)
