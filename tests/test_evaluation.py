"""Scores of systems outside of an experiment."""

from pathlib import Path

import pytest
from helpers.systems import make, make_teacher, trainer

from blend_pl.callbacks import DecodingEvaluation, IdentityEvaluation, NLBEvaluation
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.settings import load
from blend_pl.errors import ConfigError
from blend_pl.evaluation import Scores, _make_evaluation, evaluate
from blend_pl.metrics.nlb import evaluate_rates
from blend_pl.prediction import predict


@pytest.mark.parametrize("system", [make(), make_teacher()], ids=["student", "teacher"])
def test_scores_are_those_of_predicted_rates(system: object, tiny: NLBDataModule, tmp_path: Path) -> None:
    from blend_pl.systems import PopulationSystem

    assert isinstance(system, PopulationSystem)
    trainer(tmp_path).fit(system, tiny)
    scores, prediction = evaluate(system, tiny), predict(system, tiny)
    expected = evaluate_rates(prediction.train, prediction.session, (prediction.train_rates, prediction.rates))
    assert scores == pytest.approx(expected, abs=1e-5)
    assert scores.oracle is not None
    assert system.training
    assert repr(prediction).startswith("Prediction(8 trials, 45 bins, 13 units; NLBDataModule(tiny")


def test_plain_trainer_reports_each_score_once(tiny: NLBDataModule, tmp_path: Path) -> None:
    student = make(signature=tiny.signature)
    (reported,) = trainer(tmp_path, 1, NLBEvaluation()).test(student, tiny, verbose=False)
    assert {name.removeprefix("eval/"): value for name, value in reported.items()} == pytest.approx(
        evaluate(student, tiny), rel=1e-5
    )


def test_untrained_system_raises(tiny: NLBDataModule) -> None:
    with pytest.raises(ConfigError, match="Student is not trained"):
        evaluate(make(), tiny)
    with pytest.raises(ConfigError, match="Student is not trained"):
        predict(make(), tiny)


@pytest.mark.parametrize(
    ("name", "cls"),
    [("mc_maze", NLBEvaluation), ("bugeon_simulated", IdentityEvaluation), ("simulated_lfp", DecodingEvaluation)],
)
def test_evaluation_follows_the_kind_of_data(name: str, cls: type) -> None:
    assert type(_make_evaluation(load(name))) is cls


def test_scores_print_as_a_table() -> None:
    assert str(Scores({"co_bps": 0.25, "other": 1.0}, {"co_bps": 0.5})).splitlines() == [
        "co-bps    0.2500  (true rates 0.5000)",
        "other     1.0000",
    ]
