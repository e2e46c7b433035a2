"""Binned field potentials of a waveform of any rate: the filter chains of Erturk et al. (2025), streamed.

The filters are linear and time-invariant, so their order matters at the ends of a recording only. The anti-aliasing
filter has a finite impulse response and runs on blocks without a change of its result. Its output, at a few hundred
hertz, is filtered in chunks with margins that are long enough for the filters' transients to decay. Only the binned
signal, at a hundred hertz, is held in memory as a whole.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import butter, detrend, firwin, iirnotch, kaiserord, sosfiltfilt, tf2sos

from blend_pl.data.lfp.channels import ChannelStatistics, LiveChannels, list_names
from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.errors import DataError

INTERMEDIATE_HZ = 763.0
"""Approximate rate after decimation."""

PASSBAND_HZ = 60.0
"""The anti-aliasing filter passes lower frequencies and removes those that would alias onto them."""

STOPBAND_DB = 80.0
NOTCH_Q = 30.0
BLOCK_BYTES = 1 << 25
CHANNELS_PER_BLOCK = 8
CHUNK_S, MARGIN_S = 120.0, 4.0
"""Length of a chunk and of its margins; the transients of the notches, the slowest filters here, decay by a factor of e
every 0.16 s."""


@dataclass(frozen=True)
class Waveform:
    """A regularly sampled signal that is read in blocks.

    Attributes:
        name: name for errors.
        read: returns the (stop - start, C) samples from start to stop.
        n_samples: number of samples.
        n_channels: C.
        rate: samples per second.
        start: time of the first sample, s.
        scale: factor from stored values to the signal's unit, or (C,) factors.
        storage_chunk: number of samples that are stored, and best read, together.
        offset: added to the scaled values, or (C,) offsets.
        channel_id: name of each channel, for messages; empty for their numbers.
    """

    name: str
    read: Callable[[int, int], np.ndarray]
    n_samples: int
    n_channels: int
    rate: float
    start: float
    scale: float | np.ndarray = 1.0
    storage_chunk: int = 1
    offset: float | np.ndarray = 0.0
    channel_id: tuple[str, ...] = ()

    @property
    def stop(self) -> float:
        """End of the last sample, s."""
        return self.start + self.n_samples / self.rate


def select_channels(waveform: Waveform, channels: np.ndarray) -> Waveform:
    """Returns a waveform of the (C,) channels of another one."""

    def read(start: int, stop: int) -> np.ndarray:
        return waveform.read(start, stop)[:, channels]

    return replace(
        waveform,
        read=read,
        n_channels=len(channels),
        scale=waveform.scale[channels] if isinstance(waveform.scale, np.ndarray) else waveform.scale,
        offset=waveform.offset[channels] if isinstance(waveform.offset, np.ndarray) else waveform.offset,
        channel_id=tuple(waveform.channel_id[channel] for channel in channels),
    )


def without_bad_channels(waveform: Waveform, bad_channels: Sequence[int | str]) -> tuple[Waveform, tuple[str, ...]]:
    """Returns a waveform without some of its named channels, and a note on those.

    Args:
        waveform: the waveform.
        bad_channels: names of channels, or the numbers in the names of one letter and a number.

    Raises:
        DataError: there is no such channel, or no channel is left.
    """
    if not bad_channels:
        return waveform, ()
    is_bad = np.zeros(waveform.n_channels, dtype=bool)
    for name in map(str, bad_channels):
        matches = [name in (channel, channel[1:]) for channel in waveform.channel_id]
        if not any(matches):
            raise DataError(
                f"{waveform.name} has no channel {name}, only {list_names(np.array(waveform.channel_id))}; correct "
                "data.spec.bad_channels"
            )
        is_bad |= np.array(matches)
    if is_bad.all():
        raise DataError(f"{waveform.name} has only bad channels; remove some from data.spec.bad_channels")
    note = (
        f"{waveform.name}: {is_bad.sum()} of {len(is_bad)} channels ({100 * is_bad.mean():.0f} %) are left out by "
        f"data.spec.bad_channels: {list_names(np.array(waveform.channel_id)[is_bad])}"
    )
    return select_channels(waveform, np.flatnonzero(~is_bad)), (note,)


@dataclass(frozen=True)
class BinnedLFP:
    """Binned field potentials of the channels that have a signal.

    Attributes:
        values: (T, C) float32.
        channels: (C,) int64, numbers of the channels in the waveform.
        notes: lines on the channels that are left out or look dead.
    """

    values: np.ndarray
    channels: np.ndarray
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FilterChain:
    """Filters between anti-aliasing and binning.

    Attributes:
        line_hz: frequency of the line noise, notched with its harmonics (Q 30); None for no notches.
        highpass_hz: corner frequency of the Butterworth high-pass; None for no high-pass.
        lowpass_hz: corner frequency of the Butterworth low-pass.
    """

    line_hz: float | None = 60.0
    highpass_hz: float | None = 0.05
    lowpass_hz: float = 50.0


MAKIN_FILTERS = FilterChain()
FLINT_FILTERS = FilterChain(line_hz=None, highpass_hz=None)


def bin_lfp(
    waveform: Waveform, filters: FilterChain, start: float, n_bins: int, block_samples: int | None = None
) -> BinnedLFP:
    """Filters a waveform and samples it at the centers of bins.

    Channels without a signal, constant or NaN throughout, are left out, before the common average is taken.

    The steps are anti-aliasing and decimation to about 763 Hz, removal of the mean, notches, low-pass, cubic
    interpolation at the bin centers, high-pass, and removal of the common average (with more than one channel). All
    filters are zero-phase; Butterworth filters are of order 2 and run forwards and backwards (the low-pass is of order
    4, because bins follow at 100 Hz).

    Args:
        waveform: the signal.
        filters: the filters.
        start: start of the first bin, s; all bins are within the waveform.
        n_bins: T.
        block_samples: samples to read at once; None for 32 MB. The result does not depend on it.

    Raises:
        DataError: the sampling rate is too low for the low-pass; a channel has samples that are finite and others that
            are not; no channel has a signal.
    """
    if waveform.rate < 2 * filters.lowpass_hz:
        raise DataError(
            f"{waveform.name} has {waveform.rate:g} samples per second, too few for frequencies up to "
            f"{filters.lowpass_hz:g} Hz; choose a recording with at least {2 * filters.lowpass_hz:g}"
        )
    factor = max(1, round(waveform.rate / INTERMEDIATE_HZ))
    # The slow high-pass runs on the whole waveform to keep its edge effects away from the bins.
    n_bins_before = int((start - waveform.start) * 1000 / BIN_MS)
    n_bins_after = max(0, int((waveform.stop - start) * 1000 / BIN_MS) - n_bins)
    centers = start - waveform.start + (np.arange(-n_bins_before, n_bins + n_bins_after) + 0.5) * BIN_MS / 1000
    statistics = ChannelStatistics(waveform.n_channels, waveform.rate / factor)
    blocks = _decimate(waveform, factor, block_samples, statistics)
    binned = _filter_and_interpolate(blocks, waveform, factor, filters, centers)
    live = LiveChannels.from_statistics(statistics, waveform.channel_id, waveform.name)
    if len(live.channels) < waveform.n_channels:
        binned = binned[:, live.channels]
    highpass = _highpass_sos(filters)
    for first in range(0, binned.shape[1], CHANNELS_PER_BLOCK):
        channels = slice(first, first + CHANNELS_PER_BLOCK)
        signals = binned[:, channels].T.astype(np.float64)
        signals -= signals.mean(1, keepdims=True)
        if highpass is not None:
            # Even padding needs a signal without a trend; odd padding would add a step where a wave peaks at the end.
            signals = sosfiltfilt(
                highpass, detrend(signals), padtype="even", padlen=min(signals.shape[1] - 1, 20_000 // BIN_MS)
            )
        binned[:, channels] = signals.T
    result = binned[n_bins_before : n_bins_before + n_bins]
    if result.shape[1] > 1:
        result -= result.mean(1, keepdims=True)
    return BinnedLFP(result, live.channels, live.notes)


def _filter_and_interpolate(
    blocks: Iterable[np.ndarray], waveform: Waveform, factor: int, filters: FilterChain, centers: np.ndarray
) -> np.ndarray:
    """Applies notches and low-pass to a decimated waveform; returns (bins, C) float32 values at `centers`, s."""
    rate = waveform.rate / factor
    notch_lowpass, positions = _notch_lowpass_sos(filters, rate), centers * rate
    binned = np.empty((len(centers), waveform.n_channels), dtype=np.float32)
    n_samples = -(-waveform.n_samples // factor)
    for signal, first, begin, end in _chunks_with_margin(
        blocks, n_samples, round(CHUNK_S * rate), round(MARGIN_S * rate)
    ):
        low, high = np.searchsorted(positions, (begin, end))
        bins = slice(low if begin else 0, high if end < n_samples else len(positions))
        for channel in range(0, waveform.n_channels, CHANNELS_PER_BLOCK):
            channels = slice(channel, channel + CHANNELS_PER_BLOCK)
            signals = signal[:, channels].T.astype(np.float64)
            if notch_lowpass is not None:
                signals = sosfiltfilt(notch_lowpass, signals, padlen=min(signals.shape[1] - 1, round(rate)))
            binned[bins, channels] = _interpolate_cubic(signals, positions[bins] - first).T
    return binned


def _chunks_with_margin(
    blocks: Iterable[np.ndarray], n_samples: int, chunk_samples: int, margin_samples: int
) -> Iterator[tuple[np.ndarray, int, int, int]]:
    """Regroups the blocks of a signal into chunks with margins, independent of the block sizes.

    Args:
        blocks: blocks of (n, C) samples, `n_samples` in total.
        n_samples: number of samples.
        chunk_samples: samples per chunk; the last one has up to a margin more.
        margin_samples: samples on either side of a chunk, fewer at the ends of the signal.

    Yields:
        The samples of a chunk with its margins, the index of the first of them, and begin and end of the chunk.
    """
    buffer: list[np.ndarray] = []
    first = begin = stop = 0
    for block in blocks:
        buffer.append(block)
        stop += len(block)
        while begin < n_samples and (stop == n_samples or stop >= begin + chunk_samples + margin_samples):
            signal = buffer[0] if len(buffer) == 1 else np.concatenate(buffer)
            end = n_samples if n_samples - begin <= chunk_samples + margin_samples else begin + chunk_samples
            yield signal[: min(n_samples, end + margin_samples) - first], first, begin, end
            next_first = max(first, end - margin_samples)
            buffer, first, begin = [signal[next_first - first :]], next_first, end


def _decimate(
    waveform: Waveform, factor: int, block_samples: int | None, statistics: ChannelStatistics
) -> Iterator[np.ndarray]:
    """Yields (samples, C) float32 blocks of the signal, filtered and decimated by `factor`, 0 where not finite.

    The blocks are added to the statistics.
    """
    taps = _anti_aliasing_taps(waveform.rate, factor)
    half_length, n_outputs = len(taps) // 2, -(-waveform.n_samples // factor)
    n_phases = -(-len(taps) // factor)
    weights = np.zeros((n_phases, factor), dtype=np.float32)
    channel_scale = waveform.scale if isinstance(waveform.scale, np.ndarray) else None
    weights.reshape(-1)[: len(taps)] = taps * (waveform.scale if channel_scale is None else 1.0)
    n_read = block_samples or max(factor, BLOCK_BYTES // (4 * waveform.n_channels))
    # Blocks are multiples of storage chunks, so that no chunk is decompressed twice.
    n_read = max(n_read - n_read % waveform.storage_chunk, min(n_read, waveform.storage_chunk))
    buffer, n_written = np.empty((0, waveform.n_channels), dtype=np.float32), 0
    for start in range(0, waveform.n_samples, n_read):
        stop = min(start + n_read, waveform.n_samples)
        new_samples = waveform.read(start, stop).astype(np.float32)
        # The signal is padded with its first and its last sample.
        padding = (half_length if start == 0 else 0, n_phases * factor if stop == waveform.n_samples else 0)
        buffer = np.concatenate([buffer, np.pad(new_samples, (padding, (0, 0)), mode="edge")])
        n_new = min(n_outputs - n_written, len(buffer) // factor - n_phases + 1)
        if n_new > 0:
            output = np.empty((n_new, waveform.n_channels), dtype=np.float32)
            _polyphase_convolve(buffer[: (n_new + n_phases - 1) * factor], weights, output)
            if channel_scale is not None:
                output *= channel_scale.astype(np.float32)
            if np.any(waveform.offset):
                output += np.asarray(waveform.offset, dtype=np.float32)
            statistics.add(output)
            buffer, n_written = buffer[n_new * factor :], n_written + n_new
            yield np.nan_to_num(output, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _anti_aliasing_taps(rate: float, factor: int) -> np.ndarray:
    """Returns a symmetric impulse response of odd length and gain 1; a single 1 without decimation."""
    if factor == 1:
        return np.ones(1)
    stopband_hz = rate / factor - PASSBAND_HZ
    n_taps, beta = kaiserord(STOPBAND_DB, (stopband_hz - PASSBAND_HZ) / (rate / 2))
    taps: np.ndarray = firwin(n_taps | 1, (PASSBAND_HZ + stopband_hz) / 2, window=("kaiser", beta), fs=rate)
    return taps


def _polyphase_convolve(signal: np.ndarray, weights: np.ndarray, result: np.ndarray) -> None:
    """Fills `result` (outputs, C): (samples, C) convolved with the weights (phases, factor), decimated by `factor`."""
    products = weights @ signal.reshape(-1, weights.shape[1], signal.shape[1])
    np.copyto(result, products[: len(result), 0])
    for phase in range(1, len(weights)):
        result += products[phase : phase + len(result), phase]


def _notch_lowpass_sos(filters: FilterChain, rate: float) -> np.ndarray | None:
    """Returns the second-order sections of notches and low-pass; None if the rate is too low for any of them."""
    sections = []
    if filters.line_hz is not None:
        harmonics = math.ceil(rate / 2 / filters.line_hz)
        sections = [tf2sos(*iirnotch(k * filters.line_hz, NOTCH_Q, rate)) for k in range(1, harmonics)]
    if rate > 2.2 * filters.lowpass_hz:
        sections.append(butter(4, filters.lowpass_hz, fs=rate, output="sos"))
    return np.concatenate(sections) if sections else None


def _highpass_sos(filters: FilterChain) -> np.ndarray | None:
    if filters.highpass_hz is None:
        return None
    sections: np.ndarray = butter(2, filters.highpass_hz, "highpass", fs=1000 / BIN_MS, output="sos")
    return sections


def _interpolate_cubic(signal: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Interpolates (C, samples) at T `positions`, in samples, by cubics through the four nearest samples."""
    if signal.shape[1] < 4:
        signal = np.pad(signal, ((0, 0), (0, 4 - signal.shape[1])), mode="edge")
    first = np.clip(np.floor(positions).astype(np.int64) - 1, 0, signal.shape[1] - 4)
    offset = positions - first
    weights = (
        -(offset - 1) * (offset - 2) * (offset - 3) / 6,
        offset * (offset - 2) * (offset - 3) / 2,
        -offset * (offset - 1) * (offset - 3) / 2,
        offset * (offset - 1) * (offset - 2) / 6,
    )
    interpolated: np.ndarray = sum(weight * signal[:, first + k] for k, weight in enumerate(weights))
    return interpolated
