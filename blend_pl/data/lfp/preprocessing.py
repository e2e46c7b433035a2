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

PASSED_HZ = 60.0
"""The anti-aliasing filter leaves frequencies below as they are, and lets nothing through that would fold onto them."""

STOPPED_DB = 80.0
NOTCH_Q = 30.0
BLOCK_BYTES = 1 << 25
CHANNELS_AT_ONCE = 8
STRETCH_S, MARGIN_S = 120.0, 4.0
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
        rows: samples that are stored together, and so are best read together.
    """

    name: str
    read: Callable[[int, int], np.ndarray]
    n_samples: int
    n_channels: int
    rate: float
    start: float
    scale: float = 1.0
    rows: int = 1

    @property
    def stop(self) -> float:
        """Time at which the last sample ends, s."""
        return self.start + self.n_samples / self.rate


@dataclass(frozen=True)
class Chain:
    """What is done between anti-aliasing and bins.

    Attributes:
        line_hz: the mains, notched out with its harmonics (Q 30); None to leave them.
        highpass_hz: corner of the Butterworth high-pass; None for none.
        lowpass_hz: corner of the Butterworth low-pass.
    """

    line_hz: float | None = 60.0
    highpass_hz: float | None = 0.05
    lowpass_hz: float = 50.0


MAKIN = Chain()
FLINT = Chain(line_hz=None, highpass_hz=None)


def lfp_in_bins(waveform: Waveform, chain: Chain, start: float, n_bins: int, block: int | None = None) -> np.ndarray:
    """Field potentials at the centres of bins.

    Anti-aliasing and decimation to about 763 Hz, mean removed, notches, low-pass, cubic interpolation at the bins'
    centres, high-pass, common average removed (with more than one channel). All filters are zero-phase; Butterworth
    filters are of order 2 and run forwards and backwards (the low-pass is of order 4, because bins follow at 100 Hz).

    Args:
        waveform: the signal.
        chain: its corners.
        start: s, where the first bin starts; all bins lie within the waveform.
        n_bins: T.
        block: samples that are read at once; None for 32 MB of them. The result does not depend on it.

    Returns:
        (T, C) float32.

    Raises:
        DataError: the rate is too low for the band, or samples are not finite.
    """
    if waveform.rate < 2 * chain.lowpass_hz:
        raise DataError(
            f"{waveform.name} has {waveform.rate:g} samples a second; its waveform up to {chain.lowpass_hz:g} Hz is "
            f"needed: choose a recording with at least {2 * chain.lowpass_hz:g}"
        )
    factor = max(1, round(waveform.rate / INTERMEDIATE_HZ))
    # The slow high-pass sees all of the waveform, so that its ends are far from the bins wherever there is more.
    early = int((start - waveform.start) * 1000 / BIN_MS)
    late = max(0, int((waveform.stop - start) * 1000 / BIN_MS) - n_bins)
    centres = start - waveform.start + (np.arange(-early, n_bins + late) + 0.5) * BIN_MS / 1000
    binned = _in_bins(_decimated(waveform, factor, block), waveform, factor, chain, centres)
    slow = _above(chain)
    for first in range(0, waveform.n_channels, CHANNELS_AT_ONCE):
        channels = slice(first, first + CHANNELS_AT_ONCE)
        some = binned[:, channels].T.astype(np.float64)
        some -= some.mean(1, keepdims=True)
        if slow is not None:
            # Without its line the signal can be mirrored; a point reflection, at the crest of a wave, would be a step.
            some = sosfiltfilt(slow, detrend(some), padtype="even", padlen=min(some.shape[1] - 1, 20_000 // BIN_MS))
        binned[:, channels] = some.T
    result = binned[early : early + n_bins]
    if waveform.n_channels > 1:
        result -= result.mean(1, keepdims=True)
    return result


def _in_bins(
    pieces: Iterable[np.ndarray], waveform: Waveform, factor: int, chain: Chain, centres: np.ndarray
) -> np.ndarray:
    """(bins, C) float32 values at `centres`, s from the start, of a decimated waveform, notched and low-passed."""
    rate = waveform.rate / factor
    narrow, places = _below(chain, rate), centres * rate
    binned = np.empty((len(centres), waveform.n_channels), dtype=np.float32)
    total = -(-waveform.n_samples // factor)
    for signal, first, begin, end in _stretches(pieces, total, round(STRETCH_S * rate), round(MARGIN_S * rate)):
        low, high = np.searchsorted(places, (begin, end))
        inside = slice(low if begin else 0, high if end < total else len(places))
        for channel in range(0, waveform.n_channels, CHANNELS_AT_ONCE):
            channels = slice(channel, channel + CHANNELS_AT_ONCE)
            some = signal[:, channels].T.astype(np.float64)
            if narrow is not None:
                some = sosfiltfilt(narrow, some, padlen=min(some.shape[1] - 1, round(rate)))
            binned[inside, channels] = _interpolated(some, places[inside] - first).T
    return binned


def _stretches(
    pieces: Iterable[np.ndarray], total: int, span: int, margin: int
) -> Iterator[tuple[np.ndarray, int, int, int]]:
    """Stretches of a signal that comes in pieces, the same whatever the pieces.

    Args:
        pieces: (n, C) samples each, `total` together.
        total: number of samples.
        span: samples of a stretch; the last one takes up to a margin more.
        margin: samples on either side of it, fewer at the ends of the signal.

    Yields:
        The samples of a stretch with its margins, the number of the first of them, and the stretch's begin and end.
    """
    held: list[np.ndarray] = []
    first = begin = stop = 0
    for piece in pieces:
        held.append(piece)
        stop += len(piece)
        while begin < total and (stop == total or stop >= begin + span + margin):
            signal = held[0] if len(held) == 1 else np.concatenate(held)
            end = total if total - begin <= span + margin else begin + span
            yield signal[: min(total, end + margin) - first], first, begin, end
            kept = max(first, end - margin)
            held, first, begin = [signal[kept - first :]], kept, end


def _decimated(waveform: Waveform, factor: int, block: int | None) -> Iterator[np.ndarray]:
    """(samples, C) float32 pieces at a whole fraction of the rate."""
    taps = _anti_aliasing(waveform.rate, factor)
    before, n = len(taps) // 2, -(-waveform.n_samples // factor)
    phases = -(-len(taps) // factor)
    weights = np.zeros((phases, factor), dtype=np.float32)
    weights.reshape(-1)[: len(taps)] = taps * waveform.scale
    samples = block or max(factor, BLOCK_BYTES // (4 * waveform.n_channels))
    # Whole pieces of what is stored together, so that none is unpacked twice.
    samples = max(samples - samples % waveform.rows, min(samples, waveform.rows))
    held, done = np.empty((0, waveform.n_channels), dtype=np.float32), 0
    for start in range(0, waveform.n_samples, samples):
        stop = min(start + samples, waveform.n_samples)
        fresh = waveform.read(start, stop).astype(np.float32)
        # Beyond its ends the signal goes on with its first and its last sample.
        ends = (before if start == 0 else 0, phases * factor if stop == waveform.n_samples else 0)
        held = np.concatenate([held, np.pad(fresh, (ends, (0, 0)), mode="edge")])
        many = min(n - done, len(held) // factor - phases + 1)
        if many > 0:
            piece = np.empty((many, waveform.n_channels), dtype=np.float32)
            _convolve(held[: (many + phases - 1) * factor], weights, piece)
            if not np.isfinite(piece).all():
                raise DataError(
                    f"{waveform.name} has samples that are not finite; repair them or leave this session out"
                )
            held, done = held[many * factor :], done + many
            yield piece


def _anti_aliasing(rate: float, factor: int) -> np.ndarray:
    """(odd,) symmetric impulse response of gain 1; a single 1 where nothing is decimated."""
    if factor == 1:
        return np.ones(1)
    stopped = rate / factor - PASSED_HZ
    n, beta = kaiserord(STOPPED_DB, (stopped - PASSED_HZ) / (rate / 2))
    return firwin(n | 1, (PASSED_HZ + stopped) / 2, window=("kaiser", beta), fs=rate)


def _convolve(signal: np.ndarray, weights: np.ndarray, result: np.ndarray) -> None:
    """Fills (outputs, C) from (samples, C) by the weights (phases, factor), `factor` samples from output to output."""
    parts = weights @ signal.reshape(-1, weights.shape[1], signal.shape[1])
    np.copyto(result, parts[: len(result), 0])
    for phase in range(1, len(weights)):
        result += parts[phase : phase + len(result), phase]


def _below(chain: Chain, rate: float) -> np.ndarray | None:
    """Second-order sections of notches and low-pass; None where the rate allows nothing above the band."""
    sections = []
    if chain.line_hz is not None:
        harmonics = math.ceil(rate / 2 / chain.line_hz)
        sections = [tf2sos(*iirnotch(k * chain.line_hz, NOTCH_Q, rate)) for k in range(1, harmonics)]
    if rate > 2.2 * chain.lowpass_hz:
        sections.append(butter(4, chain.lowpass_hz, fs=rate, output="sos"))
    return np.concatenate(sections) if sections else None


def _above(chain: Chain) -> np.ndarray | None:
    if chain.highpass_hz is None:
        return None
    return butter(2, chain.highpass_hz, "highpass", fs=1000 / BIN_MS, output="sos")


def _interpolated(signal: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(C, T) values of (C, samples) at `places`, in samples, by cubic polynomials through the four samples around."""
    if signal.shape[1] < 4:
        signal = np.pad(signal, ((0, 0), (0, 4 - signal.shape[1])), mode="edge")
    first = np.clip(np.floor(places).astype(np.int64) - 1, 0, signal.shape[1] - 4)
    x = places - first
    weights = (
        -(x - 1) * (x - 2) * (x - 3) / 6,
        x * (x - 2) * (x - 3) / 2,
        -x * (x - 1) * (x - 3) / 2,
        x * (x - 1) * (x - 2) / 6,
    )
    return sum(weight * signal[:, first + k] for k, weight in enumerate(weights))
