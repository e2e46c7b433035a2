"""Tests of the quantity that is derived from the series of the file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_nwb import SmallSession, small_session, write_small

from blend_pl.data.io.contents import read_contents
from blend_pl.data.nlb.behavior_target import derive_target
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.proposal import propose_spec
from blend_pl.data.nlb.reading import check_spec
from blend_pl.data.nlb.spec import BehaviorSpec
from blend_pl.errors import ConfigError, RangeError
from blend_pl.metrics.labels import SCORE_LABELS
from blend_pl.metrics.nlb import NLBScores

POSITION: dict[str, Any] = {"series": "hand_pos", "quantity": "position"}
BIN_MS = 10
TIME = np.arange(0, 20, BIN_MS / 1000)
PATH = np.stack([np.sin(2 * np.pi * TIME), np.cos(np.pi * TIME)], axis=1)
VELOCITY = np.stack([2 * np.pi * np.cos(2 * np.pi * TIME), -np.pi * np.sin(np.pi * TIME)], axis=1)
INNER = slice(50, -50)


def derive(binned: np.ndarray, **settings: Any) -> np.ndarray:
    return derive_target(binned, BehaviorSpec(**settings), BIN_MS)


def test_series_is_unchanged_without_target() -> None:
    assert derive(PATH, **POSITION) is PATH
    assert derive(PATH, **POSITION, target="position") is PATH
    assert derive(PATH, series="hand_vel", target="velocity") is PATH


def test_velocity_is_the_derivative_of_the_position() -> None:
    velocity = derive(PATH, **POSITION, target="velocity", smoothing_ms=0.0)
    np.testing.assert_allclose(velocity[INNER], VELOCITY[INNER], atol=0.01)
    # A Gaussian kernel scales a sine of f Hz by exp(-(2 pi f sd)^2 / 2).
    smoothed = derive(PATH, **POSITION, target="velocity", smoothing_ms=40.0)
    gain = np.exp(-0.5 * (2 * np.pi * np.array([1.0, 0.5]) * 0.04) ** 2)
    np.testing.assert_allclose(smoothed[INNER], VELOCITY[INNER] * gain, atol=0.02)


def test_smoothing_removes_noise_of_tracking() -> None:
    rng = np.random.default_rng(0)
    # 50 Hz tracking with noise, interpolated to bins of 10 ms.
    samples = PATH[::2] + rng.normal(0, 0.01, PATH[::2].shape)
    tracked = np.stack([np.interp(TIME, TIME[::2], column) for column in samples.T], axis=1)
    errors = [
        np.abs(derive(tracked, **POSITION, target="velocity", smoothing_ms=sd) - VELOCITY)[INNER].mean()
        for sd in (0.0, BehaviorSpec().smoothing_ms)
    ]
    assert errors[1] < errors[0] / 3


def test_speed_is_the_norm_of_the_velocity() -> None:
    speed = derive(VELOCITY, series="hand_vel", target="speed")
    np.testing.assert_allclose(speed, np.sqrt((VELOCITY**2).sum(1, keepdims=True)))
    from_position = derive(PATH, **POSITION, target="speed", smoothing_ms=0.0)
    np.testing.assert_allclose(from_position[INNER], speed[INNER], atol=0.01)


def test_gaps_and_ends_of_a_position_have_no_velocity() -> None:
    position = PATH.copy()
    position[1000:1010] = np.nan
    velocity = derive(position, **POSITION, target="velocity")
    missing = np.flatnonzero(np.isnan(velocity).all(axis=1))
    assert missing.tolist() == [*range(26), *range(999, 1011), *range(1974, 2000)]
    assert np.isnan(velocity).any(axis=1).sum() == len(missing)
    np.testing.assert_allclose(velocity[980:999], VELOCITY[980:999], atol=0.35)


def write_position(path: Path, session: SmallSession) -> Path:
    """Writes the session with a position in place of its velocity, under the same name."""
    velocity = session.velocity.cumsum(axis=0) / 1000 + 5
    return write_small(path, replace(session, velocity=velocity))


@pytest.mark.parametrize(
    ("settings", "score", "n_channels"),
    [
        ({"target": "velocity"}, "vel_r2", 2),
        ({"target": "speed"}, "speed_r2", 1),
        ({"target": "position"}, "pos_r2", 2),
        ({}, "pos_r2", 2),
    ],
)
def test_target_names_the_score(tmp_path: Path, settings: dict[str, Any], score: str, n_channels: int) -> None:
    session = small_session(n_trials=24)
    spec = propose_spec(read_contents(write_position(tmp_path / "small.nwb", session))).spec
    behavior = BehaviorSpec("hand_vel", quantity="position", **settings)
    module = NLBDataModule(replace(spec, behavior=behavior), str(tmp_path), bin_ms=20)
    module.setup("fit")
    train, scored = module.subsets["train"], module.subsets["eval"]
    assert train.behavior.shape[2] == train.n_series == n_channels
    names = {"vel_r2", "speed_r2", "pos_r2"} & NLBScores(train, scored).metrics.keys()
    assert names == {score}
    assert score in SCORE_LABELS
    if score == "vel_r2":
        start = train.start_bin[5].item()
        expected = session.velocity[start * 20 : (start + train.n_observed) * 20 : 20]
        np.testing.assert_allclose(train.velocity[5].numpy(), expected, atol=0.12)


@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        (BehaviorSpec(trial_columns=["reward"], target="speed"), r"behavior\.series names no series"),
        (BehaviorSpec("hand_vel", target="position"), r"set behavior\.series to a position"),
        (BehaviorSpec("angle", quantity="position", period=360.0, target="speed"), "the series is an angle"),
    ],
)
def test_targets_that_cannot_be_derived_raise(tmp_path: Path, behavior: BehaviorSpec, message: str) -> None:
    spec = propose_spec(read_contents(write_small(tmp_path / "small.nwb", small_session(n_trials=24)))).spec
    with pytest.raises(ConfigError, match=message):
        check_spec(replace(spec, behavior=behavior), 20)


def test_negative_smoothing_raises() -> None:
    with pytest.raises(RangeError, match="smoothing_ms must be at least 0"):
        BehaviorSpec("hand_vel", smoothing_ms=-1.0)
