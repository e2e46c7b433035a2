"""Tables of comparisons."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from blend_pl.metrics.labels import LOWER_IS_BETTER, SCORE_LABELS
from blend_pl.report.comparison import Comparison, ExperimentResults
from blend_pl.report.statistics import PairedDifference, Replicate, SeedSummary, gap_closed
from blend_pl.runs.results import BASELINE, CEILING, TEACHER

COMPARED_SCORES = ("co_bps", "vel_r2", "speed_r2", "pos_r2", "new_r2", "tp_corr", "ei_balanced", "subclass_balanced")
"""Scores that are compared with the baseline and the teacher."""

CEILING_SCORES = ("co_bps", "vel_r2")
"""Scores that are compared with the ceiling."""

LEGEND = (
    "Scores are mean ± standard deviation over seeds. Differences to the baseline are paired by seed, with a 95 % "
    "interval by Student's t; n is given where fewer seeds are common. Gap closed: 0 % at the baseline, 100 % at the "
    "student's teacher, over common seeds. Of ceiling: 0 % at the baseline, 100 % at a student that learns from "
    "unlimited simulated trials. Of oracle: co-bps as a share of the true rates' co-bps. ↓: lower is better."
)


@dataclass(frozen=True)
class Table:
    """A table of text: column names, and rows of as many cells; the first cell names the row."""

    header: list[str]
    rows: list[list[str]]

    def join_columns(self, other: "Table") -> "Table":
        """Returns the table with the columns of another table with the same rows appended."""
        rows = [[*row, *other_row[1:]] for row, other_row in zip(self.rows, other.rows, strict=True)]
        return Table([*self.header, *other.header[1:]], rows)

    def rename_rows(self, names: Mapping[str, str]) -> "Table":
        """Returns the table with some rows renamed."""
        return Table(self.header, [[names.get(row[0], row[0]), *row[1:]] for row in self.rows])


def score_table(comparison: Comparison) -> Table:
    """Returns a row per experiment: number of seeds or folds, scores, share of the oracle's co-bps if available."""
    experiments = comparison.experiments
    keys = [key for key in SCORE_LABELS if any(experiment.scores_by_seed(key) for experiment in experiments)]
    header = ["experiment", "runs" if comparison.block_name else "seeds", *(_score_label(key) for key in keys)]
    rows = [[e.name, e.scored_runs, *(summary_cell(e.scores_by_seed(key)) for key in keys)] for e in experiments]
    fractions = [experiment.oracle_fractions("co_bps") for experiment in experiments]
    if any(fractions):
        header.append("of oracle")
        for row, fraction in zip(rows, fractions, strict=True):
            summary = SeedSummary.from_values(fraction)
            row.append(_percent(summary.mean) if summary else "")
    return Table(header, rows)


def difference_table(comparison: Comparison) -> Table:
    """Returns a row per experiment: differences to the baseline, and closed fractions of the gap to the teacher.

    Without a baseline, the table has only the column of names.
    """
    experiments = comparison.experiments
    baselines = [experiment for experiment in experiments if experiment.role == BASELINE]
    keys = [key for key in COMPARED_SCORES if any(baseline.scores_by_seed(key) for baseline in baselines)]
    header = [
        "experiment",
        *(f"Δ {_score_label(key)}" for key in keys),
        *(f"gap closed, {SCORE_LABELS[key]}" for key in keys),
    ]
    rows = []
    for experiment in experiments:
        differences = [_difference_cell(comparison, experiment, key) for key in keys]
        gaps = ["" if experiment.role == TEACHER else _gap_cell(comparison, experiment, key, TEACHER) for key in keys]
        rows.append([experiment.name, *differences, *gaps])
    return Table(header, rows)


def ceiling_table(comparison: Comparison) -> Table:
    """Returns a row per experiment: closed fractions of the gap from the baseline to the ceiling.

    Without a baseline or a ceiling, the table has only the column of names.
    """
    experiments = comparison.experiments
    references = [[e for e in experiments if e.role == role] for role in (BASELINE, CEILING)]
    keys = [k for k in CEILING_SCORES if all(any(e.scores_by_seed(k) for e in group) for group in references)]
    return Table(
        ["experiment", *(f"of ceiling, {SCORE_LABELS[key]}" for key in keys)],
        [[e.name, *(_gap_cell(comparison, e, key, CEILING) for key in keys)] for e in experiments],
    )


def cost_table(comparison: Comparison) -> Table:
    """Returns a row per experiment with a measured cost: parameters, seconds per step and memory, mean over seeds."""
    header = ["experiment", "parameters", "s / step", "peak memory (MB)"]
    rows = []
    for experiment in comparison.experiments:
        costs = [run.results.cost for run in experiment.runs if run.results.cost]
        if costs:
            parameters = fmean(cost.parameters for cost in costs)
            seconds = fmean(cost.seconds_per_step for cost in costs)
            memory = fmean(cost.peak_bytes for cost in costs)
            rows.append([experiment.name, f"{parameters:,.0f}", f"{seconds:.3f}", f"{memory / 1e6:,.0f}"])
    return Table(header, rows)


def published_table(methods: Mapping[str, Mapping[str, float]]) -> Table:
    """Returns a row per published method.

    Args:
        methods: scores by name, for each method.
    """
    keys = [key for key in SCORE_LABELS if any(key in scores for scores in methods.values())]
    rows = [
        [method, *(f"{scores[key]:.4f}" if key in scores else "" for key in keys)] for method, scores in methods.items()
    ]
    return Table(["published", *(_score_label(key) for key in keys)], rows)


def _score_label(key: str) -> str:
    return f"{SCORE_LABELS[key]} ↓" if key in LOWER_IS_BETTER else SCORE_LABELS[key]


def summary_cell(values: Mapping[Replicate, float]) -> str:
    """Returns mean and standard deviation of values by seed; empty without values."""
    summary = SeedSummary.from_values(values)
    if summary is None:
        return ""
    return f"{summary.mean:.4f}" if summary.sd is None else f"{summary.mean:.4f} ± {summary.sd:.4f}"


def _difference_cell(comparison: Comparison, experiment: ExperimentResults, key: str) -> str:
    baseline = comparison.reference_for(experiment, BASELINE)
    scores = experiment.scores_by_seed(key)
    if baseline is None or baseline is experiment or not scores:
        return ""
    difference = PairedDifference.from_values(scores, baseline.scores_by_seed(key))
    if difference is None:
        return "no common seed"
    text = f"{difference.mean:+.4f}"
    if difference.interval:
        text += f" [{difference.interval[0]:+.4f}, {difference.interval[1]:+.4f}]"
    return text if difference.n == experiment.n_scored_seeds else f"{text}, n = {difference.n}"


def _gap_cell(comparison: Comparison, experiment: ExperimentResults, key: str, role: str) -> str:
    """Returns the closed fraction of the gap from the baseline to the reference of a role."""
    baseline, reference = (comparison.reference_for(experiment, name) for name in (BASELINE, role))
    if baseline is None or reference is None or baseline is experiment:
        return ""
    fraction = gap_closed(*(higher_is_better(compared, key) for compared in (experiment, baseline, reference)))
    return "" if fraction is None else _percent(fraction)


def higher_is_better(experiment: ExperimentResults, key: str) -> dict[Replicate, float]:
    """Returns a score by seed, negated if lower is better."""
    sign = -1 if key in LOWER_IS_BETTER else 1
    return {seed: sign * score for seed, score in experiment.scores_by_seed(key).items()}


def _percent(fraction: float) -> str:
    return f"{fraction:.0%}".replace("%", " %")
