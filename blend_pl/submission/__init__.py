"""Submissions to NLB'21: write, check, score and upload the file for EvalAI."""

from blend_pl.submission.check import check_submission
from blend_pl.submission.command import submit
from blend_pl.submission.layout import SessionSplits

__all__ = ["SessionSplits", "check_submission", "submit"]
