"""Velocity R2 of each session, for experiments on many."""

from collections.abc import Iterator
from statistics import fmean, stdev

from blend_pl.report.comparison import Comparison, ExperimentResults
from blend_pl.report.tables import Table, summary_cell

SESSION_SCORE_PREFIX = "r2/"
"""What the score of a single session begins with."""

MODEL_INPUTS = {"SpikeTeacher": "spikes", "SingleSessionTeacher": "spikes", "Multimodal": "spikes + LFP"}
"""What models of a class are given wherever they run; all others see the LFP."""

PUBLISHED_SESSION_MEANS = {
    "makin": {"MS-LFP": 0.341, "Distilled": 0.538},
    "flint": {"MS-LFP": 0.346, "Distilled": 0.593},
}
"""Mean velocity R2 on val and test segments, of 18 sessions of monkey I and 9 of monkey C (Erturk et al., 2025)."""

PUBLISHED_SESSION_SOURCE = (
    "outputs of the authors' notebooks, of their own choice of sessions and on val and test segments together; over "
    "all 27 sessions of both monkeys MS-LFP 0.343, Distilled 0.556"
)


def scored_sessions(comparison: Comparison) -> list[str]:
    """Names of the sessions that any experiment was scored on one by one, the held-out ones last."""
    names = {
        name.removeprefix(SESSION_SCORE_PREFIX): None
        for experiment in comparison.experiments
        for run in experiment.runs
        for name in run.scores or {}
        if name.startswith(SESSION_SCORE_PREFIX)
    }
    held_out_names = held_out_sessions(comparison)
    return sorted(names, key=lambda name: name in held_out_names)


def held_out_sessions(comparison: Comparison) -> tuple[str, ...]:
    """Names of the sessions that no distillation has met."""
    return comparison.experiments[0].results.held_out_sessions


def session_table(comparison: Comparison) -> Table:
    """A row for each experiment: what its model sees, R2 of each session over seeds, mean ± sd over sessions."""
    names, held_out_names = scored_sessions(comparison), held_out_sessions(comparison)
    groups = {
        "trained": [n for n in names if n not in held_out_names],
        "new": [n for n in names if n in held_out_names],
    }
    groups = {title: session_names for title, session_names in groups.items() if session_names}
    header = ["experiment", "sees", *(f"{name} (new)" if name in held_out_names else name for name in names)]
    header += [f"mean ± sd over {title} sessions" for title in groups]
    rows = []
    for experiment in comparison.experiments:
        cells = [summary_cell(experiment.scores_by_seed(SESSION_SCORE_PREFIX + name)) for name in names]
        session_means = [
            "" if not any(cells) else _mean_over_sessions(experiment, session_names)
            for session_names in groups.values()
        ]
        rows.append([experiment.name, _model_input(experiment), *cells, *session_means])
    return Table(header, rows)


def _model_input(experiment: ExperimentResults) -> str:
    return MODEL_INPUTS.get(experiment.results.system_class, "LFP")


def _mean_over_sessions(experiment: ExperimentResults, sessions: list[str]) -> str:
    """Mean and standard deviation over sessions of the mean over seeds."""
    means = [
        fmean(scores.values())
        for name in sessions
        if (scores := experiment.scores_by_seed(SESSION_SCORE_PREFIX + name))
    ]
    if not means:
        return ""
    return f"{fmean(means):.4f}" + (f" ± {stdev(means):.4f}" if len(means) > 1 else "")


def published_session_table(comparison: Comparison) -> Table | None:
    """The authors' means, where a comparison is on recordings of the same monkey."""
    methods = PUBLISHED_SESSION_MEANS.get(comparison.session)
    if methods is None or comparison.simulated:
        return None
    return Table(["published", "velocity R2"], [[method, f"{score:.3f}"] for method, score in methods.items()])


def session_caveats(comparison: Comparison) -> Iterator[str]:
    """How sessions are divided, which decides how optimistic scores are."""
    if not scored_sessions(comparison):
        return
    if comparison.experiments[0].results.has_random_split:
        yield (
            "Segments were divided at random, as published: training segments surround those that are scored. "
            "--data.split blocks scores a stretch of time without training neighbours."
        )
    spike_experiments = [experiment.name for experiment in comparison.experiments if _model_input(experiment) != "LFP"]
    if spike_experiments:
        yield (
            f"{', '.join(spike_experiments)}: these need spikes wherever they run and are references from above, no students; "
            "for a recording of LFP alone they are of no use."
        )
    yield (
        "lfp_single_session trains a network of its own on the LFP of every session, the new ones included; the others never met "
        "the new ones, where a linear read-out alone is fitted."
    )
