"""How a recording is cut and divided, and z-scores that know its training part alone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from blend_pl.data.standardize import Standardizer
from blend_pl.errors import ConfigError, DataError

PARENT_SEGMENT_BINS = 1000
"""Whole parents of 10 s are drawn, so that splits agree across lengths of segments (Erturk et al., 2025)."""


@dataclass(frozen=True)
class SegmentSplit:
    """Start bins of the segments on each side, in the order of time.

    Attributes:
        train: (segments,) int64.
        val: (segments,) int64.
        test: (segments,) int64.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def split_segments(
    n_bins: int,
    length: int,
    split: Literal["random", "blocks"],
    seed: int = 42,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> SegmentSplit:
    """Cuts a recording into segments without overlap and divides them into train, val and test.

    What remains at the recording's end, shorter than a parent of 10 s, belongs to no side.

    Args:
        n_bins: bins of the recording.
        length: bins of a segment; divides 1000.
        split: "random" draws parents at random, as published, so that training surrounds what is scored; "blocks" takes
            one stretch of time a side, train before val before test, and leaves out a parent between them.
        seed: seed of the draw.
        fractions: shares of train, val and test. Val and test are rounded, one parent at least; train gets the others.

    Raises:
        ConfigError: a length that does not divide a parent, or fractions that do not add up to 1.
        DataError: a recording too short for three sides.
    """
    if length < 1 or PARENT_SEGMENT_BINS % length:
        raise ConfigError(
            f"segments have {length} bins; choose a length that divides {PARENT_SEGMENT_BINS}, such as 100 or 500"
        )
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"segments are divided by {fractions}; write three shares above 0 that add up to 1")
    n_parents, n_gap = n_bins // PARENT_SEGMENT_BINS, int(split == "blocks")
    n_val, n_test = (max(1, round(fraction * n_parents)) for fraction in fractions[1:])
    n_train = n_parents - n_val - n_test - 2 * n_gap
    if n_train < 1:
        raise DataError(
            f"a recording of {n_bins} bins has {n_parents} parents of {PARENT_SEGMENT_BINS}, too few for train, val and test "
            f"by {split}; choose a longer one"
        )
    order = np.arange(n_parents) if split == "blocks" else np.random.default_rng(seed).permutation(n_parents)
    # The order of time puts val between the others; left out are the parents on its both sides.
    val_start, test_start = n_train + n_gap, n_train + n_val + 2 * n_gap
    subsets = order[:n_train], order[val_start : val_start + n_val], order[test_start:]
    offsets = np.arange(0, PARENT_SEGMENT_BINS, length)
    return SegmentSplit(
        *((np.sort(parents)[:, None] * PARENT_SEGMENT_BINS + offsets).reshape(-1) for parents in subsets)
    )


def standardize_channels(values: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Returns z-scores with mean and standard deviation of the training segments.

    Args:
        values: (T, C), NaN where missing.
        starts: first bins of the training segments.
        length: bins of a segment.

    Returns:
        (T, C) float32; NaN where missing, 0 in channels without variation in the training segments.
    """
    training_bins = (np.asarray(starts)[:, None] + np.arange(length)).reshape(-1)
    standardizer = Standardizer.fit(values[training_bins], constant_std=np.inf)
    # The product with the reciprocal rounds differently from the division of `Standardizer.transform`.
    return ((values - standardizer.mean) * (1 / standardizer.std)).astype(np.float32)
