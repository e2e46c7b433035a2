"""Velocity R2 of each session, for experiments on several sessions."""

from collections.abc import Iterator
from statistics import fmean, stdev

from blend_pl.report.comparison import Comparison, ExperimentResults
from blend_pl.report.tables import Table, summary_cell
from blend_pl.runs.results import BASELINE

SESSION_SCORE_PREFIX = "r2/"
"""Prefix of the names of scores of single sessions."""

MODEL_INPUTS = {"SpikeTeacher": "spikes", "SingleSessionTeacher": "spikes", "Multimodal": "spikes + LFP"}
"""Inputs of models by the name of the system's class; the input of other classes is the LFP."""

SINGLE_SESSION_SYSTEM = "SingleSessionStudent"
"""Name of the class of systems with one network per session."""

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
    """Returns the names of the sessions with a score of their own, held-out sessions last."""
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
    """Returns the names of the sessions that are held out from training."""
    return comparison.experiments[0].results.held_out_sessions


def session_table(comparison: Comparison) -> Table:
    """Returns a row per experiment: model input, R2 of each session over seeds, mean ± sd over sessions."""
    names, held_out_names = scored_sessions(comparison), held_out_sessions(comparison)
    groups = {
        "trained": [n for n in names if n not in held_out_names],
        "new": [n for n in names if n in held_out_names],
    }
    groups = {title: session_names for title, session_names in groups.items() if session_names}
    header = ["experiment", "input", *(f"{name} (new)" if name in held_out_names else name for name in names)]
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
    """Returns mean and standard deviation over sessions of the mean over seeds."""
    means = [
        fmean(scores.values())
        for name in sessions
        if (scores := experiment.scores_by_seed(SESSION_SCORE_PREFIX + name))
    ]
    if not means:
        return ""
    return f"{fmean(means):.4f}" + (f" ± {stdev(means):.4f}" if len(means) > 1 else "")


def published_session_table(comparison: Comparison) -> Table | None:
    """Returns the means that the authors published; None if the comparison is not on recordings of the same monkey."""
    methods = PUBLISHED_SESSION_MEANS.get(comparison.session)
    if methods is None or comparison.simulated:
        return None
    return Table(["published", "velocity R2"], [[method, f"{score:.3f}"] for method, score in methods.items()])


def session_caveats(comparison: Comparison) -> Iterator[str]:
    """Yields notes on the split of the sessions and on models that need spikes."""
    if not scored_sessions(comparison):
        return
    if comparison.experiments[0].results.has_random_split:
        yield (
            "Segments were split at random, as published: scored segments have training segments next to them. "
            "--data.split blocks scores a block of time without training segments in it."
        )
    spike_experiments = [experiment.name for experiment in comparison.experiments if _model_input(experiment) != "LFP"]
    if spike_experiments:
        yield (
            f"{', '.join(spike_experiments)}: these models need spikes at inference. They are upper references, not "
            "students, and do not run on recordings of LFP alone."
        )
    single_session = [
        e.name for e in comparison.experiments if e.role == BASELINE and e.results.system_class == SINGLE_SESSION_SYSTEM
    ]
    if single_session:
        yield (
            f"{', '.join(single_session)}: one network per session, trained on the LFP of every session, including the "
            "new ones. The other experiments are not trained on the new sessions; only a linear readout is fitted."
        )
