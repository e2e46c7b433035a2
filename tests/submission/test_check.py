from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import torch
from helpers.sessions import session_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.submission import SessionSplits, check_submission
from blend_pl.submission.layout import FORWARD_KEYS, RATE_KEYS, TRAIN_KEYS, join_rates, split_rates

SESSIONS = SessionSplits(session_of(trials=9), session_of(trials=6))


def rates_of(sessions: SessionSplits) -> tuple[Tensor, Tensor]:
    """Returns rates that differ between units and have the correct mean."""
    counts = [part.spikes.float() for part in (sessions.train, sessions.evaluation)]
    return counts[0].mean((0, 1)).expand_as(counts[0]) + 0.01, counts[1].mean((0, 1)).expand_as(counts[1]) + 0.01


def write(path: Path, change: Callable[[h5py.File], object] = lambda file: None) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in split_rates(SESSIONS, *rates_of(SESSIONS)).items():
            file[f"mc_maze/{key}"] = array.numpy()
        change(file)
    return path


def replaced(key: str, change: Callable[[Tensor], object]) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        array = torch.from_numpy(file[key][()])
        del file[key]
        file[key] = change(array)

    return apply


def test_valid_file_passes(tmp_path: Path) -> None:
    check_submission(write(tmp_path / "s.h5"), {"mc_maze": SESSIONS})


def test_split_and_join_rates_are_inverse() -> None:
    train, rates = rates_of(SESSIONS)
    arrays = split_rates(SESSIONS, train, rates)
    assert {key: tuple(array.shape) for key, array in arrays.items()} == {
        "train_rates_heldin": (9, 5, 3),
        "train_rates_heldout": (9, 5, 2),
        "eval_rates_heldin": (6, 5, 3),
        "eval_rates_heldout": (6, 5, 2),
        "eval_rates_heldin_forward": (6, 2, 3),
        "eval_rates_heldout_forward": (6, 2, 2),
    }
    joined = join_rates(arrays)
    assert torch.equal(joined[0], train[:, :5])
    assert torch.equal(joined[1], rates)


def test_session_without_forward_bins_has_no_forward_arrays() -> None:
    sessions = SessionSplits(session_of(9, forward=0), session_of(6, forward=0))
    assert [*split_rates(sessions, *rates_of(sessions))] == [key for key in RATE_KEYS if key not in FORWARD_KEYS]


INVALID_FILES: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "missing set": (lambda file: file.move("mc_maze", "mc_rtt"), r"lacks the set mc_maze; add"),
    "unknown set": (lambda file: file.copy("mc_maze", "mc_mase"), r"unknown set mc_mase; keep only mc_maze$"),
    "missing key": (
        lambda file: file.pop("mc_maze/eval_rates_heldout"),
        r"mc_maze of .* lacks the key eval_rates_heldout; add",
    ),
    "missing training rates": (
        lambda file: [file.pop(f"mc_maze/{key}") for key in TRAIN_KEYS],
        r"lacks the key train_rates_heldin, train_rates_heldout",
    ),
    "one forward array": (
        lambda file: file.pop("mc_maze/eval_rates_heldin_forward"),
        r"lacks the key eval_rates_heldin_forward",
    ),
    "unknown key": (
        lambda file: file.copy("mc_maze/eval_rates_heldin", "mc_maze/eval_rate_heldin"),
        r"unknown key eval_rate_heldin",
    ),
    "no group": (lambda file: (file.pop("mc_maze"), file.create_dataset("mc_maze", data=[1.0])), r"is not a group"),
    "text": (replaced("mc_maze/eval_rates_heldin", lambda a: "rates"), r"is not numeric"),
    "trials missing": (
        replaced("mc_maze/train_rates_heldin", lambda a: a[1:]),
        r"train_rates_heldin of .* has shape \(8, 5, 3\); expected \(trials, bins, units\) \(9, 5, 3\)",
    ),
    "axes swapped": (
        replaced("mc_maze/eval_rates_heldin", lambda a: a.mT),
        r"has shape \(6, 3, 5\); expected .*\(6, 5, 3\)",
    ),
    "NaN": (replaced("mc_maze/eval_rates_heldout", lambda a: a.fill_(torch.nan)), r"heldout .* NaN or infinite"),
    "infinite": (
        replaced(
            "mc_maze/eval_rates_heldout_forward", lambda a: a.clone().index_fill_(0, torch.tensor([2]), torch.inf)
        ),
        r"heldout_forward .* NaN or infinite",
    ),
    "log-rates": (replaced("mc_maze/train_rates_heldout", lambda a: (a / 9).log()), r"negative .* exp\(log-rates\)$"),
    "Hz": (replaced("mc_maze/eval_rates_heldin", lambda a: a / 0.02), r"is 50 times .* if they are in Hz, .* 0\.02$"),
    "far too small": (replaced("mc_maze/eval_rates_heldin", lambda a: a / 50), r"is 0\.02 times .* check the unit$"),
}


