"""Ground truth of a simulated session: true rates of all trials and targets of the test trials.

`ground_truth.h5` contains the latents of each trial and the tuning of the units. The rates are computed from them on
reading, because they would take much more space:

    rate[trial, bin, unit] = min(exp(log_rate), max_rate_hz)
    log_rate = latents[trial, bin] @ weights[:, unit] + log_base[unit]

for log-linear units; see `tuning.log_rates` for others.

Bins are 5 ms wide; units are in the order of `SessionTensors` (held-in first), trials in the order of the trials
tables, the train file's before the test file's. Latents extend beyond the forward bins, so that windows on coarser
grids can be read.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from scipy.signal import decimate
from torch import Tensor

from blend_pl.data.io.generated import settings_json
from blend_pl.data.nlb.simulation.parameters import BIN_MS, FORWARD_MS, LEAD_MS, WINDOW_MS, NLBSimulation
from blend_pl.data.nlb.simulation.tuning import expected_counts, limited_rates
from blend_pl.errors import ConfigError, DataError

GENERATOR_VERSION = 1
"""Must be incremented when equal parameters no longer give equal sessions."""

BIN_GRID_MS = 100
"""Bin widths are the multiples of 5 ms that divide this (and so the window and the forward period)."""

SUPPORT_MS = WINDOW_MS[1] - WINDOW_MS[0] + FORWARD_MS + BIN_GRID_MS
"""Duration of the latents that are stored for each trial."""

VELOCITY_MS = (-200, 1100)
"""Stored velocity of test trials, from the start of the window: the lagged window and 300 ms on each side."""

_OBSERVED_MS = WINDOW_MS[1] - WINDOW_MS[0]
_TRIALS_PER_CHUNK = 256


@dataclass(frozen=True)
class GroundTruth:
    """Content of `ground_truth.h5`; S = SUPPORT_MS / 5 bins, L latents, N units (held-in first).

    Attributes:
        simulation: parameters of the session.
        latents: (trials, S, L) float32, starting at `support_start_ms`.
        weights: (L, N) float32.
        log_base: (N,) float32, log of Hz.
        tuning: (N,) int8, kinds of the units.
        has_window: (trials,) bool; False for trials without movement onset.
        window_start_ms: (trials,) start of the observed window in the time of the trial's file.
        support_start_ms: (trials,) start of the stored latents: `window_start_ms` rounded up to 5 ms.
        test_spikes: (test trials, observed and forward bins of 5 ms, N) uint8.
        test_velocity: (test trials, VELOCITY_MS at 1 kHz, 2) mm/s.
    """

    simulation: NLBSimulation
    latents: np.ndarray
    weights: np.ndarray
    log_base: np.ndarray
    tuning: np.ndarray
    has_window: np.ndarray
    window_start_ms: np.ndarray
    support_start_ms: np.ndarray
    test_spikes: np.ndarray
    test_velocity: np.ndarray


def write_ground_truth(path: Path, ground_truth: GroundTruth) -> None:
    """Writes `ground_truth.h5`."""
    with h5py.File(path, "w") as file:
        file.attrs["simulation"] = simulation_fingerprint(ground_truth.simulation)
        file.attrs["max_rate_hz"] = ground_truth.simulation.max_rate_hz
        file.attrs["n_heldin"] = ground_truth.simulation.n_heldin
        for name, values in vars(ground_truth).items():
            if name != "simulation":
                file[name] = values


def simulation_fingerprint(simulation: NLBSimulation) -> str:
    """Returns the JSON of the parameters and the generator's version, equal for equal sessions."""
    return settings_json(simulation, GENERATOR_VERSION)


def is_ground_truth_of(path: Path, simulation: NLBSimulation) -> bool:
    """Returns whether `path` is the ground truth of the session with these parameters."""
    try:
        with h5py.File(path) as file:
            return bool(file.attrs.get("simulation") == simulation_fingerprint(simulation))
    except OSError:
        return False


