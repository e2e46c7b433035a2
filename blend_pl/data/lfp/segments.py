"""Division of a recording into train, val and test segments, and z-scores of its training segments."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from blend_pl.data.standardize import Standardizer
from blend_pl.errors import ConfigError, DataError

PARENT_SEGMENT_BINS = 1000
"""Parent segments of 10 s are split, so that splits agree across segment lengths (Erturk et al., 2025)."""


@dataclass(frozen=True)
class SegmentSplit:
    """Start bins of the segments of each split, in temporal order.

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
    """Divides a recording into train, val and test segments without overlap.

    The end of the recording, shorter than a parent segment of 10 s, is in no split.

    Args:
        n_bins: bins of the recording.
        length: bins per segment, a divisor of 1000.
        split: "random" draws parent segments at random, as published, so that training segments surround test
            segments; "blocks" takes one contiguous block per split, train before val before test, and leaves out a
            parent segment between them.
        seed: seed of the random split.
        fractions: fractions of train, val and test. Val and test are rounded, to at least one parent segment; train
            has the rest.

    Raises:
        ConfigError: the length does not divide a parent segment, or the fractions do not add up to 1.
        DataError: the recording is too short for three splits.
    """
    if length < 1 or PARENT_SEGMENT_BINS % length:
        raise ConfigError(
            f"segments have {length} bins; set data.length to a divisor of {PARENT_SEGMENT_BINS}, such as 100 or 500"
        )
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"segments are divided by {fractions}; use three fractions above 0 that add up to 1")
    n_parents, n_gap = n_bins // PARENT_SEGMENT_BINS, int(split == "blocks")
    n_val, n_test = (max(1, round(fraction * n_parents)) for fraction in fractions[1:])
    n_train = n_parents - n_val - n_test - 2 * n_gap
    if n_train < 1:
        raise DataError(
            f"a recording of {n_bins} bins has {n_parents} parent segments of {PARENT_SEGMENT_BINS} bins, too few for "
            f"train, val and test by {split}; choose a longer one"
        )
    order = np.arange(n_parents) if split == "blocks" else np.random.default_rng(seed).permutation(n_parents)
    # Val is between train and test; a gap of `n_gap` parent segments is left out on both of its sides.
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
    z_scores: np.ndarray = ((values - standardizer.mean) * (1 / standardizer.std)).astype(np.float32)
    return z_scores
