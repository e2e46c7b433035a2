"""Spike times to counts, without units that hardly fire."""

from collections.abc import Sequence

import numpy as np

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.errors import DataError


def spike_counts(times: Sequence[np.ndarray], start: float, n_bins: int) -> np.ndarray:
    """Counts in bins.

    Args:
        times: for each of N units its spikes, s, in any order.
        start: s, where the first bin starts.
        n_bins: T.

    Returns:
        (T, N) uint8.
    """
    counts = np.zeros((n_bins, len(times)), dtype=np.uint8)
    for column, unit_times in enumerate(times):
        # A spike on an edge belongs to the bin that begins there, whatever rounding did to it.
        bin_index = np.floor(np.round((unit_times - start) * 1000, 6) / BIN_MS)
        bin_index = bin_index[(bin_index >= 0) & (bin_index < n_bins)].astype(np.int64)
        counts[:, column] = np.minimum(np.bincount(bin_index, minlength=n_bins), 255)
    return counts


def select_active_units(
    counts: np.ndarray, names: Sequence[str], min_rate_hz: float, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Counts and names of the units that fire often enough.

    Args:
        counts: (T, units).
        names: name of each unit.
        min_rate_hz: units below, and silent ones, are left out.
        where: the file, for the error.

    Returns:
        (T, N) and N names; N is 0 where there are no units at all.

    Raises:
        DataError: there are units, and none fires often enough.
    """
    rate = counts.sum(0, dtype=np.int64) * 1000 / (BIN_MS * len(counts))
    active = np.flatnonzero((rate >= min_rate_hz) & (rate > 0)).tolist()
    if not active and counts.shape[1]:
        raise DataError(
            f"{where} has {counts.shape[1]} units, none above {min_rate_hz:g} Hz; lower data.spec.min_rate_hz, or "
            "check that spikes and behaviour are of one session"
        )
    return counts[:, active], tuple(names[k] for k in active)
