"""Tables of scores."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

NAMES = {"co_bps": "co-bps", "vel_r2": "velocity R2", "psth_r2": "PSTH R2", "fp_bps": "fp-bps"}


def print_scores(name: str, scores: dict[str, float], oracle: dict[str, float] | None, run: Path) -> None:
    """Prints the scores of one run, beside those of the true rates where they are known."""
    table = Table(title=name)
    table.add_column("score")
    table.add_column("value", justify="right")
    if oracle:
        table.add_column("true rates", justify="right")
        table.add_column("fraction", justify="right")
    for key, value in scores.items():
        row = [NAMES[key], f"{value:.4f}"]
        if oracle:
            row += [f"{oracle[key]:.4f}", f"{value / oracle[key]:.3f}"]
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"results: {run}", soft_wrap=True)
