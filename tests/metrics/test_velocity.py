"""Velocity R2 against nlb_tools."""

import warnings

import numpy as np
import pytest
import torch
from helpers.ranks import compute_synced, deal
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from torch import Tensor

from blend_pl.errors import BlendError, DataError
from blend_pl.metrics import VelocityR2
from blend_pl.metrics.score import mean_over_varying

N_TRAIN, N_EVAL, N_BINS, N_UNITS = 23, 9, 12, 8


class Session:
    """Rates and velocities in mm/s of a training and an evaluation set; the velocities are decodable from the rates."""

    def __init__(self, seed: int = 0, n_units: int = N_UNITS, rank: int = N_UNITS, scale: float = 0.1) -> None:
        generator = torch.Generator().manual_seed(seed)
        draw = {"generator": generator, "dtype": torch.float64}
        latents = torch.randn(N_TRAIN + N_EVAL, N_BINS, rank, **draw)
        rates = scale * (latents @ torch.randn(rank, n_units, **draw)).add(2).abs()
        noise = torch.randn(N_TRAIN + N_EVAL, N_BINS, 2, **draw)
        velocity = 300 * (latents[..., :2] + 0.6 * noise) + torch.tensor([50.0, -20.0])
        self.train_rates, self.eval_rates = rates[:N_TRAIN].clone(), rates[N_TRAIN:].clone()
        self.train_velocity, self.eval_velocity = velocity[:N_TRAIN].clone(), velocity[N_TRAIN:].clone()
        self.train_mask: Tensor | None = None
        self.eval_mask: Tensor | None = None

    def two_decoders(self) -> None:
        self.train_mask = torch.stack([torch.arange(N_TRAIN) % 3 == 0, torch.arange(N_TRAIN) % 3 == 1], 1)
        self.eval_mask = torch.stack([torch.arange(N_EVAL) % 2 == 0, torch.arange(N_EVAL) % 4 == 1], 1)

    def metric(self) -> VelocityR2:
        n_units = self.train_rates.shape[-1]
        return VelocityR2(n_units, self.train_velocity, self.eval_velocity, self.train_mask, self.eval_mask)

    def fitted(self) -> VelocityR2:
        metric = self.metric()
        metric.update(self.train_rates, torch.arange(N_TRAIN), train=True)
        metric.update(self.eval_rates, torch.arange(N_EVAL), train=False)
        metric.compute()
        return metric

    def score(self) -> float:
        return self.fitted().compute().item()

    def oracle(self) -> float:
        evaluation = pytest.importorskip("nlb_tools.evaluation")
        train_mask = torch.ones(N_TRAIN, 1, dtype=torch.bool) if self.train_mask is None else self.train_mask
        eval_mask = torch.ones(N_EVAL, 1, dtype=torch.bool) if self.eval_mask is None else self.eval_mask
        train = self.train_rates.double(), self.train_velocity.double(), train_mask
        evaluated = self.eval_rates.double(), self.eval_velocity.double(), eval_mask
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(evaluation.velocity_decoding(*(tensor.numpy().copy() for tensor in (*train, *evaluated))))


@pytest.mark.parametrize("seed", range(3))
def test_equals_nlb_tools(seed: int) -> None:
    session = Session(seed)
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


@pytest.mark.parametrize("two_decoders", [False, True])
def test_equals_nlb_tools_with_gaps_in_the_velocity(two_decoders: bool) -> None:
    session = Session()
    for rates, velocity in (
        (session.train_rates, session.train_velocity),
        (session.eval_rates, session.eval_velocity),
    ):
        gaps = torch.rand(velocity.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.2
        gaps[4] = True
        velocity[gaps] = torch.nan
        rates[gaps] = torch.nan
    if two_decoders:
        session.two_decoders()
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


def test_equals_nlb_tools_with_two_decoders() -> None:
    session = Session()
    session.two_decoders()
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)
    assert session.train_mask is not None
    session.train_rates[~session.train_mask.any(1)] = torch.nan
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


@pytest.mark.parametrize("offset", [0.0, 0.02, 1.0, 30.5, 1e3])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_equals_nlb_tools_for_collinear_rates_at_any_scale_and_offset(scale: float, offset: float) -> None:
    session = Session(rank=3, n_units=20, scale=scale)
    session.train_rates += offset
    session.eval_rates += offset
    assert session.score() == pytest.approx(session.oracle(), abs=1e-7)


def test_equals_nlb_tools_with_more_units_than_bins() -> None:
    session = Session(n_units=N_TRAIN * N_BINS + 10)
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


def test_equals_nlb_tools_when_the_best_penalty_is_large() -> None:
    session = Session(n_units=200, scale=1e-2)
    model = GridSearchCV(Ridge(), {"alpha": np.logspace(-4, 0, 9)})
    model.fit(session.train_rates.flatten(0, 1).numpy(), session.train_velocity.flatten(0, 1).numpy())
    assert 1e-4 < model.best_params_["alpha"] < 1
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


