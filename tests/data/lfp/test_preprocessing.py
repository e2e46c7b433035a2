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


def described(data: np.ndarray, rate: float, start: float, n_bins: int) -> np.ndarray:
    """The chain as the paper describes it, in one piece and in double precision."""
    data = filtfilt(*butter(2, rate / 64, fs=rate), data, axis=0)[::32]
    slow = rate / 32
    data = data - data.mean(0)
    for harmonic in range(60, int(slow / 2), 60):
        data = filtfilt(*iirnotch(harmonic, 30, slow), data, axis=0)
    data = filtfilt(*butter(2, 0.05, "highpass", fs=slow), data, axis=0)
    data = filtfilt(*butter(4, 50, fs=slow), data, axis=0)
    data = data - data.mean(1, keepdims=True)
    centres = start + (np.arange(n_bins) + 0.5) / 100
    return np.stack([np.interp(centres, np.arange(len(data)) / slow, column) for column in data.T], axis=1)


@pytest.fixture(scope="module")
def brown() -> np.ndarray:
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((24414 * 100, 3)), axis=0)
    return walk + 300 * rng.standard_normal(walk.shape)


def test_equals_the_described_chain_in_one_piece(brown: np.ndarray) -> None:
    ours = bin_lfp(waveform(brown, 24414.0625), MAKIN_FILTERS, 0.0, 9900, block_samples=50_000)
    theirs = described(brown, 24414.0625, 0.0, 9900)
    inside = slice(3000, 7000)
    error = (ours - theirs)[inside].std(0) / theirs[inside].std(0)
    assert error.max() < 0.02
    assert np.abs(ours - theirs)[inside].max() < 0.1 * theirs[inside].std()


@pytest.mark.parametrize(("rate", "rows"), [(24414.0625, 1), (24414.0625, 1000), (2000.0, 1), (1000.0, 64), (130.0, 7)])
def test_no_edges_at_the_borders_of_blocks(brown: np.ndarray, rate: float, rows: int) -> None:
    data = brown[: int(rate * 20)].astype(np.float32)
    whole = bin_lfp(waveform(data, rate, storage_chunk=rows), MAKIN_FILTERS, 0.0, 1900, block_samples=10**9)
    for block in (97, 5001, 33 * 32):
        parts = bin_lfp(waveform(data, rate, storage_chunk=rows), MAKIN_FILTERS, 0.0, 1900, block_samples=block)
        assert np.abs(parts - whole).max() < 1e-4 * whole.std()


def test_pieces_that_are_stored_together_are_read_once() -> None:
    data, reads = np.ones((40_000, 2), dtype=np.int16), []

    def read(a: int, b: int) -> np.ndarray:
        reads.append((a, b))
        return data[a:b]

    bin_lfp(
        Waveform("it", read, 40_000, 2, 2000.0, 0.0, storage_chunk=4000), MAKIN_FILTERS, 0.0, 1000, block_samples=9000
    )
    assert reads == [(a, a + 8000) for a in range(0, 40_000, 8000)]


@pytest.mark.parametrize("rate", [24414.0625, 30_000.0, 2000.0, 1250.0, 500.0, 250.0])
def test_the_band_is_kept_and_all_else_goes(rate: float) -> None:
    times = 7.0 + np.arange(int(30 * rate)) / rate
    kept = tones(times, 4)
    added = 5 * np.sin(OMEGA * 60 * times) + 100 + (times - times[0])
    fast = np.sin(OMEGA * 0.45 * rate * times) if rate > 250 else 0 * times
    data = kept + (added + 3 * fast)[:, None] * np.array([1.0, 2.0, 3.0, 4.0])
    result = bin_lfp(waveform(data, rate, 7.0), MAKIN_FILTERS, 8.0, 2800)
    expected = tones(8.0 + (np.arange(2800) + 0.5) / 100, 4)
    # The corner of the high-pass leaves the ends of a slow trend.
    inside = slice(1000, 1800)
    assert np.abs(result - expected)[inside].max() < 0.03


