"""From a waveform at any rate to field potentials in bins: the chains of Erturk et al. (2025), streamed.

The filters are linear and do not change in time, so that their order matters at the ends of a recording alone. The
first is done on blocks: a finite impulse response sees the same samples wherever blocks end. What remains, a few
hundred hertz, is filtered in stretches with margins in which the filters forget where a stretch began; only what is in
bins, a hundred hertz, is held as a whole.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, detrend, firwin, iirnotch, kaiserord, sosfiltfilt, tf2sos

from blend_pl.data.lfp.recording import BIN_MS
from blend_pl.errors import DataError

INTERMEDIATE_HZ = 763.0
"""Rate of what is filtered, about."""

PASSBAND_HZ = 60.0
"""The anti-aliasing filter leaves frequencies below as they are, and lets nothing through that would fold onto them."""

STOPBAND_DB = 80.0
NOTCH_Q = 30.0
BLOCK_BYTES = 1 << 25
CHANNELS_PER_BLOCK = 8
CHUNK_S, MARGIN_S = 120.0, 4.0
"""What is filtered at once, and how much more on either side; the notches, the slowest filters here, lose a factor of e
every 0.16 s."""


@dataclass(frozen=True)
class Waveform:
    """A regularly sampled signal that need not fit into memory.

    Attributes:
        name: what to call it in errors.
        read: returns the samples start..stop, (stop - start, C) numbers.
        n_samples: how many there are.
        n_channels: C.
        rate: samples a second.
        start: time of the first sample, s.
        scale: what a sample is multiplied by.
        storage_chunk: samples that are stored together, and so are best read together.
    """

    name: str
    read: Callable[[int, int], np.ndarray]
    n_samples: int
    n_channels: int
    rate: float
    start: float
    scale: float = 1.0
    storage_chunk: int = 1

    @property
    def stop(self) -> float:
        """Time at which the last sample ends, s."""
        return self.start + self.n_samples / self.rate


@dataclass(frozen=True)
class FilterChain:
    """What is done between anti-aliasing and bins.

    Attributes:
        line_hz: the mains, notched out with its harmonics (Q 30); None to leave them.
        highpass_hz: corner of the Butterworth high-pass; None for none.
        lowpass_hz: corner of the Butterworth low-pass.
    """

    line_hz: float | None = 60.0
    highpass_hz: float | None = 0.05
    lowpass_hz: float = 50.0


MAKIN_FILTERS = FilterChain()
FLINT_FILTERS = FilterChain(line_hz=None, highpass_hz=None)


def bin_lfp(
    waveform: Waveform, filters: FilterChain, start: float, n_bins: int, block_samples: int | None = None
) -> np.ndarray:
    """Field potentials at the centres of bins.

    Anti-aliasing and decimation to about 763 Hz, mean removed, notches, low-pass, cubic interpolation at the bins'
    centres, high-pass, common average removed (with more than one channel). All filters are zero-phase; Butterworth
    filters are of order 2 and run forwards and backwards (the low-pass is of order 4, because bins follow at 100 Hz).

    Args:
        waveform: the signal.
        filters: its corners.
        start: s, where the first bin starts; all bins lie within the waveform.
        n_bins: T.
        block_samples: samples that are read at once; None for 32 MB of them. The result does not depend on it.

    Returns:
        (T, C) float32.

    Raises:
        DataError: the rate is too low for the band, or samples are not finite.
    """
    if waveform.rate < 2 * filters.lowpass_hz:
        raise DataError(
            f"{waveform.name} has {waveform.rate:g} samples a second; its waveform up to {filters.lowpass_hz:g} Hz is "
            f"needed: choose a recording with at least {2 * filters.lowpass_hz:g}"
        )
    factor = max(1, round(waveform.rate / INTERMEDIATE_HZ))
    # The slow high-pass sees all of the waveform, so that its ends are far from the bins wherever there is more.
    n_bins_before = int((start - waveform.start) * 1000 / BIN_MS)
    n_bins_after = max(0, int((waveform.stop - start) * 1000 / BIN_MS) - n_bins)
    centres = start - waveform.start + (np.arange(-n_bins_before, n_bins + n_bins_after) + 0.5) * BIN_MS / 1000
    binned = _filter_and_interpolate(_decimate(waveform, factor, block_samples), waveform, factor, filters, centres)
    highpass = _highpass_sos(filters)
    for first in range(0, waveform.n_channels, CHANNELS_PER_BLOCK):
        channels = slice(first, first + CHANNELS_PER_BLOCK)
        signals = binned[:, channels].T.astype(np.float64)
        signals -= signals.mean(1, keepdims=True)
        if highpass is not None:
            # Without its line the signal can be mirrored; a point reflection, at the crest of a wave, would be a step.
            signals = sosfiltfilt(
                highpass, detrend(signals), padtype="even", padlen=min(signals.shape[1] - 1, 20_000 // BIN_MS)
            )
        binned[:, channels] = signals.T
    result = binned[n_bins_before : n_bins_before + n_bins]
    if waveform.n_channels > 1:
        result -= result.mean(1, keepdims=True)
    return result


def _filter_and_interpolate(
    blocks: Iterable[np.ndarray], waveform: Waveform, factor: int, filters: FilterChain, centres: np.ndarray
) -> np.ndarray:
    """(bins, C) float32 values at `centres`, s from the start, of a decimated waveform, notched and low-passed."""
    rate = waveform.rate / factor
    notch_lowpass, positions = _notch_lowpass_sos(filters, rate), centres * rate
    binned = np.empty((len(centres), waveform.n_channels), dtype=np.float32)
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
    """Stretches of a signal that comes in pieces, the same whatever the pieces.

    Args:
        blocks: (n, C) samples each, `n_samples` together.
        n_samples: number of samples.
        chunk_samples: samples of a stretch; the last one takes up to a margin more.
        margin_samples: samples on either side of it, fewer at the ends of the signal.

    Yields:
        The samples of a stretch with its margins, the number of the first of them, and the stretch's begin and end.
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


