"""Scores for people: of one run, and of many seeds and experiments beside one another."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from blend_pl.errors import BlendError
from blend_pl.prediction import predict
from blend_pl.probes.embeddings import EMBEDDINGS, CellEmbeddings
from blend_pl.report.comparison import BASELINE, OTHER, SELF, STUDENT, TEACHER, Comparison, Experiment, Run, compare
from blend_pl.report.markdown_update import insert
from blend_pl.report.pages import Picture, Section, TitledTable, html, markdown, markdown_tables
from blend_pl.report.published import elsewhere, published
from blend_pl.report.sessions import SOURCE, published_sessions, session_remarks, session_table, sessions_of
from blend_pl.report.tables import (
    LEGEND,
    LOWER_IS_BETTER,
    NAMES,
    Table,
    cost_table,
    difference_table,
    published_table,
    score_table,
)
from blend_pl.utils.files import atomic_file

MARKDOWN, HTML = "report.md", "report.html"

ENOUGH_SEEDS = 3

MOST_ARMS = 5
"""Experiments whose rates are drawn, at most."""


def print_scores(name: str, scores: dict[str, float], oracle: dict[str, float] | None, run: Path) -> None:
    """Prints the scores of one run, beside those of the true rates where they are known."""
    table = RichTable(title=name)
    table.add_column("score")
    table.add_column("value", justify="right")
    if oracle:
        table.add_column("true rates", justify="right")
        table.add_column("fraction", justify="right")
    for key, value in ((key, scores[key]) for key in NAMES if key in scores):
        row = [NAMES[key], f"{value:.4f}"]
        if oracle:
            row += [f"{oracle[key]:.4f}", f"{value / oracle[key]:.3f}" if oracle[key] > 0 else ""]
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"results: {run}", soft_wrap=True)


def report(runs: list[str], output: str | None = None, into: str | None = None) -> None:
    """Compares finished runs: prints a table, and writes it with figures as report.md and report.html.

    An experiment whose name ends in `_baseline` or `_teacher` is what the others are held against, `_self` is the
    self-distilled control. Only what was scored on the same trials and selected in the same way shares a table.

    Args:
        runs: folders of runs, of experiments (which hold a run for each seed) or of several experiments.
        output: folder of the report; by default `report` in the folder that holds all of `runs`.
        into: FILE#NAME, to write the tables between `<!-- NAME:begin -->` and `<!-- NAME:end -->` of that file too.

    Raises:
        BlendError: a folder holds no finished run, results are damaged, or the report cannot be written.
    """
    folders = [Path(run) for run in runs]
    folder = Path(output) if output else Path(os.path.commonpath([path.resolve() for path in folders])) / "report"
    comparisons = compare(folders)
    console = Console()
    sections = []
    for comparison, stem in zip(comparisons, _stems(comparisons), strict=True):
        scores, differences = score_table(comparison), difference_table(comparison)
        names = [comparison.short(experiment) for experiment in comparison.experiments]
        _print(console, names, scores, comparison.title)
        if len(differences.header) > 1:
            _print(console, names, differences, "against the baseline")
        more = list(_more(comparison))
        for titled in more:
            _print(console, [row[0] for row in titled.table.rows], titled.table, titled.title)
        notes = [*comparison.notes, *_remarks(comparison)]
        pictures = _draw(comparison, folder, stem, notes)
        for note in notes:
            console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
        sections.append(Section(comparison, scores.beside(differences), more, pictures, notes))
    console.print(LEGEND, style="dim", highlight=False)
    for name, text in ((MARKDOWN, markdown(sections)), (HTML, html(sections))):
        with atomic_file(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    if into:
        insert(into, "\n\n".join(markdown_tables(section) for section in sections))
    console.print(f"report: {folder / HTML}", soft_wrap=True, highlight=False)


def figures_of(run: Path, folder: Path) -> list[Picture]:
    """Draws into a folder the figures of a report on one finished run alone; none without matplotlib."""
    return [picture for comparison in compare([run]) for picture in _draw(comparison, folder, run.name, [])]


def _more(comparison: Comparison) -> Iterator[TitledTable]:
    """Scores of single sessions, what others have published of the same trials, and what training cost."""
    if sessions_of(comparison):
        yield TitledTable(
            "Velocity R2 of each session, mean ± standard deviation over seeds", session_table(comparison)
        )
    means = published_sessions(comparison)
    if means:
        yield TitledTable(f"Published: {SOURCE}", means)
    found = published(comparison)
    if found:
        of_what = f"{comparison.session}, {comparison.bin_ms} ms, on {comparison.phase}"
        yield TitledTable(f"Published scores of {of_what}: {found.source}", published_table(found.methods))
    costs = cost_table(comparison)
    if costs.rows:
        yield TitledTable("What training cost, on the machines it ran on", costs)


def _print(console: Console, names: Sequence[str], table: Table, title: str) -> None:
    """Prints a table, its rows under the given names."""
    printed = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(table.header):
        printed.add_column(column.replace(", ", ",\n"), justify="right" if index else "left", no_wrap=True)
    for name, row in zip(names, table.rows, strict=True):
        # Deviations and intervals go below their means, so that a terminal of 80 columns is wide enough.
        cells = (cell.replace(" ±", "\n±").replace(" [", "\n[").replace(", n", "\nn") for cell in row[1:])
        printed.add_row(*(Text(cell) for cell in (name, *cells)))
    console.print(printed)


def _stems(comparisons: Sequence[Comparison]) -> list[str]:
    """What the files of each comparison begin with."""
    stems: list[str] = []
    for comparison in comparisons:
        width = f"-{comparison.bin_ms}ms" if comparison.bin_ms else ""
        stem = re.sub(r"[^\w-]+", "-", f"{comparison.session}-{comparison.phase}{width}")
        stems.append(f"{stem}-{len(stems) + 1}" if stem in stems else stem)
    return stems


def _remarks(comparison: Comparison) -> Iterator[str]:
    """What keeps the scores from being reported, or from being set beside others'."""
    few = [e.name for e in comparison.experiments if 0 < e.n_scored < ENOUGH_SEEDS]
    if few:
        yield f"Fewer than {ENOUGH_SEEDS} seeds, too few to report: {', '.join(few)}."
    if comparison.selection.startswith(comparison.phase):
        yield (
            "Checkpoints were selected on the very trials that are scored: these scores are optimistic, to be compared "
            "with others that were selected so, not to be reported."
        )
    for task, name in {"ei": "E/I", "subclass": "subclass"}.items():
        naming = {score for e in comparison.experiments for score in e.scores(f"{task}_majority").values()}
        if naming:
            commonest = " or ".join(f"{score:.4f}" for score in sorted(naming))
            yield f"Always naming the commonest {name} class of the training cells scores top-1 {commonest}."
    yield from session_remarks(comparison)
    missing = elsewhere(comparison)
    if missing:
        yield missing