@pytest.mark.parametrize("fault", INVALID_FILES)
def test_invalid_file_raises(tmp_path: Path, fault: str) -> None:
    change, message = INVALID_FILES[fault]
    with pytest.raises(DataError, match=message) as raised:
        check_submission(write(tmp_path / "s.h5", change), {"mc_maze": SESSIONS})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("keys", [FORWARD_KEYS, (*FORWARD_KEYS, *TRAIN_KEYS)])
def test_optional_keys_may_be_missing(tmp_path: Path, keys: tuple[str, ...]) -> None:
    path = write(
        tmp_path / "s.h5",
        lambda file: (file.move("mc_maze", "dmfc_rsg_20"), [file.pop(f"dmfc_rsg_20/{key}") for key in keys]),
    )
    check_submission(path, {"dmfc_rsg_20": SESSIONS})


@pytest.mark.parametrize("content", [b"", b"rates", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_non_hdf5_file_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*s\.h5 as HDF5"):
        check_submission(tmp_path / "s.h5", {"mc_maze": SESSIONS})


def draw_session(seed: int, hz: float, bin_ms: int) -> tuple[Tensor, SessionSplits]:
    """Returns log-normal rates over units and time, in spikes per bin, and sessions with Poisson counts."""
    generator = torch.Generator().manual_seed(seed)
    shape = (24, 30, 10)
    depth = torch.randn(10, generator=generator) + 0.5 * torch.randn(shape, generator=generator)
    rates = (hz * bin_ms / 1000) * depth.exp()
    counts = torch.poisson(rates, generator=generator).clamp(max=255).to(torch.uint8)
    session = replace(
        session_of(24, bins=30, forward=0, heldin=10, heldout=0), spikes=counts, bin_ms=bin_ms, unit_id=torch.arange(10)
    )
    return rates, SessionSplits(session, session)


def check_result(path: Path, rates: Tensor, sessions: SessionSplits) -> str:
    with h5py.File(path, "w") as file:
        for key, array in split_rates(sessions, rates, rates).items():
            file[f"x/{key}"] = array.numpy()
    try:
        check_submission(path, {"x": sessions})
    except DataError as error:
        return str(error)
    return "passed"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), hz=st.floats(6, 60), bin_ms=st.sampled_from([5, 20]))
def test_unit_of_rates_is_detected(tmp_path_factory: pytest.TempPathFactory, seed: int, hz: float, bin_ms: int) -> None:
    path = tmp_path_factory.mktemp("units") / "s.h5"
    rates, sessions = draw_session(seed, hz, bin_ms)
    in_hz = rates * 1000 / bin_ms
    assert check_result(path, rates, sessions) == "passed"
    assert check_result(path, rates.mean() * torch.ones_like(rates), sessions) == "passed"
    assert "in Hz" in check_result(path, in_hz, sessions)
    assert "log-rates" in check_result(path, (rates / rates.max()).log(), sessions)


def evaluation_of(session: SessionTensors, phase: str) -> SessionTensors:
    """Returns scored trials: with all counts in phase val, without held-out units and forward bins in phase test."""
    if phase == "val":
        return session
    spikes, observed = session.spikes.clone(), session.observed.clone()
    spikes[:, :, session.n_heldin :], observed[..., 1] = 0, False
    spikes[:, session.n_observed :], observed[:, session.n_observed :] = 0, False
    return replace(session, spikes=spikes, observed=observed)


def poisson_splits(
    seed: int, bin_ms: int, phase: str, heldout: float = 1.0, error: float = 0.1
) -> tuple[SessionSplits, dict[str, Tensor]]:
    """Returns splits with Poisson counts, and arrays of their rates.

    Each array has a relative error of at most `error`. Held-out units fire `heldout` times as much as held-in units.
    """
    generator = torch.Generator().manual_seed(seed)
    unit_rates = 0.02 * bin_ms * (0.5 + torch.rand(14, generator=generator))
    unit_rates[10:] *= heldout
    base = session_of(60, bins=20, forward=8, heldin=10, heldout=4)
    drawn = [
        replace(
            base,
            spikes=torch.poisson(unit_rates.expand(60, 28, 14), generator=generator).to(torch.uint8),
            bin_ms=bin_ms,
        )
        for _ in range(2)
    ]
    splits = SessionSplits(drawn[0], evaluation_of(drawn[1], phase))
    rates = unit_rates.expand(60, 28, 14).clone()
    arrays = split_rates(splits, rates, rates)
    return splits, {
        key: array * (1 - error + 2 * error * float(torch.rand(1, generator=generator)))
        for key, array in arrays.items()
    }


def check_arrays(path: Path, arrays: dict[str, Tensor], splits: SessionSplits, **storage: object) -> str:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(f"mc_rtt_20/{key}", data=array.numpy(), **storage)
    try:
        check_submission(path, {"mc_rtt_20": splits})
    except DataError as error:
        return str(error)
    return "passed"


