"""Submissions to NLB'21: from finished runs to the file that EvalAI takes, its check, its scores and its upload."""

from blend_pl.submission.check import check_submission
from blend_pl.submission.command import submit
from blend_pl.submission.layout import SessionSplits

__all__ = ["SessionSplits", "check_submission", "submit"]
