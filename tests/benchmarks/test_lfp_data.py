"""Preprocessing of broadband recordings: speed relative to real time, and memory."""

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.lfp_files import unit_times
from measure import measure_cost

from blend_pl.data.lfp.makin import read_makin
from blend_pl.data.lfp.preprocessing import MAKIN_FILTERS, Waveform, bin_lfp

pytestmark = pytest.mark.benchmark

SESSION = "indy_20160624_03"
RATE, N_CHANNELS, SECONDS = 24414.0625, 96, 600
ROWS = 4096


def write_session(folder: Path, compressed: bool) -> int:
    """Writes a session of 10 minutes with one repeated piece of broadband; returns its size as float64 in bytes."""
    rng = np.random.default_rng(0)
    slow = np.cumsum(rng.standard_normal((ROWS, N_CHANNELS)), axis=0)
    piece = (10 * (slow - slow.mean(0)) + 30 * rng.standard_normal(slow.shape)).astype(np.int16)
    n = int(RATE * SECONDS) // ROWS * ROWS
    with h5py.File(folder / f"{SESSION}.nwb", "w") as nwb:
        group = nwb.create_group("acquisition/timeseries/broadband")
        compression = "gzip" if compressed else None
        data = group.create_dataset(
            "data", (n, N_CHANNELS), np.int16, chunks=(ROWS, N_CHANNELS), compression=compression
        )
        data.attrs["conversion"] = 2.5e-7
        stored = zlib.compress(piece.tobytes(), 4) if compressed else piece.tobytes()
        for start in range(0, n, ROWS):
            data.id.write_direct_chunk((start, 0), stored)
        group["timestamps"] = 100 + np.arange(n) / RATE
    times = 100 + np.arange(int(n / RATE * 250)) / 250
    with h5py.File(folder / f"{SESSION}.mat", "w") as mat:
        mat["t"], mat["cursor_pos"] = times[None], np.stack([np.sin(times), np.cos(times)])
        cells = mat.create_dataset("spikes", (2, N_CHANNELS), dtype=h5py.ref_dtype)
        for channel, spikes in enumerate(unit_times(N_CHANNELS, 100.0, 100 + SECONDS)):
            mat[f"#refs#/{channel}"] = spikes[None]
            cells[1, channel] = mat[f"#refs#/{channel}"].ref
    return 8 * n * N_CHANNELS


@pytest.mark.parametrize("compressed", [False, True])
def test_reading_ten_minutes_of_broadband(tmp_path: Path, compressed: bool) -> None:
    size = write_session(tmp_path, compressed)

    def read() -> None:
        recording = read_makin(SESSION, tmp_path / f"{SESSION}.mat", tmp_path / f"{SESSION}.nwb", 1.0, False)
        assert recording.lfp.shape == (recording.n_bins, N_CHANNELS)

    ours = measure_cost(read)
    stored = "gzip" if compressed else "plain"
    description = f"{SECONDS} s x {N_CHANNELS} channels x {RATE} Hz ({size / 1e9:.1f} GB as float64), {stored}"
    print(f"\n{description} -> bins: {ours}, {SECONDS / ours.processor:.0f} x real time of one core")
    # CPU time: a second core could only shorten the wall-clock time.
    assert ours.processor < SECONDS / 20
    assert ours.megabytes < 2000


def test_hour_of_192_channels_fits_into_memory() -> None:
    """Preprocesses a recording of the longest sessions' size, made of one repeated piece in memory."""
    n_channels, seconds = 192, 3600
    piece = np.random.default_rng(0).integers(-300, 300, (ROWS, n_channels), dtype=np.int16)

    def read(start: int, stop: int) -> np.ndarray:
        return piece[np.arange(start, stop) % ROWS]

    def preprocess() -> None:
        waveform = Waveform("it", read, int(RATE * seconds), n_channels, RATE, 0.0, 2.5e-7, ROWS)
        assert bin_lfp(waveform, MAKIN_FILTERS, 0.0, (seconds - 1) * 100).values.shape[1] == n_channels

    ours = measure_cost(preprocess)
    size = 8 * RATE * seconds * n_channels / 1e9
    print(f"\n{seconds} s x {n_channels} channels x {RATE} Hz ({size:.0f} GB as float64) -> bins: {ours}")
    print(f"{seconds / ours.processor:.0f} x real time, of one core")
    assert ours.megabytes < 2000