def read_rates(path: Path, trial_id: Tensor | np.ndarray, bin_ms: int) -> Tensor:
    """Reads the true expected spike counts in the bins of `blend_pl.data.nlb.reading` for the same trials.

    Args:
        path: a `ground_truth.h5`.
        trial_id: (trials,) rows of the trials tables, the train file's before the test file's, as in `SessionTensors`.
        bin_ms: bin width: 5, 10, 20, 25, 50 or 100 ms.

    Returns:
        (trials, T + F, N) float32 expected counts per bin, held-in units first.

    Raises:
        ConfigError: the bin width is not a multiple of 5 ms or does not divide the window.
        DataError: the file cannot be read, or a trial does not exist or has no window.
    """
    _check_bins(bin_ms)
    trial_index = np.asarray(trial_id, dtype=np.int64)
    with _open_ground_truth(path) as file:
        has_window = file["has_window"][:]
        _check_trials(path, trial_index, has_window)
        first_bin = _first_bin(file, bin_ms)[trial_index]
        latents = file["latents"][:]
        weights, log_base, tuning = file["weights"][:], file["log_base"][:], file["tuning"][:]
        max_rate_hz = float(file.attrs["max_rate_hz"])
    n_bins = (_OBSERVED_MS + FORWARD_MS) // bin_ms
    counts = torch.empty((len(trial_index), n_bins, weights.shape[1]), dtype=torch.float32)
    for start in range(0, len(trial_index), _TRIALS_PER_CHUNK):
        chunk = slice(start, start + _TRIALS_PER_CHUNK)
        bins = first_bin[chunk, None] + np.arange(n_bins * bin_ms // BIN_MS)
        chunk_latents = latents[trial_index[chunk, None], bins]
        rates_hz = limited_rates(chunk_latents, weights, log_base, tuning, max_rate_hz)
        counts[chunk] = torch.from_numpy(expected_counts(rates_hz, bin_ms))
    return counts


def read_test_targets(path: Path, bin_ms: int = BIN_MS) -> dict[str, np.ndarray]:
    """Reads the targets of the test trials, which the test file lacks, with the names and binning of the benchmark.

    Args:
        path: a `ground_truth.h5`.
        bin_ms: bin width as in `read_rates`.

    Returns:
        eval_spikes_heldout (trials, T, held-out), eval_spikes_heldin_forward (trials, F, held-in) and
        eval_spikes_heldout_forward (trials, F, held-out), float64 counts; eval_behavior (trials, T, 2), hand velocity
        in mm/s, 100 ms later than the bins and decimated like that of a recording.

    Raises:
        ConfigError: the bin width is not a multiple of 5 ms or does not divide the window.
        DataError: the file cannot be read.
    """
    _check_bins(bin_ms)
    with _open_ground_truth(path) as file:
        spikes = file["test_spikes"][:].astype(np.float64)
        velocity = file["test_velocity"][:]
        n_heldin = int(file.attrs["n_heldin"])
    spikes = spikes.reshape(len(spikes), -1, bin_ms // BIN_MS, spikes.shape[2]).sum(axis=2)
    n_observed = _OBSERVED_MS // bin_ms
    binned_velocity = decimate(velocity, bin_ms, n=500, ftype="fir", axis=1)
    first_bin = (LEAD_MS - VELOCITY_MS[0]) // bin_ms
    return {
        "eval_spikes_heldout": spikes[:, :n_observed, n_heldin:],
        "eval_spikes_heldin_forward": spikes[:, n_observed:, :n_heldin],
        "eval_spikes_heldout_forward": spikes[:, n_observed:, n_heldin:],
        "eval_behavior": binned_velocity[:, first_bin : first_bin + n_observed],
    }


def _open_ground_truth(path: Path) -> h5py.File:
    try:
        return h5py.File(path)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot read the ground truth {path} ({reason}); simulate the session again") from error


def _check_bins(bin_ms: int) -> None:
    if bin_ms < BIN_MS or bin_ms % BIN_MS or BIN_GRID_MS % bin_ms:
        raise ConfigError(f"true rates cannot be read in bins of {bin_ms} ms; use 5, 10, 20, 25, 50 or 100 ms")


def _check_trials(path: Path, trials: np.ndarray, has_window: np.ndarray) -> None:
    is_unknown = (trials < 0) | (trials >= len(has_window))
    if is_unknown.any():
        raise DataError(f"{path} has no trial {trials[is_unknown][0]}; its trials are 0 to {len(has_window) - 1}")
    if not has_window[trials].all():
        missing = trials[~has_window[trials]][0]
        raise DataError(f"trial {missing} in {path} has no movement onset and therefore no window; leave it out")


def _first_bin(file: h5py.File, bin_ms: int) -> np.ndarray:
    """Returns the (trials,) index of the first window bin in the latents; windows start at a multiple of `bin_ms`."""
    start_ms = -(-file["window_start_ms"][:] // bin_ms) * bin_ms
    first_bin: np.ndarray = (start_ms - file["support_start_ms"][:]) // BIN_MS
    return first_bin
