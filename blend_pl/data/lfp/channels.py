"""Channels without a signal: constant, not finite, or much weaker than the others."""

from dataclasses import dataclass

import numpy as np

from blend_pl.errors import DataError

WINDOW_S = 1.0
"""Length of the windows in which a channel without any change is flat."""

QUIET_RATIO = 0.01
"""Channels whose amplitude is below this fraction of the median amplitude are mentioned."""

REPORTED_FLAT_FRACTION = 0.01
"""Channels that are flat for a larger fraction of the recording are mentioned."""

N_LISTED_CHANNELS = 12


class ChannelStatistics:
    """Flat and missing fractions and amplitudes of the channels of a signal that is read in blocks.

    Args:
        n_channels: C.
        rate: samples per second.
    """

    def __init__(self, n_channels: int, rate: float) -> None:
        self._window = max(2, round(WINDOW_S * rate))
        self._pending = np.empty((0, n_channels), dtype=np.float32)
        self._n_samples, self._n_windows = 0, 0
        self._n_missing = np.zeros(n_channels, dtype=np.int64)
        self._n_flat = np.zeros(n_channels, dtype=np.int64)
        self._range_sum = np.zeros(n_channels)

    def add(self, block: np.ndarray) -> None:
        """Adds the next (samples, C) float32 samples."""
        self._n_samples += len(block)
        self._n_missing += (~np.isfinite(block)).sum(0)
        samples = np.concatenate([self._pending, block])
        n_complete = len(samples) // self._window * self._window
        if n_complete:
            self._add_windows(samples[:n_complete].reshape(-1, self._window, samples.shape[1]))
        self._pending = samples[n_complete:]

    def _add_windows(self, windows: np.ndarray) -> None:
        with np.errstate(invalid="ignore"):
            highest, lowest = windows.max(1), windows.min(1)
            amplitude = np.nan_to_num(highest - lowest, nan=0.0, posinf=0.0)
            # Filters of a constant may differ in the last digit.
            rounding = 4 * np.finfo(np.float32).eps * np.nan_to_num(np.abs(highest))
        self._n_windows += len(windows)
        self._n_flat += (amplitude <= rounding).sum(0)
        self._range_sum += amplitude.sum(0, dtype=np.float64)

    def missing_fraction(self) -> np.ndarray:
        """Returns the (C,) fraction of samples that are not finite."""
        return self._n_missing / max(1, self._n_samples)

    def flat_fraction(self) -> np.ndarray:
        """Returns the (C,) fraction of windows without any change."""
        self._finish()
        return self._n_flat / max(1, self._n_windows)

    def amplitude(self) -> np.ndarray:
        """Returns the (C,) mean difference between the highest and the lowest value of a window."""
        self._finish()
        return self._range_sum / max(1, self._n_windows)

    def _finish(self) -> None:
        """Counts the end of a signal that is shorter than a window."""
        if not self._n_windows and len(self._pending):
            self._add_windows(self._pending[None])


@dataclass(frozen=True)
class LiveChannels:
    """The channels with a signal.

    Attributes:
        channels: (C,) int64 numbers.
        notes: lines on the channels that are left out or look dead.
    """

    channels: np.ndarray
    notes: tuple[str, ...]

    @classmethod
    def from_statistics(cls, statistics: ChannelStatistics, channel_id: tuple[str, ...], source: str) -> "LiveChannels":
        """Leaves out channels that are constant or not finite throughout.

        Args:
            statistics: statistics of the whole signal.
            channel_id: name of each channel; empty for their numbers.
            source: series and file, for messages.

        Raises:
            DataError: a channel has samples that are finite and others that are not, or no channel has a signal.
        """
        missing, flat = statistics.missing_fraction(), statistics.flat_fraction()
        names = np.array(channel_id or [str(channel) for channel in range(len(flat))])
        partly_missing = (missing > 0) & (missing < 1)
        if partly_missing.any():
            shares = ", ".join(
                f"{name} ({100 * share:.2g} %)"
                for name, share in zip(names[partly_missing], missing[partly_missing], strict=True)
            )
            raise DataError(
                f"{source} has samples that are not finite in {partly_missing.sum()} of {len(names)} channels: "
                f"{shares}; leave these channels out with data.spec.bad_channels, repair them, or leave this session "
                "out"
            )
        is_dead = (missing == 1) | (flat == 1)
        if is_dead.all():
            raise DataError(
                f"{source} has no channel with a signal: its {len(names)} channels are constant or NaN; choose another "
                "series with data.spec.names.lfp, or leave this session out"
            )
        live = np.flatnonzero(~is_dead)
        notes = []
        if is_dead.any():
            notes.append(
                f"{source}: {is_dead.sum()} of {len(names)} channels ({100 * is_dead.mean():.0f} %) are constant or "
                f"NaN throughout and are left out: {list_names(names[is_dead])}"
            )
        is_flat = ~is_dead & (flat > REPORTED_FLAT_FRACTION)
        if is_flat.any():
            notes.append(
                f"{source}: channels {list_names(names[is_flat])} are flat for {100 * flat[is_flat].min():.0f} % or "
                "more of the recording; data.spec.bad_channels leaves channels out"
            )
        amplitude = statistics.amplitude()
        is_quiet = ~is_dead & (amplitude < QUIET_RATIO * np.median(amplitude[live]))
        if is_quiet.any():
            notes.append(
                f"{source}: channels {list_names(names[is_quiet])} vary less than {100 * QUIET_RATIO:g} % of the "
                "median channel; if they are dead, leave them out with data.spec.bad_channels"
            )
        return cls(live, tuple(notes))


def list_names(names: np.ndarray) -> str:
    """Returns the names in one line, the first ones of many."""
    more = [f"{len(names) - N_LISTED_CHANNELS} more"] if len(names) > N_LISTED_CHANNELS else []
    return ", ".join([*names[:N_LISTED_CHANNELS].tolist(), *more])
