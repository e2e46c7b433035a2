"""How a recording is cut and divided, and z-scores that know its training part alone."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from blend_pl.errors import ConfigError, DataError

PARENT_BINS = 1000
"""Whole parents of 10 s are drawn, so that splits agree across lengths of segments (Erturk et al., 2025)."""


@dataclass(frozen=True)
class Segments:
    """Start bins of the segments on each side, in the order of time.

    Attributes:
        train: (segments,) int64.
        val: (segments,) int64.
        test: (segments,) int64.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def segments(
    n_bins: int,
    length: int,
    split: Literal["random", "blocks"],
    seed: int = 42,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Segments:
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
    if length < 1 or PARENT_BINS % length:
        raise ConfigError(
            f"segments have {length} bins; choose a length that divides {PARENT_BINS}, such as 100 or 500"
        )
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"segments are divided by {fractions}; write three shares above 0 that add up to 1")
    n_parents, gap = n_bins // PARENT_BINS, int(split == "blocks")
    n_val, n_test = (max(1, round(share * n_parents)) for share in fractions[1:])
    n_train = n_parents - n_val - n_test - 2 * gap
    if n_train < 1:
        raise DataError(
            f"a recording of {n_bins} bins has {n_parents} parents of {PARENT_BINS}, too few for train, val and test "
            f"by {split}; choose a longer one"
        )
    order = np.arange(n_parents) if split == "blocks" else np.random.default_rng(seed).permutation(n_parents)
    # The order of time puts val between the others; left out are the parents on its both sides.
    val, test = n_train + gap, n_train + n_val + 2 * gap
    sides = order[:n_train], order[val : val + n_val], order[test:]
    within = np.arange(0, PARENT_BINS, length)
    return Segments(*((np.sort(side)[:, None] * PARENT_BINS + within).reshape(-1) for side in sides))


@dataclass(frozen=True)
class Standardisation:
    """Z-scores by channel.

    Attributes:
        mean: (C,) float32.
        sd: (C,) float32; 0 for a channel that is constant or missing, which becomes 0.
    """

    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, starts: np.ndarray, length: int) -> Self:
        """Mean and standard deviation over some segments alone.

        Args:
            values: (T, C), NaN where missing.
            starts: start bins of the segments, the training ones.
            length: bins of a segment.
        """
        inside = values[(np.asarray(starts)[:, None] + np.arange(length)).reshape(-1)].astype(np.float64)
        known = np.isfinite(inside)
        n = np.maximum(known.sum(0), 1)
        mean = np.where(known, inside, 0).sum(0) / n
        sd = np.sqrt((np.where(known, inside - mean, 0) ** 2).sum(0) / n)
        # What is left of a constant is rounding.
        sd[sd <= np.finfo(np.float32).eps * np.abs(mean)] = 0
        return cls(mean.astype(np.float32), sd.astype(np.float32))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """(T, C) float32 z-scores; NaN stays NaN."""
        scale = np.divide(1, self.sd, out=np.zeros_like(self.sd), where=self.sd > 0)
        return ((values - self.mean) * scale).astype(np.float32)
