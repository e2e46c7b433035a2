"""Runs compared over seeds: tables, figures, and the pages that hold them."""

from blend_pl.report.command import print_scores, report

__all__ = ["print_scores", "report"]