def test_counts_are_scaled_and_what_all_electrodes_share_is_removed() -> None:
    times = np.arange(20_000) / 1000
    data = np.stack([np.sin(OMEGA * 5 * times), -np.sin(OMEGA * 5 * times)], axis=1) * 1000
    shared = 5000 * np.sin(OMEGA * 9 * times)[:, None]
    result = bin_lfp(waveform((data + shared).astype(np.int16), 1000.0, scale=1e-3), MAKIN_FILTERS, 0.0, 2000)
    assert np.abs(result[500:1500]).max() == pytest.approx(1, abs=0.02)
    assert np.allclose(result.sum(1), 0, atol=1e-5)


def test_flint_keeps_slow_waves() -> None:
    times = np.arange(40_000) / 2000
    data = np.sin(OMEGA * 0.1 * times)[:, None] * [1.0, -1.0]
    result = bin_lfp(waveform(data, 2000.0), FLINT_FILTERS, 0.0, 2000)
    expected = np.sin(OMEGA * 0.1 * (np.arange(2000) + 0.5) / 100)
    assert np.abs(result[:, 0] - expected)[100:1900].max() < 0.01


def test_a_single_channel_is_not_taken_from_itself() -> None:
    times = np.arange(20_000) / 1000
    result = bin_lfp(waveform(np.sin(OMEGA * 5 * times)[:, None], 1000.0), MAKIN_FILTERS, 0.0, 2000)
    assert result[500:1500].std() == pytest.approx(0.5**0.5, rel=0.02)


def test_waveforms_that_cannot_be_used() -> None:
    with pytest.raises(DataError, match=r"it has 80 samples a second; .* at least 100"):
        bin_lfp(waveform(np.ones((800, 1)), 80.0), MAKIN_FILTERS, 0.0, 100)
    data = np.ones((20_000, 2))
    data[7000, 1] = np.nan
    with pytest.raises(DataError, match="it has samples that are not finite"):
        bin_lfp(waveform(data, 1000.0), MAKIN_FILTERS, 0.0, 1000)


@pytest.mark.parametrize("chain", [MAKIN_FILTERS, FLINT_FILTERS])
def test_no_edges_at_the_borders_of_stretches(chain: FilterChain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a signal that wanders and hums, as broadband does."""
    rng = np.random.default_rng(0)
    times = np.arange(60_000) / 500
    data = np.cumsum(rng.standard_normal((len(times), 3)), axis=0)
    data += 20 * rng.standard_normal(data.shape) + 100 * np.sin(OMEGA * 60 * times)[:, None] * [1.0, -1.0, 2.0]
    parts = {}
    for seconds in (1e6, 25.0, 3.7):
        monkeypatch.setattr(preprocessing, "CHUNK_S", seconds)
        parts[seconds] = bin_lfp(waveform(data, 500.0), chain, 1.0, 11_800, block_samples=700)
    for seconds in (25.0, 3.7):
        assert np.abs(parts[seconds] - parts[1e6]).max() < 1e-5 * parts[1e6].std()


@pytest.mark.parametrize("sizes", [[100], [1] * 100, [7] * 14 + [2], [60, 40]])
def test_stretches_are_the_same_whatever_the_pieces(sizes: list[int]) -> None:
    signal = np.arange(100.0)[:, None]
    pieces = np.split(signal, np.cumsum(sizes)[:-1])
    found = list(_chunks_with_margin(pieces, 100, 20, 5))
    assert [(first, begin, end) for _, first, begin, end in found] == [
        *((max(0, k - 5), k, k + 20) for k in (0, 20, 40, 60)),
        (75, 80, 100),
    ]
    for samples, first, _, end in found:
        assert np.array_equal(samples[:, 0], np.arange(first, min(100, end + 5)))
