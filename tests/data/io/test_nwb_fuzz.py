"""Mutated NWB files give the tensors that numpy reads from them, or one line that says what is wrong.

BLEND_PL_FUZZ_FILES is the number of files; `make fuzz` reads 500.
"""

import os
import shutil
import traceback
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.nwb_mutations import MUTATIONS, Mutation
from helpers.small_nwb import small_session, write_small

from blend_pl.data.nlb.reading import read_session
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.spec import BehaviorSpec, HeldOutSpec, SessionFiles, SessionSpec, SplitSpec, WindowSpec
from blend_pl.errors import BlendError

N_FILES = int(os.environ.get("BLEND_PL_FUZZ_FILES", "42"))
SPEC = SessionSpec(
    "fuzz",
    SessionFiles("small.nwb"),
    WindowSpec(-100, 200, align="go_time", forward_ms=0),
    BehaviorSpec("hand_vel"),
    HeldOutSpec(column=None, fraction=0.25),
    SplitSpec(column=None),
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("original") / "small.nwb", small_session(n_units=6, n_trials=12))


def read(path: Path) -> SessionTensors | BlendError:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_session(SPEC, path, None, 1)["train"]
    except BlendError as error:
        return error


def differences(tensors: SessionTensors, path: Path) -> str:
    """Returns the first part of the tensors that is not what numpy reads from the file."""
    with h5py.File(path) as file:
        units, trials, series = file["units"], file["intervals/trials"], file["processing/behavior/hand_vel"]
        stops = units["spike_times_index"][()].astype(int)
        spikes = np.split(units["spike_times"][()].astype(float), stops[:-1])
        ids = units["id"][()].astype(int).tolist() if "id" in units else list(range(len(stops)))
        event = trials["go_time"][()].astype(float)
        data, times = series["data"][()], series["timestamps"][()].astype(float)
    start_ms = np.ceil(np.round(event[tensors.trial_id.numpy()] * 1000 - 100, 6)).astype(int)
    edges = start_ms[:, None] + np.arange(tensors.spikes.shape[1] + 1)
    expected = np.zeros(tensors.spikes.shape)
    for column, unit in enumerate(tensors.unit_id.tolist()):
        ms = np.sort(np.floor(np.round(spikes[ids.index(unit)] * 1000, 6)))
        expected[..., column] = np.diff(np.searchsorted(ms, edges), axis=1)
    observed = tensors.valid_mask(np.s_[:]).numpy()
    if not np.array_equal(np.where(observed, expected, 0), tensors.spikes.numpy()):
        return "spikes"
    if observed.mean() < 0.5:
        return f"observed in {observed.mean():.2f}"
    behavior = tensors.behavior.numpy()
    for column, values in enumerate(data.reshape(len(data), -1).T):
        known = np.isfinite(behavior[..., column])
        interpolated = np.interp(edges[:, :-1] / 1000, times, values)
        if not np.allclose(behavior[..., column][known], interpolated[known], rtol=1e-3, atol=1e-3):
            return f"behavior in column {column}"
    return ""


def test_the_original_is_read_as_numpy_reads_it(original: Path) -> None:
    tensors = read(original)
    assert isinstance(tensors, SessionTensors)
    assert tensors.spikes.sum() > 100
    assert not differences(tensors, original)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_mutated_files_are_read_right_or_refused_in_one_line(original: Path, tmp_path: Path, mutate: Mutation) -> None:
    failures, n_refused = [], 0
    n_files = max(N_FILES // len(MUTATIONS), 1)
    for seed in range(n_files):
        path = Path(shutil.copy(original, tmp_path / "small.nwb"))
        description = mutate(np.random.default_rng([seed, MUTATIONS.index(mutate)]), path)
        try:
            result = read(path)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(f"{description}: {error!r} in {place.filename}:{place.lineno}")
            continue
        if isinstance(result, BlendError):
            n_refused += 1
            if "\n" in str(result) or not str(result):
                failures.append(f"{description}: {result}")
        elif difference := differences(result, path):
            failures.append(f"{description}: other {difference} than numpy's")
    print(f"{mutate.__name__}: {n_files} files, {n_refused} refused, {n_files - n_refused} read, {len(failures)} wrong")
    assert not failures, "\n".join(failures)
