"""Tests of the filter chains of field potentials."""

import numpy as np
import pytest
from helpers.lfp_files import OMEGA, tones
from scipy.signal import butter, filtfilt, iirnotch

from blend_pl.data.lfp import preprocessing
from blend_pl.data.lfp.preprocessing import (
    FLINT_FILTERS,
    MAKIN_FILTERS,
    FilterChain,
    Waveform,
    _chunks_with_margin,
    bin_lfp,
)
from blend_pl.errors import DataError


def waveform(data: np.ndarray, rate: float, start: float = 0.0, **settings: float) -> Waveform:
    return Waveform("it", lambda a, b: data[a:b], *data.shape, rate, start, **settings)


def reference_chain(data: np.ndarray, rate: float, start: float, n_bins: int) -> np.ndarray:
    """Applies the chain as described in the paper, in one block and in double precision."""
    data = filtfilt(*butter(2, rate / 64, fs=rate), data, axis=0)[::32]
    rate_decimated = rate / 32
    data = data - data.mean(0)
    for harmonic in range(60, int(rate_decimated / 2), 60):
        data = filtfilt(*iirnotch(harmonic, 30, rate_decimated), data, axis=0)
    data = filtfilt(*butter(2, 0.05, "highpass", fs=rate_decimated), data, axis=0)
    data = filtfilt(*butter(4, 50, fs=rate_decimated), data, axis=0)
    data = data - data.mean(1, keepdims=True)
    centers = start + (np.arange(n_bins) + 0.5) / 100
    return np.stack([np.interp(centers, np.arange(len(data)) / rate_decimated, column) for column in data.T], axis=1)


@pytest.fixture(scope="module")
def broadband() -> np.ndarray:
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((24414 * 100, 3)), axis=0)
    return walk + 300 * rng.standard_normal(walk.shape)


def test_streamed_chain_equals_the_reference_chain(broadband: np.ndarray) -> None:
    result = bin_lfp(waveform(broadband, 24414.0625), MAKIN_FILTERS, 0.0, 9900, block_samples=50_000).values
    expected = reference_chain(broadband, 24414.0625, 0.0, 9900)
    inner = slice(3000, 7000)
    error = (result - expected)[inner].std(0) / expected[inner].std(0)
    assert error.max() < 0.02
    assert np.abs(result - expected)[inner].max() < 0.1 * expected[inner].std()


@pytest.mark.parametrize(
    ("rate", "storage_chunk"), [(24414.0625, 1), (24414.0625, 1000), (2000.0, 1), (1000.0, 64), (130.0, 7)]
)
def test_result_does_not_depend_on_the_block_size(broadband: np.ndarray, rate: float, storage_chunk: int) -> None:
    data = broadband[: int(rate * 20)].astype(np.float32)
    single_block = bin_lfp(
        waveform(data, rate, storage_chunk=storage_chunk), MAKIN_FILTERS, 0.0, 1900, block_samples=10**9
    ).values
    for block_samples in (97, 5001, 33 * 32):
        parts = bin_lfp(
            waveform(data, rate, storage_chunk=storage_chunk), MAKIN_FILTERS, 0.0, 1900, block_samples=block_samples
        ).values
        assert np.abs(parts - single_block).max() < 1e-4 * single_block.std()


def test_storage_chunks_are_read_once() -> None:
    data, reads = np.arange(80_000, dtype=np.int32).reshape(40_000, 2), []

    def read(a: int, b: int) -> np.ndarray:
        reads.append((a, b))
        return data[a:b]

    bin_lfp(
        Waveform("it", read, 40_000, 2, 2000.0, 0.0, storage_chunk=4000), MAKIN_FILTERS, 0.0, 1000, block_samples=9000
    )
    assert reads == [(a, a + 8000) for a in range(0, 40_000, 8000)]