@pytest.mark.parametrize("rates", [0.0, 0.3])
def test_equals_nlb_tools_for_constant_rates(rates: float) -> None:
    session = Session()
    session.train_rates[:] = rates
    session.eval_rates[:] = rates
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


def test_equals_nlb_tools_for_velocity_that_is_constant_in_a_fold() -> None:
    session = Session()
    session.train_velocity[:7] = 0
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


@pytest.mark.parametrize("constant_in_training", [False, True])
@pytest.mark.parametrize("value", [0.0, 3.7])
@pytest.mark.parametrize("column", [0, 1])
def test_constant_output_is_left_out_of_the_mean(column: int, value: float, constant_in_training: bool) -> None:
    session, varying = Session(), Session()
    session.eval_velocity[..., column] = value
    if constant_in_training:
        session.train_velocity[..., column] = value
        varying.train_velocity = varying.train_velocity[..., 1 - column : 2 - column]
        varying.eval_velocity = varying.eval_velocity[..., 1 - column : 2 - column]
        assert session.score() == pytest.approx(varying.oracle(), abs=1e-9)
        # A constant that is predicted without error counts 1 in scikit-learn, and so in nlb_tools.
        if value == 0.0:
            assert session.oracle() == pytest.approx((1 + varying.oracle()) / 2, abs=1e-9)
    score = session.score()
    decoded = session.fitted().decode(session.eval_rates).flatten(0, 1)[:, 1 - column].numpy()
    target = session.eval_velocity.flatten(0, 1)[:, 1 - column].numpy()
    assert score == pytest.approx(r2_score(target, decoded), abs=1e-9)


def test_decoder_without_varying_output_is_left_out_of_the_mean() -> None:
    session = Session()
    session.two_decoders()
    assert session.eval_mask is not None
    session.eval_velocity[session.eval_mask[:, 0]] = 0.5
    decoded = session.fitted().decode(session.eval_rates, session.eval_mask)[session.eval_mask[:, 1]]
    target = session.eval_velocity[session.eval_mask[:, 1]]
    assert session.score() == pytest.approx(r2_score(target.flatten(0, 1), decoded.flatten(0, 1)), abs=1e-9)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_score_without_varying_output_is_nan_with_a_warning(value: float) -> None:
    session = Session()
    session.train_velocity[:] = value
    session.eval_velocity[:] = value
    with pytest.warns(UserWarning, match="velocity is constant in all evaluation bins"):
        assert np.isnan(session.score())


