"""Submissions that are checked without a recording."""

from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blend_pl.cli.main import run_command
from blend_pl.data.signature import Signature
from blend_pl.errors import ConfigError, DataError
from blend_pl.submission import check_submission
from blend_pl.submission.check import unrecorded_sessions
from blend_pl.submission.consistency import UnrecordedSession
from blend_pl.submission.layout import EVAL_KEYS, FORWARD_KEYS, RATE_KEYS, TRAIN_KEYS

Arrays = dict[str, np.ndarray]

SIZES = {
    "mc_maze_small": ((75, 25, 100), 700, (107, 35)),
    "area2_bump": ((272, 92, 98), 600, (49, 16)),
    "dmfc_rsg": ((741, 248, 252), 1500, (40, 14)),
}
"""Trials of train, val and test; observed ms; held-in and held-out units, as the benchmark documents them."""


def draw_arrays(
    session: str, bin_ms: int = 20, phase: str = "val", hz: float = 6.0, seed: int = 0, undertrained: bool = False
) -> Arrays:
    """Draws log-normal rates (spikes per bin) of a session of the benchmark, modulated in time and between trials."""
    (train, val, test), observed_ms, units = SIZES[session]
    n_train, n_eval = (train, val) if phase == "val" else (train + val, test)
    generator = np.random.default_rng(seed)
    observed, forward = observed_ms // bin_ms, 200 // bin_ms
    arrays = {}
    for side, n_units in zip((0, 1), units, strict=True):
        unit_rates = hz * bin_ms / 1000 * np.exp(generator.normal(0, 0.8, n_units) - 0.32)
        for keys, trials, bins in (
            (TRAIN_KEYS, n_train, observed),
            (EVAL_KEYS, n_eval, observed),
            (FORWARD_KEYS, n_eval, forward),
        ):
            depth = 0.0 if undertrained else 0.5
            shape = (trials, bins, 1)
            arrays[keys[side]] = (unit_rates * np.exp(depth * generator.normal(size=shape))).astype(np.float32)
    if undertrained:
        mean = np.mean([array.mean() for array in arrays.values()])
        return {key: np.full_like(array, mean) for key, array in arrays.items()}
    return arrays


def write(path: Path, arrays: Mapping[str, object], group: str) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[f"{group}/{key}"] = array
    return path


def check(path: Path) -> str:
    try:
        check_submission(path, unrecorded_sessions(path))
    except DataError as error:
        return str(error)
    return "passed"


@pytest.mark.parametrize("undertrained", [False, True])
@pytest.mark.parametrize("phase", ["val", "test"])
@pytest.mark.parametrize(("session", "bin_ms"), [("mc_maze_small", 5), ("mc_maze_small", 20), ("area2_bump", 20)])
def test_good_file_passes(tmp_path: Path, session: str, bin_ms: int, phase: str, undertrained: bool) -> None:
    group = session if bin_ms == 5 else f"{session}_{bin_ms}"
    arrays = draw_arrays(session, bin_ms, phase, undertrained=undertrained)
    assert check(write(tmp_path / "s.h5", arrays, group)) == "passed"
    without_forward = {key: array for key, array in arrays.items() if key not in FORWARD_KEYS}
    assert check(write(tmp_path / "s.h5", without_forward, group)) == "passed"


def test_dmfc_rsg_without_training_arrays_passes(tmp_path: Path) -> None:
    arrays = draw_arrays("dmfc_rsg", phase="test")
    scored = {key: array for key, array in arrays.items() if key not in TRAIN_KEYS}
    assert check(write(tmp_path / "s.h5", scored, "dmfc_rsg_20")) == "passed"


MAZE = draw_arrays("mc_maze_small")
ARRAY_FACTORS = {"Hz": 50.0, "twice": 2.0, "half": 0.5, "rates of 5-ms bins": 0.25, "five times": 5.0, "per ms": 1 / 20}


@pytest.mark.parametrize("key", RATE_KEYS)
@pytest.mark.parametrize("unit", ARRAY_FACTORS)
def test_factor_of_one_array_is_refused_with_its_name(tmp_path: Path, unit: str, key: str) -> None:
    factor = ARRAY_FACTORS[unit]
    message = check(write(tmp_path / "s.h5", {**MAZE, key: MAZE[key] * factor}, "mc_maze_small_20"))
    assert message.startswith(f"mc_maze_small_20/{key} of {tmp_path / 's.h5'}: the mean rate is ")
    ratio = float(message.partition("the mean rate is ")[2].partition(" times")[0])
    assert ratio == pytest.approx(factor, rel=0.1)


GROUPS_OF_KEYS = {
    "all": RATE_KEYS,
    "training": TRAIN_KEYS,
    "scored": (*EVAL_KEYS, *FORWARD_KEYS),
    "forward": FORWARD_KEYS,
    "held-in": tuple(key for key in RATE_KEYS if "heldin" in key),
    "held-out": tuple(key for key in RATE_KEYS if "heldout" in key),
}


@pytest.mark.parametrize("bin_ms", [5, 20])
@pytest.mark.parametrize("keys", GROUPS_OF_KEYS)
def test_rates_in_hz_are_refused_in_any_arrays(tmp_path: Path, keys: str, bin_ms: int) -> None:
    group = "mc_maze_small" if bin_ms == 5 else "mc_maze_small_20"
    arrays = draw_arrays("mc_maze_small", bin_ms)
    in_hz = {key: array * (1000 / bin_ms if key in GROUPS_OF_KEYS[keys] else 1) for key, array in arrays.items()}
    message = check(write(tmp_path / "s.h5", in_hz, group))
    assert message.startswith(f"{group}/{GROUPS_OF_KEYS[keys][0]} of ")
    assert f"in Hz, multiply by {bin_ms / 1000:g}" in message