@pytest.mark.parametrize("rate", [24414.0625, 30_000.0, 2000.0, 1250.0, 500.0, 250.0])
def test_passband_is_kept_and_other_frequencies_are_removed(rate: float) -> None:
    times = 7.0 + np.arange(int(30 * rate)) / rate
    passband = tones(times, 4)
    offset_and_line = 5 * np.sin(OMEGA * 60 * times) + 100 + (times - times[0])
    high_frequency = np.sin(OMEGA * 0.45 * rate * times) if rate > 250 else 0 * times
    data = passband + (offset_and_line + 3 * high_frequency)[:, None] * np.array([1.0, 2.0, 3.0, 4.0])
    result = bin_lfp(waveform(data, rate, 7.0), MAKIN_FILTERS, 8.0, 2800).values
    expected = tones(8.0 + (np.arange(2800) + 0.5) / 100, 4)
    # The high-pass distorts a slow trend at its ends.
    inner = slice(1000, 1800)
    assert np.abs(result - expected)[inner].max() < 0.03


def test_counts_are_scaled_and_the_common_average_is_removed() -> None:
    times = np.arange(20_000) / 1000
    data = np.stack([np.sin(OMEGA * 5 * times), -np.sin(OMEGA * 5 * times)], axis=1) * 1000
    shared = 5000 * np.sin(OMEGA * 9 * times)[:, None]
    result = bin_lfp(waveform((data + shared).astype(np.int16), 1000.0, scale=1e-3), MAKIN_FILTERS, 0.0, 2000).values
    assert np.abs(result[500:1500]).max() == pytest.approx(1, abs=0.02)
    assert np.allclose(result.sum(1), 0, atol=1e-5)


def test_flint_filters_keep_slow_waves() -> None:
    times = np.arange(40_000) / 2000
    data = np.sin(OMEGA * 0.1 * times)[:, None] * [1.0, -1.0]
    result = bin_lfp(waveform(data, 2000.0), FLINT_FILTERS, 0.0, 2000).values
    expected = np.sin(OMEGA * 0.1 * (np.arange(2000) + 0.5) / 100)
    assert np.abs(result[:, 0] - expected)[100:1900].max() < 0.01


def test_common_average_of_a_single_channel_is_not_removed() -> None:
    times = np.arange(20_000) / 1000
    result = bin_lfp(waveform(np.sin(OMEGA * 5 * times)[:, None], 1000.0), MAKIN_FILTERS, 0.0, 2000).values
    assert result[500:1500].std() == pytest.approx(0.5**0.5, rel=0.02)


def test_unusable_waveforms_raise() -> None:
    with pytest.raises(DataError, match=r"it has 80 samples per second, .* at least 100"):
        bin_lfp(waveform(np.ones((800, 1)), 80.0), MAKIN_FILTERS, 0.0, 100)
    data = np.ones((20_000, 2))
    data[7000, 1] = np.nan
    with pytest.raises(DataError, match="it has samples that are not finite"):
        bin_lfp(waveform(data, 1000.0), MAKIN_FILTERS, 0.0, 1000)


@pytest.mark.parametrize("chain", [MAKIN_FILTERS, FLINT_FILTERS])
def test_result_does_not_depend_on_the_chunk_length(chain: FilterChain, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    times = np.arange(60_000) / 500
    data = np.cumsum(rng.standard_normal((len(times), 3)), axis=0)
    data += 20 * rng.standard_normal(data.shape) + 100 * np.sin(OMEGA * 60 * times)[:, None] * [1.0, -1.0, 2.0]
    parts = {}
    for seconds in (1e6, 25.0, 3.7):
        monkeypatch.setattr(preprocessing, "CHUNK_S", seconds)
        parts[seconds] = bin_lfp(waveform(data, 500.0), chain, 1.0, 11_800, block_samples=700).values
    for seconds in (25.0, 3.7):
        assert np.abs(parts[seconds] - parts[1e6]).max() < 1e-5 * parts[1e6].std()


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [7] * 14 + [2], [60, 40]])
def test_chunks_do_not_depend_on_the_block_sizes(sizes: list[int]) -> None:
    signal = np.arange(100.0)[:, None]
    pieces = np.split(signal, np.cumsum(sizes)[:-1])
    chunks = list(_chunks_with_margin(pieces, 100, 20, 5))
    assert [(first, begin, end) for _, first, begin, end in chunks] == [
        *((max(0, k - 5), k, k + 20) for k in (0, 20, 40, 60)),
        (75, 80, 100),
    ]
    for samples, first, _, end in chunks:
        assert np.array_equal(samples[:, 0], np.arange(first, min(100, end + 5)))
