"""Summary of a sweep: the best trials, parameter importance, and a figure of all trials."""

import math
from html import escape
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from blend_pl.report.pages import Picture, html_page, html_picture, html_table, markdown_picture, markdown_table
from blend_pl.report.tables import Table
from blend_pl.runs.folder import CONFIG_FILE
from blend_pl.sweep.distributions import Categorical, Distribution, QUniform, Uniform
from blend_pl.sweep.journal import Journal
from blend_pl.utils.files import atomic_file

MARKDOWN, HTML, PARALLEL_PLOT = "sweep.md", "sweep.html", "parallel.png"
TOP_TRIALS = 10
"""Number of trials in the table."""
MIN_TRIALS_IMPORTANCE = 4
"""Minimum number of finished trials for which parameter importance is computed."""


def write_summary(journal: Journal) -> None:
    """Writes sweep.md and sweep.html into the sweep's folder and prints their path; without a finished trial, neither.

    Args:
        journal: journal of the sweep.

    Raises:
        DataError: the folder cannot be written.
    """
    sweep, trials = journal.sweep, journal.trials()
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    complete.sort(key=lambda trial: trial.value, reverse=sweep.maximize)
    failed = [trial for trial in trials if journal.is_failed(trial)]
    counts = f"{len(complete)} trials finished, {len(failed)} failed."
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(counts)
    if not complete:
        return
    best = journal.trial_dir(complete[0].number)
    best_note = (
        f"Best: trial {complete[0].number}, {sweep.metric} {complete[0].value:.4f}. To repeat it with another seed: "
        f"python -m blend_pl fit --config {best / CONFIG_FILE} --seed_everything 1"
    )
    tables = [("Best trials", _best_trials_table(journal, complete[:TOP_TRIALS]))]
    notes = [
        counts,
        best_note,
        *(f"Trial {trial.number} failed: {journal.failure_reasons(trial)[-1]}." for trial in failed),
    ]
    if len(complete) >= MIN_TRIALS_IMPORTANCE:
        tables += [("Importance: share of the score's variance (fANOVA)", _importance_table(journal))]
    else:
        notes.append(f"Parameter importance needs at least {MIN_TRIALS_IMPORTANCE} finished trials.")
    pictures = _draw_parallel_plot(journal, complete, notes)
    title = f"Sweep {sweep.name}"
    markdown = [f"# {title}", *notes]
    html = [f"<p>{escape(note)}</p>" for note in notes]
    for name, table in tables:
        markdown += [f"## {name}", markdown_table(table)]
        html += [f"<h2>{escape(name)}</h2>", html_table(table)]
    markdown += map(markdown_picture, pictures)
    html += map(html_picture, pictures)
    for name, text in ((MARKDOWN, "\n\n".join(markdown) + "\n"), (HTML, html_page(title, "\n".join(html)))):
        with atomic_file(journal.folder / name) as path:
            path.write_text(text, encoding="utf-8")
    console.print(best_note)
    console.print(f"sweep: {journal.folder / HTML}")


def format_setting(value: Any) -> str:
    """Formats a parameter value; a class is shown by its name and arguments."""
    if isinstance(value, float):
        return f"{value:.4g}"
    settings = yaml.safe_load(value) if isinstance(value, str) and value.startswith("{") else value
    if isinstance(settings, dict) and "class_path" in settings:
        arguments = ", ".join(
            f"{name}={format_setting(argument)}" for name, argument in settings.get("init_args", {}).items()
        )
        return format_setting(settings["class_path"]) + (f"({arguments})" if arguments else "")
    text = str(value)
    return text.rpartition(".")[2] if text.startswith("blend_pl.") else text


def _varying_parameters(journal: Journal, complete: list[Any]) -> dict[str, list[Any]]:
    """Returns the values, one per trial, of each parameter that differs between trials."""
    values_per_trial = [journal.sweep.draw(trial) for trial in complete]
    columns = {name: [values[name] for values in values_per_trial] for name in journal.sweep.parameters}
    return {name: values for name, values in columns.items() if len({str(value) for value in values}) > 1}