def _draw(comparison: Comparison, folder: Path, stem: str, notes: list[str]) -> list[Picture]:
    """Draws all figures that the session allows; what stands in the way of others is added to the notes."""
    try:
        from blend_pl.report import figures
        from blend_pl.report.identity import draw_embeddings
    except ImportError:
        notes.append("No figures, for matplotlib is not installed; install blend-pl[viz].")
        return []
    pictures: list[Picture] = []

    def add(drawn: bool, path: Path, caption: str) -> None:
        if drawn:
            pictures.append(Picture(path, caption))

    path = folder / f"{stem}-scores.png"
    caption = "Scores of each seed (dots) and their mean (bars); the thin line is the baseline's mean."
    if any(experiment.scores(key) for experiment in comparison.experiments for key in LOWER_IS_BETTER):
        caption += f" Of {', '.join(NAMES[key] for key in LOWER_IS_BETTER)}, lower is better."
    add(figures.draw_scores(comparison, path), path, caption)
    if sessions_of(comparison):
        return pictures
    arms, seed = [], _common_seed(comparison)
    embedded = {comparison.short(e): _run(e, seed).path for e in _shown(comparison, seed)}
    embedded = {name: run for name, run in embedded.items() if (run / EMBEDDINGS).exists()}
    if embedded:
        path = folder / f"{stem}-embeddings.png"
        draw_embeddings({name: CellEmbeddings.read(run) for name, run in embedded.items()}, path)
        add(True, path, f"Embeddings of cells, two principal components; test cells are bold. Seed {seed}.")
        return pictures
    for experiment in _shown(comparison, seed):
        run = _run(experiment, seed)
        try:
            prediction = predict(run.path)
        except BlendError as error:
            notes.append(f"No rates of {experiment.name} in the figures: {error}.")
            continue
        arms.append(figures.Arm(comparison.short(experiment), experiment.role, prediction, run.scores or {}))
    if not arms:
        return pictures
    students = [arm for arm in arms if arm.role in (STUDENT, OTHER)]
    best = max(students, key=lambda arm: arm.scores.get("co_bps", 0.0), default=None)
    few = [arm for arm in arms if arm.role in (BASELINE, TEACHER) or arm is best]
    of_seed = f"Seed {seed}; of several students the one with the highest co-bps on that seed."
    coloured = "" if arms[0].prediction.velocity is None else ", coloured by the direction of the hand"
    for draw, kind, arms_drawn, caption in (
        (
            figures.draw_rates,
            "rates",
            few or arms,
            f"Rates of single neurons in one trial; ticks are spikes. {of_seed}",
        ),
        (
            figures.draw_psths,
            "psths",
            few or arms,
            f"Mean response to each condition{coloured}: recorded and smoothed above, predicted below. {of_seed}",
        ),
        (
            figures.draw_trajectories,
            "trajectories",
            arms,
            f"Paths of the hand from the integrated velocity, true and decoded, coloured by direction. Seed {seed}.",
        ),
        (
            figures.draw_velocities,
            "velocities",
            few or arms,
            f"True and decoded velocity in trials of several directions. {of_seed}",
        ),
    ):
        path = folder / f"{stem}-{kind}.png"
        add(draw(arms_drawn, path), path, caption)
    return pictures


def _common_seed(comparison: Comparison) -> int:
    """The first seed that most experiments have."""
    seeds = [run.seed for experiment in comparison.experiments for run in experiment.runs]
    return min(seeds, key=lambda seed: (-seeds.count(seed), seed))


def _run(experiment: Experiment, seed: int) -> Run:
    return next(run for run in experiment.runs if run.seed == seed)


def _shown(comparison: Comparison, seed: int) -> list[Experiment]:
    """Experiments with that seed: baseline, teacher, students and the control, as many as can be told apart."""
    # A plain baseline has no checkpoint to predict from.
    there = [
        e
        for e in comparison.experiments
        if any(run.seed == seed and run.results.get("checkpoint", True) for run in e.runs)
    ]
    control = [experiment for experiment in there if experiment.role == SELF][:1]
    return [e for e in there if e.role != SELF][: MOST_ARMS - len(control)] + control
