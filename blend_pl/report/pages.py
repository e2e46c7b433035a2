"""Reports as Markdown and as a self-contained HTML file."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from blend_pl.report.comparison import Comparison
from blend_pl.report.tables import LEGEND, Table

REPORT_TITLE = "Scores"

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #262626; max-width: 1100px; margin: 2.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin-top: 1.5rem; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th { font-weight: 600; border-bottom: 1.5px solid #262626; vertical-align: bottom; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap; border-top: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.small, .note { color: #666; font-size: 13px; } .note { color: #a33; } details { margin: 1rem 0; }
figure { margin: 2rem 0; } img { width: 100%; max-width: 900px; } figcaption { color: #444; max-width: 900px; }
@media (prefers-color-scheme: dark) { img { border-radius: 6px; } }
"""


@dataclass(frozen=True)
class Picture:
    """A figure on disk and its caption."""

    path: Path
    caption: str


@dataclass(frozen=True)
class TitledTable:
    """A table and its title."""

    title: str
    table: Table


@dataclass(frozen=True)
class Section:
    """Section of a report on one comparison; `extra_tables` follow the table of the scores."""

    comparison: Comparison
    table: Table
    extra_tables: Sequence[TitledTable]
    pictures: Sequence[Picture]
    notes: Sequence[str]


def render_markdown(sections: Sequence[Section]) -> str:
    """Returns the report as Markdown; figures are links to files in the same folder."""
    return (
        "\n\n".join([f"# {REPORT_TITLE}", *(block for section in sections for block in _section_markdown(section))])
        + "\n"
    )


def render_html(sections: Sequence[Section]) -> str:
    """Returns the report as one HTML page with embedded figures."""
    return html_page(REPORT_TITLE, "\n".join(block for section in sections for block in _section_html(section)))


def html_page(title: str, body: str) -> str:
    """Returns an HTML page around a body of HTML."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def markdown_tables(section: Section) -> str:
    """Returns the tables of one comparison as Markdown, with the display names of the experiments."""
    names = {
        experiment.name: section.comparison.display_name(experiment) for experiment in section.comparison.experiments
    }
    extra_tables = (
        f"{titled.title}:\n\n{markdown_table(titled.table.rename_rows(names))}" for titled in section.extra_tables
    )
    return "\n\n".join([markdown_table(section.table.rename_rows(names)), *extra_tables])


def _section_markdown(section: Section) -> Iterator[str]:
    yield f"## {section.comparison.title}"
    yield markdown_tables(section)
    yield LEGEND
    if section.notes:
        yield "\n".join(f"- {note}" for note in section.notes)
    for picture in section.pictures:
        yield markdown_picture(picture)
    yield "Runs:\n\n" + "\n".join(f"- {run}" for run in _run_lines(section))


def markdown_table(table: Table) -> str:
    """Returns a table as Markdown; numbers are right-aligned."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(table.header), line(["---"] + ["---:"] * (len(table.header) - 1)), *map(line, table.rows)])


def _section_html(section: Section) -> Iterator[str]:
    yield f"<h2>{escape(section.comparison.title)}</h2>"
    yield html_table(section.table)
    yield f'<p class="small">{escape(LEGEND)}</p>'
    for titled in section.extra_tables:
        yield f"<h3>{escape(titled.title)}</h3>"
        yield html_table(titled.table)
    for note in section.notes:
        yield f'<p class="note">{escape(note)}</p>'
    for picture in section.pictures:
        yield html_picture(picture)
    runs = "".join(f"<li>{escape(run)}</li>" for run in _run_lines(section))
    yield f'<details class="small"><summary>Runs</summary><ul>{runs}</ul></details>'


def html_picture(picture: Picture) -> str:
    """Returns a figure as HTML with an embedded image."""
    image = base64.b64encode(picture.path.read_bytes()).decode()
    caption = escape(picture.caption)
    source = f"data:image/png;base64,{image}"
    return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'


def markdown_picture(picture: Picture) -> str:
    """Returns a figure as Markdown, with a link to a file in the same folder."""
    return f"![{picture.caption}]({picture.path.name})\n\n{picture.caption}"


def html_table(table: Table) -> str:
    """Returns a table as HTML."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _run_lines(section: Section) -> Iterator[str]:
    for experiment in section.comparison.experiments:
        for run in experiment.runs:
            block = f"{run.block}, " if run.block else ""
            yield f"{run.path} ({block}seed {run.seed}, {run.results.date}, commit {run.results.commit or 'unknown'})"
