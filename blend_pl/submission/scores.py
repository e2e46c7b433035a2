"""Scores of a submission and of its runs: computed, printed, and stored in the run folders."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from blend_pl.metrics.labels import SCORE_LABELS
from blend_pl.metrics.nlb import SCORES, evaluate_rates
from blend_pl.report.test_scores import TEST_SCORES_FILE
from blend_pl.runs.strict_json import to_strict_json
from blend_pl.submission.layout import SessionSplits
from blend_pl.utils.files import atomic_file


def score_rates(splits: SessionSplits, rates: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Computes the NLB'21 scores that are defined for a session and its rates.

    Args:
        splits: training and evaluation trials, T observed of T' bins, N units.
        rates: (train trials, T or T', N) and (evaluation trials, T', N) expected counts per bin; fp-bps
            requires the forward bins.
    """
    evaluation = splits.evaluation
    bins = evaluation.n_observed
    if rates[1].shape[1] == bins:
        observed = evaluation.observed.clone()
        observed[:, bins:] = False
        evaluation = replace(evaluation, observed=observed)
    return evaluate_rates(splits.train, evaluation, rates)


def print_score_table(title: str, rows: Mapping[str, dict[str, float]]) -> None:
    """Prints a table of scores with one row per entry of `rows`."""
    score_names = [name for name in SCORES if any(name in scores for scores in rows.values())]
    table = Table(title=title, title_justify="left")
    table.add_column("rates of")
    for name in score_names:
        table.add_column(SCORE_LABELS[name], justify="right")
    for row_label, scores in rows.items():
        table.add_row(row_label, *(f"{scores[name]:.4f}" if name in scores else "" for name in score_names))
    Console().print(table)


def write_test_scores(run_dir: Path, scores: dict[str, float], targets_sha256: str) -> None:
    """Writes the test scores of a run into its folder.

    Args:
        run_dir: run folder.
        scores: scores by name; null in the file where not finite.
        targets_sha256: SHA-256 digest of the targets, in hex.

    Raises:
        DataError: the folder cannot be written.
    """
    content = {"scores": scores, "targets_sha256": targets_sha256, "date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    with atomic_file(run_dir / TEST_SCORES_FILE) as path:
        path.write_text(to_strict_json(content))