def _label(name: str) -> str:
    return ".".join(part for part in name.split(".")[-2:] if part not in ("model", "init_args"))


def _best_trials_table(journal: Journal, complete: list[Any]) -> Table:
    names = list(journal.sweep.parameters)
    rows = []
    for trial in complete:
        values = journal.sweep.draw(trial)
        rows.append([str(trial.number), f"{trial.value:.4f}", *(format_setting(values[name]) for name in names)])
    return Table(["trial", journal.sweep.metric, *map(_label, names)], rows)


def _importance_table(journal: Journal) -> Table:
    import optuna

    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares = optuna.importance.get_param_importances(journal.study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # All trials have the same score.
        shares = {}
    return Table(["parameter", "importance"], [[name, f"{share:.2f}"] for name, share in shares.items()])


def _draw_parallel_plot(journal: Journal, complete: list[Any], notes: list[str]) -> list[Picture]:
    """Draws a parallel-coordinates plot: one line per trial through its parameters and its score."""
    try:
        from blend_pl.report.figures import style
    except ImportError:
        notes.append('No figure, because matplotlib is not installed; run pip install "blend-pl[plot]".')
        return []
    sweep, columns = journal.sweep, _varying_parameters(journal, complete)
    scores = [trial.value for trial in complete]
    figure, axes = style.subplots(1, 1, height=4.5)
    ax = axes[0, 0]
    heights, ticks = [], []
    for name, values in columns.items():
        column_heights, column_ticks = _axis_positions(values, sweep.parameters[name])
        heights.append(column_heights)
        ticks.append(column_ticks)
    column_heights, column_ticks = _min_max_scaled(scores)
    heights.append(column_heights)
    ticks.append(column_ticks)
    # The best trial is drawn last, on top of the others.
    for index in reversed(range(len(complete))):
        share = 1 - index / max(len(complete) - 1, 1)
        color = style.SCORE_CMAP(share)
        ax.plot([column[index] for column in heights], color=color, linewidth=2.4 if index == 0 else 1.2)
    for column_index, column_ticks in enumerate(ticks):
        ax.axvline(column_index, color="#999999", linewidth=0.8, zorder=0)
        for height, text in column_ticks:
            ax.text(
                column_index + 0.04,
                height,
                text,
                fontsize=8,
                va="center",
                color=style.TEXT_COLOR,
                bbox=style.TEXT_BBOX,
            )
    ax.set_xticks(range(len(heights)), [*map(_label, columns), sweep.metric], rotation=20, ha="right")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.08)
    path = journal.folder / PARALLEL_PLOT
    style.save_figure(figure, path)
    caption = "One line per trial, through its parameters to its score; darker is better, the best trial is thick."
    return [Picture(Path(path), caption)]


def _axis_positions(values: list[Any], distribution: Distribution) -> tuple[list[float], list[tuple[float, str]]]:
    """Returns the height of each value, in [0, 1], and the labeled ticks; choices are in the order of the file."""
    if isinstance(distribution, Categorical):
        choices = distribution.values
        present = [
            choice for number, choice in enumerate(choices) if choice in values and choice not in choices[:number]
        ]
        step = 1 / max(len(present) - 1, 1)
        return [present.index(value) * step for value in values], [
            (index * step, format_setting(choice)) for index, choice in enumerate(present)
        ]
    if isinstance(distribution, Uniform | QUniform) and distribution.log:
        heights, _ = _min_max_scaled([math.log(value) for value in values])
        return heights, _end_ticks(heights, values)
    return _min_max_scaled(values)


def _min_max_scaled(values: list[float]) -> tuple[list[float], list[tuple[float, str]]]:
    low, high = min(values), max(values)
    heights = [(value - low) / ((high - low) or 1.0) for value in values]
    return heights, _end_ticks(heights, values)


def _end_ticks(heights: list[float], values: list[float]) -> list[tuple[float, str]]:
    return list(
        {
            height: format_setting(value) for height, value in zip(heights, values, strict=True) if height in (0.0, 1.0)
        }.items()
    )