WRONG_UNITS = {
    "rates of 5-ms bins": (0.25, "rates of 5-ms bins, multiply by 4"),
    "per ms": (1 / 20, "spikes per ms, multiply by 20"),
    "two models summed": (2, "sums over about 2 models or bins, divide by their number"),
    "half": (0.5, "divided by about 2, as by a number of models or bins, multiply by that number"),
    "five models summed": (5, "sums over about 5 models or bins, divide by their number"),
    "Hz": (50, "in Hz, multiply by 0.02"),
}
GROUPS_OF_KEYS = {
    "all": RATE_KEYS,
    "held-in": tuple(key for key in RATE_KEYS if "heldin" in key),
    "held-out": tuple(key for key in RATE_KEYS if "heldout" in key),
    "training": TRAIN_KEYS,
    "forward": FORWARD_KEYS,
    **{key: (key,) for key in RATE_KEYS},
}


@pytest.mark.parametrize("phase", ["val", "test"])
@pytest.mark.parametrize("keys", GROUPS_OF_KEYS)
@pytest.mark.parametrize("unit", WRONG_UNITS)
def test_wrong_unit_of_any_array_is_refused_with_its_factor_and_cause(
    tmp_path: Path, unit: str, keys: str, phase: str
) -> None:
    splits, arrays = poisson_splits(1, 20, phase, error=0)
    wrong_keys = GROUPS_OF_KEYS[keys]
    factor, cause = WRONG_UNITS[unit]
    wrong = {key: array * (factor if key in wrong_keys else 1) for key, array in arrays.items()}
    message = check_arrays(tmp_path / "s.h5", wrong, splits)
    assert "\n" not in message
    assert message.startswith(f"mc_rtt_20/{wrong_keys[0]} of {tmp_path / 's.h5'}: the mean rate is ")
    assert message.endswith(cause)
    for key in wrong_keys:
        assert key in message
    for key in set(RATE_KEYS) - {*wrong_keys}:
        assert f"{key}," not in message
        assert f"{key};" not in message


def test_good_arrays_of_other_types_and_without_forward_bins_pass(tmp_path: Path) -> None:
    for phase in ("val", "test"):
        splits, arrays = poisson_splits(2, 20, phase)
        assert check_arrays(tmp_path / "s.h5", arrays, splits) == "passed"
        half = {key: array.half() for key, array in arrays.items()}
        assert check_arrays(tmp_path / "s.h5", half, splits, compression="gzip", chunks=True) == "passed"
        without_forward = {key: array for key, array in arrays.items() if key not in FORWARD_KEYS}
        assert check_arrays(tmp_path / "s.h5", without_forward, splits) == "passed"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bin_ms=st.sampled_from([5, 20]),
    phase=st.sampled_from(["val", "test"]),
    heldout=st.sampled_from([0.3, 1.0, 3.0]),
    factors=st.dictionaries(
        st.sampled_from(RATE_KEYS), st.one_of(st.floats(0.005, 0.45), st.floats(2.2, 300.0)), max_size=6
    ),
)
def test_any_factor_of_any_array_is_refused_and_none_passes(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    bin_ms: int,
    phase: str,
    heldout: float,
    factors: dict[str, float],
) -> None:
    splits, arrays = poisson_splits(seed, bin_ms, phase, heldout)
    wrong = {key: array * factors.get(key, 1) for key, array in arrays.items()}
    message = check_arrays(tmp_path_factory.mktemp("factors") / "s.h5", wrong, splits)
    first = next((key for key in RATE_KEYS if key in factors), None)
    if first is None:
        assert message == "passed"
    else:
        assert message.startswith(f"mc_rtt_20/{first} of ")
        ratio = float(message.partition("the mean rate is ")[2].partition(" times")[0])
        assert ratio == pytest.approx(factors[first], rel=0.25)


def test_rates_in_hz_of_20_ms_bins_in_a_set_of_5_ms_bins_are_refused(tmp_path: Path) -> None:
    splits, arrays = poisson_splits(3, 5, "test")
    message = check_arrays(tmp_path / "s.h5", {key: array * 4 for key, array in arrays.items()}, splits)
    assert message.endswith("if they are rates of 20-ms bins, divide by 4")


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_undertrained_model_passes(tmp_path: Path, factor: float) -> None:
    splits, arrays = poisson_splits(4, 20, "test", heldout=1.0)
    constant = {key: torch.full_like(array, factor * float(array.mean())) for key, array in arrays.items()}
    unlike_counts = {key: 2 * array.mean() - array.flip(2) * 0.999 for key, array in arrays.items()}
    assert check_arrays(tmp_path / "s.h5", constant, splits) == "passed"
    assert check_arrays(tmp_path / "s.h5", unlike_counts, splits) == "passed"


def test_session_without_spikes_skips_unit_check(tmp_path: Path) -> None:
    _, sessions = draw_session(0, 5.0, 20)
    silent = replace(sessions.evaluation, spikes=torch.zeros_like(sessions.evaluation.spikes))
    assert (
        check_result(tmp_path / "s.h5", torch.full(silent.spikes.shape, 0.2), SessionSplits(silent, silent)) == "passed"
    )
