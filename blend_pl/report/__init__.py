"""Comparison of runs over seeds: tables, figures and report pages."""

from blend_pl.report.command import print_scores, write_report

__all__ = ["print_scores", "write_report"]