def _decimate(waveform: Waveform, factor: int, block_samples: int | None) -> Iterator[np.ndarray]:
    """(samples, C) float32 pieces at a whole fraction of the rate."""
    taps = _anti_aliasing_taps(waveform.rate, factor)
    half_length, n_outputs = len(taps) // 2, -(-waveform.n_samples // factor)
    n_phases = -(-len(taps) // factor)
    weights = np.zeros((n_phases, factor), dtype=np.float32)
    weights.reshape(-1)[: len(taps)] = taps * waveform.scale
    n_read = block_samples or max(factor, BLOCK_BYTES // (4 * waveform.n_channels))
    # Whole pieces of what is stored together, so that none is unpacked twice.
    n_read = max(n_read - n_read % waveform.storage_chunk, min(n_read, waveform.storage_chunk))
    buffer, n_written = np.empty((0, waveform.n_channels), dtype=np.float32), 0
    for start in range(0, waveform.n_samples, n_read):
        stop = min(start + n_read, waveform.n_samples)
        new_samples = waveform.read(start, stop).astype(np.float32)
        # Beyond its ends the signal goes on with its first and its last sample.
        padding = (half_length if start == 0 else 0, n_phases * factor if stop == waveform.n_samples else 0)
        buffer = np.concatenate([buffer, np.pad(new_samples, (padding, (0, 0)), mode="edge")])
        n_new = min(n_outputs - n_written, len(buffer) // factor - n_phases + 1)
        if n_new > 0:
            output = np.empty((n_new, waveform.n_channels), dtype=np.float32)
            _polyphase_convolve(buffer[: (n_new + n_phases - 1) * factor], weights, output)
            if not np.isfinite(output).all():
                raise DataError(
                    f"{waveform.name} has samples that are not finite; repair them or leave this session out"
                )
            buffer, n_written = buffer[n_new * factor :], n_written + n_new
            yield output


def _anti_aliasing_taps(rate: float, factor: int) -> np.ndarray:
    """(odd,) symmetric impulse response of gain 1; a single 1 where nothing is decimated."""
    if factor == 1:
        return np.ones(1)
    stopband_hz = rate / factor - PASSBAND_HZ
    n_taps, beta = kaiserord(STOPBAND_DB, (stopband_hz - PASSBAND_HZ) / (rate / 2))
    return firwin(n_taps | 1, (PASSBAND_HZ + stopband_hz) / 2, window=("kaiser", beta), fs=rate)


def _polyphase_convolve(signal: np.ndarray, weights: np.ndarray, result: np.ndarray) -> None:
    """Fills (outputs, C) from (samples, C) by the weights (phases, factor), `factor` samples from output to output."""
    products = weights @ signal.reshape(-1, weights.shape[1], signal.shape[1])
    np.copyto(result, products[: len(result), 0])
    for phase in range(1, len(weights)):
        result += products[phase : phase + len(result), phase]


def _notch_lowpass_sos(filters: FilterChain, rate: float) -> np.ndarray | None:
    """Second-order sections of notches and low-pass; None where the rate allows nothing above the band."""
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
    return butter(2, filters.highpass_hz, "highpass", fs=1000 / BIN_MS, output="sos")


def _interpolate_cubic(signal: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(C, T) values of (C, samples) at `positions`, in samples, by cubic polynomials through the four samples around."""
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
    return sum(weight * signal[:, first + k] for k, weight in enumerate(weights))