@pytest.mark.parametrize("factor", [2.0, 0.5, 5.0])
@pytest.mark.parametrize("keys", ["training", "scored", "forward"])
def test_factors_that_split_arrays_of_the_same_units_are_refused(tmp_path: Path, keys: str, factor: float) -> None:
    wrong = {key: array * (factor if key in GROUPS_OF_KEYS[keys] else 1) for key, array in MAZE.items()}
    assert "of the same units" in check(write(tmp_path / "s.h5", wrong, "mc_maze_small_20"))


def test_two_arrays_that_differ_are_not_blamed(tmp_path: Path) -> None:
    arrays = {key: array for key, array in MAZE.items() if key not in FORWARD_KEYS}
    arrays["eval_rates_heldin"] = 2 * arrays["eval_rates_heldin"]
    message = check(write(tmp_path / "s.h5", arrays, "mc_maze_small_20"))
    assert message.endswith("one of the two is in another unit")


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed[len(changed) // 2, -1, 0] = value
        return changed

    return change


BUMP = draw_arrays("area2_bump")
CHANGES: dict[str, tuple[Callable[[np.ndarray], object], str]] = {
    "NaN": (with_value(np.nan), "NaN or infinite"),
    "infinite": (with_value(np.inf), "NaN or infinite"),
    "negative": (with_value(-1e-6), "negative rates"),
    "log-rates": (np.log, "log-rates"),
    "zeros": (np.zeros_like, "all rates are 0"),
    "transposed": (lambda array: array.transpose(0, 2, 1), "expected (trials, bins, units)"),
    "a trial fewer": (lambda array: array[1:], "expected (trials, bins, units)"),
    "a unit fewer": (lambda array: array[..., 1:], "expected (trials, bins, units)"),
    "text": (lambda array: "rates", ""),
}


@pytest.mark.parametrize("group", ["area2_bump_20", "my_session_20"])
@pytest.mark.parametrize("key", RATE_KEYS)
@pytest.mark.parametrize("change", CHANGES)
def test_invalid_array_is_refused(tmp_path: Path, change: str, key: str, group: str) -> None:
    apply, expected = CHANGES[change]
    message = check(write(tmp_path / "s.h5", {**BUMP, key: apply(BUMP[key])}, group))
    assert message != "passed"
    assert expected in message
    assert "\n" not in message
    assert str(tmp_path / "s.h5") in message


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    hz=st.floats(2.0, 30.0),
    phase=st.sampled_from(["val", "test"]),
    key=st.sampled_from(RATE_KEYS),
    factor=st.one_of(st.just(1.0), st.floats(0.005, 0.55), st.floats(1.8, 300.0)),
)
def test_factor_of_any_array_of_any_session_is_refused_and_none_passes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, hz: float, phase: str, key: str, factor: float
) -> None:
    arrays = draw_arrays("mc_maze_small", 20, phase, hz, seed)
    path = tmp_path_factory.mktemp("s") / "s.h5"
    message = check(write(path, {**arrays, key: arrays[key] * np.float32(factor)}, "mc_maze_small_20"))
    assert (message == "passed") == (factor == 1.0)
    if factor != 1.0:
        assert f"/{key} of " in message or key in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("mc_maze_small_20/eval_rates_heldin"), "lacks the key eval_rates_heldin"),
        (lambda file: file.pop("mc_maze_small_20/train_rates_heldin"), "lacks the key train_rates_heldin"),
        (lambda file: file.create_dataset("mc_maze_small_20/latents", data=[1.0]), "unknown key latents"),
        (lambda file: file.create_dataset("mc_rtt", data=[1.0]), "mc_rtt of .* is not a group"),
        (lambda file: file.clear(), "holds no set"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, change: Callable[[h5py.File], object], message: str) -> None:
    path = write(tmp_path / "s.h5", MAZE, "mc_maze_small_20")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(DataError, match=message):
        check_submission(path, unrecorded_sessions(path))


def test_sizes_are_those_of_the_run_if_there_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5", MAZE, "mc_maze_20")
    assert "expected (trials, bins, units) (1721, 35, 137) as in NLB'21" in check(path)
    signature = Signature("mc_maze", 20, 35, 10, 107, 2, tuple(range(142)))
    check_submission(path, {"mc_maze_20": UnrecordedSession("mc_maze_20", 20, signature=signature)})
    other = Signature("mc_maze", 20, 35, 10, 106, 2, tuple(range(142)))
    with pytest.raises(DataError, match=r"train_rates_heldin of .* has shape .* expected .*\(75, 35, 106\)"):
        check_submission(path, {"mc_maze_20": UnrecordedSession("mc_maze_20", 20, signature=other)})


def test_command_checks_a_file_alone_and_says_what_it_did_not_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "s.h5", MAZE, "mc_maze_small_20")
    run_command(["submit", "--check", str(path)])
    printed = capsys.readouterr().out
    assert "mc_maze_small_20 are consistent with one another" in printed
    assert "not checked: the order of trials" in printed
    assert "spikes per bin\n" not in printed
    write(path, MAZE, "my_session_20")
    run_command(["submit", "--check", str(path)])
    assert "my_session_20 is not a dataset of NLB'21" in capsys.readouterr().out
    for option in (["--score"], ["--push"], ["--name", "mc_rtt"]):
        with pytest.raises(ConfigError, match=f"{option[0]} needs runs"):
            run_command(["submit", "--check", str(path), *option])
    with pytest.raises(ConfigError, match=r"name them, or check a file with --check FILE"):
        run_command(["submit"])
    with pytest.raises(DataError, match=r"cannot read .*none\.h5"):
        run_command(["submit", "--check", str(tmp_path / "none.h5")])
