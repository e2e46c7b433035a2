"""Command `report`: tables and figures of finished runs."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from blend_pl.errors import BlendError
from blend_pl.metrics.labels import LOWER_IS_BETTER, SCORE_LABELS
from blend_pl.prediction import predict_run
from blend_pl.probes.embeddings import EMBEDDINGS_FILE, CellEmbeddings
from blend_pl.report.comparison import Comparison, ExperimentResults, FinishedRun, compare_runs
from blend_pl.report.markdown_update import update_markdown_block
from blend_pl.report.pages import Picture, Section, TitledTable, markdown_tables, render_html, render_markdown
from blend_pl.report.published import find_published_scores, published_elsewhere_note
from blend_pl.report.reference_checks import reference_warnings
from blend_pl.report.sessions import (
    PUBLISHED_SESSION_SOURCE,
    published_session_table,
    scored_sessions,
    session_caveats,
    session_table,
)
from blend_pl.report.tables import (
    LEGEND,
    Table,
    ceiling_table,
    cost_table,
    difference_table,
    published_table,
    score_table,
)
from blend_pl.runs.results import BASELINE, CONTROL, STUDENT, TEACHER
from blend_pl.utils.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKDOWN_FILE, HTML_FILE = "report.md", "report.html"

MIN_SEEDS = 3

MAX_VARIANTS = 5
"""Maximum number of experiments in the figures of rates."""


def print_scores(name: str, scores: dict[str, float], oracle: dict[str, float] | None, run_dir: Path) -> None:
    """Prints the scores of one run and, if available, those of the true rates."""
    table = RichTable(title=name)
    table.add_column("score")
    table.add_column("value", justify="right")
    if oracle:
        table.add_column("true rates", justify="right")
        table.add_column("fraction", justify="right")
    for key, value in ((key, scores[key]) for key in SCORE_LABELS if key in scores):
        row = [SCORE_LABELS[key], f"{value:.4f}"]
        if oracle:
            row += [f"{oracle[key]:.4f}", f"{value / oracle[key]:.3f}" if oracle[key] > 0 else ""]
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"results: {run_dir}", soft_wrap=True)


def write_report(
    runs: list[str], output: str | None = None, update_doc: str | None = None, pool_sessions: bool = False
) -> None:
    """Compares finished runs: prints tables, and writes them with figures to report.md and report.html.

    Students and controls are compared with the baseline and the teacher, by the role that each run has. Only runs that
    are scored on the same trials and selected in the same way share a table.

    Args:
        runs: folders of runs, of experiments (one run per seed) or of several experiments.
        output: folder of the report; by default `report` in the common parent folder of `runs`.
        update_doc: FILE#NAME, to also write the tables between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in FILE.

        pool_sessions: whether simulated sessions that differ only in the seed of their simulation share a table, with
            deviations and intervals over sessions.

    Raises:
        BlendError: a folder contains no finished run, results are damaged, or the report cannot be written.
    """
    folders = [Path(run) for run in runs]
    folder = Path(output) if output else Path(os.path.commonpath([path.resolve() for path in folders])) / "report"
    comparisons = compare_runs(folders, pool_sessions)
    console = Console()
    sections = []
    for comparison, stem in zip(comparisons, _file_stems(comparisons), strict=True):
        scores, differences, shares = (build(comparison) for build in (score_table, difference_table, ceiling_table))
        display_names = [comparison.display_name(experiment) for experiment in comparison.experiments]
        _print_table(console, display_names, scores, comparison.title)
        if len(differences.header) > 1:
            _print_table(console, display_names, differences, "against the baseline")
        if len(shares.header) > 1:
            _print_table(console, display_names, shares, "between baseline and ceiling")
        extra_tables = list(_extra_tables(comparison))
        for titled in extra_tables:
            _print_table(console, [row[0] for row in titled.table.rows], titled.table, titled.title)
        notes = [*comparison.notes, *_caveats(comparison)]
        pictures = _draw_figures(comparison, folder, stem, notes)
        for note in notes:
            console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
        table = scores.join_columns(differences).join_columns(shares)
        sections.append(Section(comparison, table, extra_tables, pictures, notes))
    console.print(LEGEND, style="dim", highlight=False)
    for name, text in ((MARKDOWN_FILE, render_markdown(sections)), (HTML_FILE, render_html(sections))):
        with atomic_file(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    if update_doc:
        update_markdown_block(update_doc, "\n\n".join(markdown_tables(section) for section in sections))
    console.print(f"report: {folder / HTML_FILE}", soft_wrap=True, highlight=False)


def draw_run_figures(run_dir: Path, folder: Path) -> list[Picture]:
    """Draws the figures of one finished run into a folder; returns none without matplotlib."""
    return [
        picture
        for comparison in compare_runs([run_dir])
        for picture in _draw_figures(comparison, folder, run_dir.name, [])
    ]


def _extra_tables(comparison: Comparison) -> Iterator[TitledTable]:
    """Yields tables of single sessions, of published scores of the same trials, and of the cost of training."""
    if scored_sessions(comparison):
        yield TitledTable(
            "Velocity R2 of each session, mean ± standard deviation over seeds", session_table(comparison)
        )
    means = published_session_table(comparison)
    if means:
        yield TitledTable(f"Published: {PUBLISHED_SESSION_SOURCE}", means)
    published_scores = find_published_scores(comparison)
    if published_scores:
        scored_trials = f"{comparison.session}, {comparison.bin_ms} ms, on {comparison.phase}"
        yield TitledTable(
            f"Published scores of {scored_trials}: {published_scores.source}", published_table(published_scores.methods)
        )
    costs = cost_table(comparison)
    if costs.rows:
        yield TitledTable("Cost of training", costs)


def _print_table(console: Console, row_names: Sequence[str], table: Table, title: str) -> None:
    """Prints a table with the given names of rows."""
    rich_table = RichTable(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for index, column in enumerate(table.header):
        rich_table.add_column(column.replace(", ", ",\n"), justify="right" if index else "left", no_wrap=True)
    for name, row in zip(row_names, table.rows, strict=True):
        # Deviations and intervals are printed below their means, to fit into 80 columns.
        cells = (cell.replace(" ±", "\n±").replace(" [", "\n[").replace(", n", "\nn") for cell in row[1:])
        rich_table.add_row(*(Text(cell) for cell in (name, *cells)))
    console.print(rich_table)


def _file_stems(comparisons: Sequence[Comparison]) -> list[str]:
    """Returns a unique start of file names for each comparison."""
    stems: list[str] = []
    for comparison in comparisons:
        bin_suffix = f"-{comparison.bin_ms}ms" if comparison.bin_ms else ""
        stem = re.sub(r"[^\w-]+", "-", f"{comparison.session}-{comparison.phase}{bin_suffix}")
        stems.append(f"{stem}-{len(stems) + 1}" if stem in stems else stem)
    return stems


def _caveats(comparison: Comparison) -> Iterator[str]:
    """Yields notes on limits of the scores: few seeds, selection, majority classes, references, published scores."""
    too_few_seeds = [e.name for e in comparison.experiments if 0 < e.n_scored_seeds < MIN_SEEDS]
    if too_few_seeds:
        unit = comparison.block_name or "seeds"
        yield f"Fewer than {MIN_SEEDS} {unit}, too few to report: {', '.join(too_few_seeds)}."
    if comparison.block_name:
        yield (
            f"Runs of several {comparison.block_name} are pooled: differences are paired by block and seed, and "
            "deviations and intervals are over blocks, after the mean over the seeds of a block."
            + (" Folds share training trials, so that intervals may be too narrow." if comparison.n_folds else "")
        )
    if comparison.selection.startswith(comparison.phase):
        yield (
            "Checkpoints were selected on the scored trials, so these scores are optimistic. Compare them only with "
            "scores that were selected in the same way, and do not report them."
        )
    for task, name in {"ei": "E/I", "subclass": "subclass"}.items():
        majority_scores = {
            score for e in comparison.experiments for score in e.scores_by_seed(f"{task}_majority").values()
        }
        if majority_scores:
            majority = " or ".join(f"{score:.4f}" for score in sorted(majority_scores))
            yield f"Always predicting the most frequent {name} class of the training cells scores top-1 {majority}."
    yield from reference_warnings(comparison)
    yield from session_caveats(comparison)
    elsewhere_note = published_elsewhere_note(comparison)
    if elsewhere_note:
        yield elsewhere_note


def _draw_figures(comparison: Comparison, folder: Path, stem: str, notes: list[str]) -> list[Picture]:
    """Draws all figures that the session has data for; adds reasons for missing figures to the notes."""
    try:
        from blend_pl.report import figures
        from blend_pl.report.figures import style
        from blend_pl.report.identity import draw_embeddings
    except ImportError:
        notes.append('No figures, because matplotlib is not installed; run pip install "blend-pl[plot]".')
        return []
    pictures: list[Picture] = []

    def add_picture(figure: "Figure | None", kind: str, caption: str) -> None:
        if figure is not None:
            path = folder / f"{stem}-{kind}.png"
            style.save_figure(figure, path)
            pictures.append(Picture(path, caption))

    caption = "Scores of each seed (dots) and their mean (bars); the thin line is the baseline's mean."
    if any(experiment.scores_by_seed(key) for experiment in comparison.experiments for key in LOWER_IS_BETTER):
        caption += f" Of {', '.join(SCORE_LABELS[key] for key in LOWER_IS_BETTER)}, lower is better."
    add_picture(figures.draw_scores(comparison), "scores", caption)
    if scored_sessions(comparison):
        return pictures
    variants, seed = [], _common_seed(comparison)
    embedding_dirs = {
        comparison.display_name(e): _run_with_seed(e, seed).path for e in _drawn_experiments(comparison, seed)
    }
    embedding_dirs = {name: run for name, run in embedding_dirs.items() if (run / EMBEDDINGS_FILE).exists()}
    if embedding_dirs:
        figure = draw_embeddings({name: CellEmbeddings.read(run) for name, run in embedding_dirs.items()})
        add_picture(
            figure, "embeddings", f"Embeddings of cells, two principal components; test cells are bold. Seed {seed}."
        )
        return pictures
    for experiment in _drawn_experiments(comparison, seed):
        run = _run_with_seed(experiment, seed)
        try:
            prediction = predict_run(run.path)
        except BlendError as error:
            notes.append(f"No rates of {experiment.name} in the figures: {error}.")
            continue
        if prediction.other_data is not None:
            notes.append(f"{prediction.other_data}; the figures show its rates for the data of now.")
        variants.append(
            figures.Variant(comparison.display_name(experiment), experiment.role, prediction, run.scores or {})
        )
    if not variants:
        return pictures
    students = [variant for variant in variants if variant.role == STUDENT]
    best_student = max(students, key=lambda variant: variant.scores.get("co_bps", 0.0), default=None)
    key_variants = [variant for variant in variants if variant.role in (BASELINE, TEACHER) or variant is best_student]
    seed_note = f"Seed {seed}; of several students the one with the highest co-bps on that seed."
    color_note = "" if variants[0].prediction.velocity is None else ", colored by the direction of the hand"
    for draw, kind, drawn_variants, caption in (
        (
            figures.draw_rates,
            "rates",
            key_variants or variants,
            f"Rates of single neurons in one trial; ticks are spikes. {seed_note}",
        ),
        (
            figures.draw_psths,
            "psths",
            key_variants or variants,
            f"Mean response to each condition{color_note}. Top: recorded, smoothed; below: predicted. {seed_note}",
        ),
        (
            figures.draw_trajectories,
            "trajectories",
            variants,
            f"True and decoded hand trajectories from the integrated velocity, colored by direction. Seed {seed}.",
        ),
        (
            figures.draw_velocities,
            "velocities",
            key_variants or variants,
            f"True and decoded velocity in trials of several directions. {seed_note}",
        ),
    ):
        add_picture(draw(drawn_variants), kind, caption)
    return pictures


def _common_seed(comparison: Comparison) -> int:
    """Returns the seed that most experiments share; of several the smallest."""
    seeds = [run.seed for experiment in comparison.experiments for run in experiment.runs]
    return min(seeds, key=lambda seed: (-seeds.count(seed), seed))


def _run_with_seed(experiment: ExperimentResults, seed: int) -> FinishedRun:
    return next(run for run in experiment.runs if run.seed == seed)


def _drawn_experiments(comparison: Comparison, seed: int) -> list[ExperimentResults]:
    """Returns up to `MAX_VARIANTS` experiments with a network and that seed, with at least one control if any."""
    available = [
        e for e in comparison.experiments if any(run.seed == seed and run.results.has_network for run in e.runs)
    ]
    controls = [experiment for experiment in available if experiment.role == CONTROL]
    others = [experiment for experiment in available if experiment.role != CONTROL]
    others = others[: MAX_VARIANTS - len(controls[:1])]
    return others + controls[: MAX_VARIANTS - len(others)]
