"""Windows on the grid of bins of a session: aligned to an event of each trial, or at a fixed stride."""

from dataclasses import dataclass, replace

import numpy as np

from blend_pl.data.nlb.binning import NS_PER_MS, Intervals, ceil_to_bin, to_ns
from blend_pl.data.nlb.coverage import relative_seconds
from blend_pl.data.nlb.spec import WindowSpec
from blend_pl.errors import ConfigError, DataError


@dataclass(frozen=True)
class WindowShape:
    """Size of a window in bins.

    Attributes:
        n_observed: T, bins in a model's input.
        n_forward: F, bins of the forward prediction after them.
        bin_ms: bin width.
    """

    n_observed: int
    n_forward: int
    bin_ms: int

    @property
    def n_bins(self) -> int:
        """T + F."""
        return self.n_observed + self.n_forward

    @classmethod
    def from_window(cls, window: WindowSpec, bin_ms: int) -> "WindowShape":
        """Returns the numbers of bins of a window.

        Raises:
            ConfigError: a length is not positive or not a multiple of the bin width, or settings contradict.
        """
        if bin_ms < 1:
            raise ConfigError(f"bin_ms is {bin_ms}; it must be at least 1")
        if window.stop_ms <= window.start_ms or window.forward_ms < 0:
            raise ConfigError(
                f"the window {window.start_ms}..{window.stop_ms} ms (forward {window.forward_ms} ms) is empty or "
                "negative; set window.stop_ms above window.start_ms and window.forward_ms to 0 or more"
            )
        if window.align is None:
            if window.stride_ms is None or window.stride_ms < 1:
                raise ConfigError(
                    "windows without window.align need window.stride_ms, the distance between their starts"
                )
            if window.start_ms != 0:
                raise ConfigError(f"window.start_ms is {window.start_ms}; without window.align it must be 0")
        elif window.stride_ms is not None:
            raise ConfigError(f"window.align is {window.align!r} and window.stride_ms {window.stride_ms}; set only one")
        length = window.stop_ms - window.start_ms
        for name, value in (
            ("length", length),
            ("forward_ms", window.forward_ms),
            ("stride_ms", window.stride_ms or 0),
        ):
            if value % bin_ms:
                raise ConfigError(
                    f"the window's {name} of {value} ms is not a multiple of bin_ms ({bin_ms}); change one"
                )
        return cls(length // bin_ms, window.forward_ms // bin_ms, bin_ms)


@dataclass(frozen=True)
class Windows:
    """n windows of T + F bins on the session grid.

    Attributes:
        row: (n,) row of the trials table, or index of the window without a table.
        start: (n,) first bin, the first one at or after the window's start.
        behavior_start: (n,) first bin of the lagged behavior, rounded up separately.
        event: (n,) bin of the event to which windows are aligned, rounded up.
        jitter: (n,) bins by which `start` and `behavior_start` were shifted later.
        shape: size of the windows.
        n_rows: total number of rows, including those without a window.
        start_s: start of the grid in the time of the trials table.
    """

    row: np.ndarray
    start: np.ndarray
    behavior_start: np.ndarray
    event: np.ndarray
    jitter: np.ndarray
    shape: WindowShape
    n_rows: int
    start_s: float = 0.0

    def __len__(self) -> int:
        return len(self.row)

    def select(self, index: np.ndarray) -> "Windows":
        """Returns the selected windows (indices or boolean mask)."""
        names = ("row", "start", "behavior_start", "event", "jitter")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def shifted(self, bins: np.ndarray) -> "Windows":
        """Returns the windows, each shifted later by (n,) bins."""
        return replace(
            self, start=self.start + bins, behavior_start=self.behavior_start + bins, jitter=self.jitter + bins
        )

    @property
    def without_jitter(self) -> "Windows":
        """The same windows without jitter."""
        return self.shifted(-self.jitter)


def trial_windows(
    window: WindowSpec, shape: WindowShape, event_times: np.ndarray, lag_ms: int, start_s: float = 0.0
) -> Windows:
    """Returns one window per trial, aligned to its event; trials without the event (NaN) have none.

    Args:
        window: start of a window relative to the event.
        shape: size of a window in bins.
        event_times: (trials,) time of the event.
        lag_ms: delay of behavior.
        start_s: start of the grid in the time of the events.

    Raises:
        DataError: the times are not numeric.
    """
    if event_times.dtype.kind not in "fiu":
        raise DataError(f"the trials column {window.align!r} has no times (s); set window.align to a column of times")
    row = np.flatnonzero(np.isfinite(event_times))
    event = to_ns(relative_seconds(event_times[row].astype(np.float64), start_s))
    windows = _windows_from_events(row, event, window.start_ms, lag_ms, shape, len(event_times))
    return replace(windows, start_s=start_s)


def continuous_windows(
    window: WindowSpec, shape: WindowShape, obs_intervals: list[Intervals], n_ms: int, lag_ms: int
) -> Windows:
    """Returns windows at a fixed stride in bins in which any unit was observed, including forward bins.

    The first window of each stretch of such bins starts with it.

    Args:
        window: its stride.
        shape: size of a window in bins.
        obs_intervals: observation intervals of the units.
        n_ms: length of the recording.
        lag_ms: delay of behavior.

    Raises:
        DataError: no window fits.
    """
    bins = np.arange(-(-n_ms // shape.bin_ms)) * shape.bin_ms
    recorded_bins = np.logical_or.reduce([intervals.contains(bins) for intervals in obs_intervals])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], recorded_bins, [False]])))
    stride_bins = (window.stride_ms or 1) // shape.bin_ms
    starts = [np.arange(start, stop - shape.n_bins + 1, stride_bins) for start, stop in edges.reshape(-1, 2)]
    start = np.concatenate([np.empty(0, dtype=np.int64), *starts])
    if not len(start):
        longest_ms = int(np.diff(edges.reshape(-1, 2), axis=1).max(initial=0)) * shape.bin_ms
        raise DataError(
            f"no window of {shape.n_bins * shape.bin_ms} ms fits into the recording; its longest observation interval "
            f"has {longest_ms} ms; shorten window.stop_ms or window.forward_ms"
        )
    return _windows_from_events(np.arange(len(start)), start * shape.bin_ms * NS_PER_MS, 0, lag_ms, shape, len(start))


def _windows_from_events(
    row: np.ndarray, event_ns: np.ndarray, start_ms: int, lag_ms: int, shape: WindowShape, n_rows: int
) -> Windows:
    start_ns = event_ns + start_ms * NS_PER_MS
    return Windows(
        row=row,
        start=ceil_to_bin(start_ns, shape.bin_ms),
        behavior_start=ceil_to_bin(start_ns + lag_ms * NS_PER_MS, shape.bin_ms),
        event=ceil_to_bin(event_ns, shape.bin_ms),
        jitter=np.zeros(len(row), dtype=np.int64),
        shape=shape,
        n_rows=n_rows,
    )