@settings(max_examples=20, deadline=None)
@given(n_outputs=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_mean_over_varying_outputs_is_bit_equal_to_the_mean(n_outputs: int, seed: int) -> None:
    scores = torch.rand(3, n_outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    none = torch.zeros(3, n_outputs, dtype=torch.bool)
    assert torch.equal(mean_over_varying(scores, none), scores.mean(-1))
    constant = scores < 0.4
    means = mean_over_varying(scores, constant).numpy()
    expected = [
        row[kept].mean() if kept.any() else np.nan for row, kept in zip(scores.numpy(), ~constant.numpy(), strict=True)
    ]
    assert means == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("n_bins", [5, 7, 9])
def test_equals_nlb_tools_for_few_bins(n_bins: int) -> None:
    session = Session()
    session.train_velocity[1:] = torch.nan
    session.train_velocity[0, n_bins:] = torch.nan
    assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_takes_any_dtype(dtype: torch.dtype) -> None:
    session = Session()
    session.train_rates, session.eval_rates = session.train_rates.to(dtype), session.eval_rates.to(dtype)
    session.train_velocity, session.eval_velocity = session.train_velocity.float(), session.eval_velocity.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert session.score() == pytest.approx(session.oracle(), abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), n_ranks=st.integers(1, 3), n_batches=st.integers(1, 5), masks=st.booleans())
def test_same_for_any_division_into_batches_and_ranks(seed: int, n_ranks: int, n_batches: int, masks: bool) -> None:
    session = Session(seed)
    if masks:
        session.two_decoders()
    ranks = []
    train = deal(N_TRAIN, seed, n_ranks, n_batches)
    evaluated = deal(N_EVAL, seed + 1, n_ranks, n_batches)
    for train_batches, eval_batches in zip(train, evaluated, strict=True):
        ranks.append(session.metric())
        for train_batch, eval_batch in zip(train_batches, eval_batches, strict=True):
            ranks[-1].update(session.eval_rates[eval_batch], eval_batch, train=False)
            ranks[-1].update(session.train_rates[train_batch], train_batch, train=True)
    assert compute_synced(ranks).item() == pytest.approx(session.score(), abs=1e-9)


def test_score_does_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    expected = session.score()
    monkeypatch.setattr("blend_pl.metrics.velocity.CHUNK_SIZE", 5)
    assert session.score() == pytest.approx(expected, abs=1e-12)


def test_decoder_predicts_like_scikit_learn() -> None:
    session = Session()
    session.train_velocity[3, 4:] = torch.nan
    session.two_decoders()
    assert session.train_mask is not None
    assert session.eval_mask is not None
    decoded = session.fitted().decode(session.eval_rates, session.eval_mask)
    assert decoded.shape == (N_EVAL, N_BINS, 2)
    for decoder in range(2):
        velocity = session.train_velocity[session.train_mask[:, decoder]].flatten(0, 1)
        valid = ~velocity[:, 0].isnan()
        rates = session.train_rates[session.train_mask[:, decoder]].flatten(0, 1)
        model = GridSearchCV(Ridge(), {"alpha": np.logspace(-4, 0, 9)}).fit(
            rates[valid].numpy(), velocity[valid].numpy()
        )
        trials = session.eval_mask[:, decoder]
        expected = model.predict(session.eval_rates[trials].flatten(0, 1).numpy())
        torch.testing.assert_close(decoded[trials].flatten(0, 1), torch.from_numpy(expected), rtol=1e-7, atol=1e-7)
    assert decoded[~session.eval_mask.any(1)].isnan().all()


def test_single_decoder_needs_no_mask() -> None:
    session = Session()
    session.train_rates += 7.3
    session.eval_rates += 7.3
    metric = session.fitted()
    decoded = metric.decode(session.eval_rates.float())
    error = (decoded - session.eval_velocity).square().sum((0, 1))
    total = (session.eval_velocity - session.eval_velocity.mean((0, 1))).square().sum((0, 1))
    assert (1 - error / total).mean().item() == pytest.approx(metric.compute().item(), abs=1e-4)


def test_decoding_without_compute_or_mask_raises() -> None:
    session = Session()
    session.two_decoders()
    with pytest.raises(BlendError, match="compute"):
        session.metric().decode(session.eval_rates)
    with pytest.raises(BlendError, match="2 velocity decoders"):
        session.fitted().decode(session.eval_rates)
    with pytest.raises(BlendError, match="decode masks have shape"):
        session.fitted().decode(session.eval_rates, torch.ones(N_EVAL, 3, dtype=torch.bool))


def test_missing_trials_have_no_score() -> None:
    session = Session()
    metric = session.metric()
    metric.update(session.train_rates, torch.arange(N_TRAIN), train=True)
    assert metric.compute().isnan()
    metric.reset()
    metric.update(session.eval_rates, torch.arange(N_EVAL), train=False)
    assert not metric.compute() > 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("train", [False, True])
def test_invalid_rates_raise(value: float, train: bool) -> None:
    session = Session()
    rates = session.train_rates if train else session.eval_rates
    rates[2, 3, 4] = value
    with pytest.raises(BlendError, match="NaN or infinite") as caught:
        session.metric().update(rates, torch.arange(len(rates)), train)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", [-1, N_EVAL])
def test_unknown_trials_raise(row: int) -> None:
    session = Session()
    with pytest.raises(BlendError, match="trial indices range from"):
        session.metric().update(session.eval_rates[:2], torch.tensor([0, row]), train=False)


def test_wrong_shapes_raise() -> None:
    session = Session()
    with pytest.raises(BlendError, match="rates have shape"):
        session.metric().update(session.eval_rates[:, 1:], torch.arange(N_EVAL), train=False)
    with pytest.raises(BlendError, match="trial indices have shape"):
        session.metric().update(session.eval_rates, torch.arange(N_EVAL - 1), train=False)
    with pytest.raises(BlendError, match="evaluation velocities have shape"):
        VelocityR2(N_UNITS, session.train_velocity, session.eval_velocity[:, 1:])
    with pytest.raises(BlendError, match="one split only"):
        VelocityR2(N_UNITS, session.train_velocity, session.eval_velocity, torch.ones(N_TRAIN, 1))
    masks = torch.ones(N_TRAIN, 1, dtype=torch.bool), torch.ones(N_EVAL, 2, dtype=torch.bool)
    with pytest.raises(BlendError, match="1 for training and 2 for evaluation"):
        VelocityR2(N_UNITS, session.train_velocity, session.eval_velocity, *masks)


def test_invalid_velocities_raise() -> None:
    session = Session()
    train, evaluated = session.train_velocity, session.eval_velocity
    with pytest.raises(DataError, match="omit velocity R2"):
        VelocityR2(N_UNITS, train[..., :0], evaluated[..., :0])
    with pytest.raises(DataError, match="0 evaluation bins"):
        VelocityR2(N_UNITS, train, torch.full_like(evaluated, torch.nan))
    few = torch.full_like(train, torch.nan)
    few[0, :4] = 1
    with pytest.raises(DataError, match="4 training bins with a velocity; it needs 5"):
        VelocityR2(N_UNITS, few, evaluated)
    train[0, 0, 1] = torch.nan
    with pytest.raises(DataError, match="partly missing"):
        VelocityR2(N_UNITS, train, evaluated)
