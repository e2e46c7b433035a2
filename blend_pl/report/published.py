"""Published scores of NLB'21, for comparison on the same trials."""

from dataclasses import dataclass

from blend_pl.report.comparison import Comparison
from blend_pl.report.test_scores import SCORE_TEST_COMMAND

PUBLISHED_BIN_MS = 5
"""Bin width of all published scores."""

LEADERBOARD = "leaderboard of NLB'21, EvalAI challenge 1256"


@dataclass(frozen=True)
class PublishedScores:
    """Published scores of the val or test trials of one session.

    Attributes:
        source: source of the scores.
        methods: scores by name, for each method.
    """

    source: str
    methods: dict[str, dict[str, float]]


PUBLISHED_SCORES = {
    ("mc_maze", "test"): PublishedScores(
        LEADERBOARD,
        {
            "Smoothing": {"co_bps": 0.2109, "vel_r2": 0.6238, "psth_r2": 0.1853},
            "GPFA": {"co_bps": 0.1872, "vel_r2": 0.6399, "psth_r2": 0.5150},
            "MINT": {"co_bps": 0.3304, "vel_r2": 0.9121, "psth_r2": 0.7496, "fp_bps": 0.2076},
            "AutoLFADS": {"co_bps": 0.3364, "vel_r2": 0.9097, "psth_r2": 0.6360, "fp_bps": 0.2349},
            "one NDT (AE Studio)": {"co_bps": 0.3599, "vel_r2": 0.9105, "psth_r2": 0.6641, "fp_bps": 0.2470},
            "NDT ensemble (AE Studio)": {"co_bps": 0.3676, "vel_r2": 0.9114, "psth_r2": 0.6683, "fp_bps": 0.2589},
            "STNDT": {"co_bps": 0.3691, "vel_r2": 0.8985, "psth_r2": 0.6567, "fp_bps": 0.2505},
            "STNDT ensemble": {"co_bps": 0.3862, "vel_r2": 0.9095, "psth_r2": 0.6693, "fp_bps": 0.2686},
        },
    ),
    ("mc_rtt", "test"): PublishedScores(
        LEADERBOARD,
        {
            "Smoothing": {"co_bps": 0.1468, "vel_r2": 0.4142},
            "GPFA": {"co_bps": 0.1548, "vel_r2": 0.5339},
            "MINT": {"co_bps": 0.1676, "vel_r2": 0.5953, "fp_bps": 0.1012},
            "AutoLFADS": {"co_bps": 0.1868, "vel_r2": 0.6167, "fp_bps": 0.1213},
            "one NDT (AE Studio)": {"co_bps": 0.1927, "vel_r2": 0.6627, "fp_bps": 0.1229},
            "NDT ensemble (AE Studio)": {"co_bps": 0.2053, "vel_r2": 0.6334, "fp_bps": 0.1344},
            "STNDT": {"co_bps": 0.1865, "vel_r2": 0.5988, "fp_bps": 0.0964},
            "STNDT ensemble": {"co_bps": 0.2095, "vel_r2": 0.6270, "fp_bps": 0.1244},
        },
    ),
    ("area2_bump", "test"): PublishedScores(
        LEADERBOARD,
        {
            "Smoothing": {"co_bps": 0.1544, "vel_r2": 0.5736, "psth_r2": 0.2084},
            "GPFA": {"co_bps": 0.1680, "vel_r2": 0.5975, "psth_r2": 0.5289},
            "MINT": {"co_bps": 0.2735, "vel_r2": 0.8877, "psth_r2": 0.9135, "fp_bps": 0.1483},
            "AutoLFADS": {"co_bps": 0.2569, "vel_r2": 0.8492, "psth_r2": 0.6318, "fp_bps": 0.1505},
            "one NDT (AE Studio)": {"co_bps": 0.2801, "vel_r2": 0.8675, "psth_r2": 0.6367, "fp_bps": 0.1523},
            "NDT ensemble (AE Studio)": {"co_bps": 0.2860, "vel_r2": 0.8999, "psth_r2": 0.7109, "fp_bps": 0.1603},
            "STNDT": {"co_bps": 0.2818, "vel_r2": 0.8766, "psth_r2": 0.6454, "fp_bps": 0.1357},
            "STNDT ensemble": {"co_bps": 0.2898, "vel_r2": 0.8913, "psth_r2": 0.7368, "fp_bps": 0.1476},
        },
    ),
    ("dmfc_rsg", "test"): PublishedScores(
        LEADERBOARD,
        {
            "Smoothing": {"co_bps": 0.1202, "tp_corr": -0.5139, "psth_r2": 0.2993},
            "GPFA": {"co_bps": 0.1176, "tp_corr": -0.3763, "psth_r2": 0.2142},
            "MINT": {"co_bps": 0.1821, "tp_corr": -0.6929, "psth_r2": 0.7013, "fp_bps": 0.1650},
            "AutoLFADS": {"co_bps": 0.1829, "tp_corr": -0.8248, "psth_r2": 0.6359, "fp_bps": 0.1844},
            "one NDT (AE Studio)": {"co_bps": 0.1733, "tp_corr": -0.6189, "psth_r2": 0.5267, "fp_bps": 0.1511},
            "NDT ensemble (AE Studio)": {"co_bps": 0.1886, "tp_corr": -0.7601, "psth_r2": 0.6064, "fp_bps": 0.1828},
            "STNDT": {"co_bps": 0.1859, "tp_corr": -0.5205, "psth_r2": 0.6051, "fp_bps": 0.1601},
            "STNDT ensemble": {"co_bps": 0.1940, "tp_corr": -0.4857, "psth_r2": 0.6452, "fp_bps": 0.1910},
        },
    ),
    ("mc_maze_large", "val"): PublishedScores(
        "nlb_tools, smoothing and ridge regression",
        {"Smoothing": {"co_bps": 0.1528, "vel_r2": 0.5224, "psth_r2": 0.3871}},
    ),
}
"""By session and scored trials, val or test."""


def find_published_scores(comparison: Comparison) -> PublishedScores | None:
    """Returns the published scores of the trials of a comparison; None if there are none."""
    return PUBLISHED_SCORES.get((comparison.session, comparison.phase)) if _has_published_settings(comparison) else None


def published_elsewhere_note(comparison: Comparison) -> str | None:
    """Returns a note if published scores exist only for other trials of the session; None otherwise."""
    scored_on_val = comparison.phase == "val" and find_published_scores(comparison) is None
    if not (_has_published_settings(comparison) and scored_on_val and (comparison.session, "test") in PUBLISHED_SCORES):
        return None
    return (
        f"The published scores of {comparison.session} are of its test trials, not comparable with scores of val. To "
        f"score the test trials, fit with --data.phase test and call `{SCORE_TEST_COMMAND.format(runs='RUNS')}`."
    )


def _has_published_settings(comparison: Comparison) -> bool:
    """Returns whether a comparison is on recordings, not simulations, with the published bin width."""
    return comparison.bin_ms == PUBLISHED_BIN_MS and not comparison.simulated
