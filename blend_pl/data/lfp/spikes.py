"""Spike counts, and the selection of active units."""

from collections.abc import Sequence

import numpy as np

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.errors import DataError


def spike_counts(times: Sequence[np.ndarray], start: float, n_bins: int) -> np.ndarray:
    """Counts spikes in bins.

    Args:
        times: spike times of each of N units, s, in any order.
        start: start of the first bin, s.
        n_bins: T.

    Returns:
        (T, N) uint8.
    """
    counts = np.zeros((n_bins, len(times)), dtype=np.uint8)
    for column, unit_times in enumerate(times):
        # Rounding assigns a spike on an edge to the bin that starts there.
        bin_index = np.floor(np.round((unit_times - start) * 1000, 6) / BIN_MS)
        bin_index = bin_index[(bin_index >= 0) & (bin_index < n_bins)].astype(np.int64)
        counts[:, column] = np.minimum(np.bincount(bin_index, minlength=n_bins), 255)
    return counts


def select_active_units(
    counts: np.ndarray, names: Sequence[str], min_rate_hz: float, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Selects the units with a minimum firing rate.

    Args:
        counts: (T, units).
        names: name of each unit.
        min_rate_hz: minimum rate; silent units are always left out.
        where: the file, for errors.

    Returns:
        (T, N) counts and N names; N is 0 if there are no units.

    Raises:
        DataError: there are units, but all of them fire too rarely.
    """
    rate = counts.sum(0, dtype=np.int64) * 1000 / (BIN_MS * len(counts))
    active = np.flatnonzero((rate >= min_rate_hz) & (rate > 0)).tolist()
    if not active and counts.shape[1]:
        raise DataError(
            f"{where} has {counts.shape[1]} units, none above {min_rate_hz:g} Hz; lower data.spec.min_rate_hz, or "
            "check that spikes and behavior are of the same session"
        )
    return counts[:, active], tuple(names[k] for k in active)
