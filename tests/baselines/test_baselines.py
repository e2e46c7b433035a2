"""Baselines without a network: smoothing, regressions and the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import EXPERIMENTS, SIMULATION, fit, write_set
from helpers.sessions import session_of, tiny_module
from sklearn.linear_model import PoissonRegressor

from blend_pl.baselines.baseline import Baseline
from blend_pl.baselines.glm import FitFunction, fit_poisson, fit_ridge
from blend_pl.baselines.smoothing import smooth
from blend_pl.cli.main import run_command
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import BlendError, ConfigError, DataError
from blend_pl.metrics.nlb import evaluate_rates
from blend_pl.report.comparison import compare_runs
from blend_pl.runs.results import BASELINE, Results

BOTH_REGRESSIONS = pytest.mark.parametrize("regression", [fit_ridge, fit_poisson])


def run_baseline(*arguments: str | Path) -> None:
    run_command(["baseline", *(str(argument) for argument in arguments)])


class TestSmoothing:
    def test_is_the_mean_weighted_by_a_gaussian(self) -> None:
        counts = torch.randn(2, 9, 3)
        smoothed = smooth(counts, torch.ones(2, 9, dtype=torch.bool), sd_ms=30, bin_ms=20)
        weights = np.exp(-0.5 * ((np.arange(9) - 4) * 20 / 30) ** 2)
        expected = np.average(counts[1, :, 2].double().numpy(), weights=weights)
        assert float(smoothed[1, 4, 2]) == pytest.approx(expected, abs=1e-9)

    def test_unrecorded_bins_have_no_weight(self) -> None:
        counts, recorded = torch.rand(1, 40, 2), torch.ones(1, 40, dtype=torch.bool)
        recorded[:, 10:] = False
        garbage = torch.where(recorded[..., None], counts, 99.0)
        smoothed = smooth(garbage, recorded, sd_ms=20, bin_ms=20)
        torch.testing.assert_close(smoothed[:, :10], smooth(counts[:, :10], recorded[:, :10], sd_ms=20, bin_ms=20))
        assert smoothed.max() <= 1
        torch.testing.assert_close(smoothed[:, 39], counts[:, :10].mean(1).double())

    def test_unrecorded_trial_is_zero(self) -> None:
        assert not smooth(torch.ones(1, 4, 2), torch.zeros(1, 4, dtype=torch.bool), sd_ms=50, bin_ms=20).any()


class TestRegression:
    @pytest.fixture
    def states(self) -> np.ndarray:
        return np.random.default_rng(0).gamma(2, 0.1, (400, 3))

    @BOTH_REGRESSIONS
    def test_predicts_the_rates_of_the_counts(self, regression: FitFunction, states: np.ndarray) -> None:
        rates = np.stack([0.2 + states[:, 0], 0.1 + 2 * states[:, 1]], axis=1)
        counts = np.random.default_rng(1).poisson(rates)
        predicted = regression(states, counts, np.ones(400), 1e-3)(states)
        for unit in range(2):
            assert np.corrcoef(predicted[:, unit], rates[:, unit])[0, 1] > 0.8

    @BOTH_REGRESSIONS
    def test_rows_without_bins_are_ignored(self, regression: FitFunction, states: np.ndarray) -> None:
        counts = np.random.default_rng(1).poisson(0.5, (400, 2)).astype(float)
        bins = np.ones(400)
        bins[200:] = 0
        garbage = np.where(bins[:, None] > 0, counts, 50.0)
        few = regression(states[:200], counts[:200], bins[:200], 1e-2)(states)
        np.testing.assert_allclose(regression(states, garbage, bins, 1e-2)(states), few, rtol=1e-4)

    @BOTH_REGRESSIONS
    def test_silent_unit_has_a_small_positive_rate(self, regression: FitFunction, states: np.ndarray) -> None:
        rates = regression(states, np.zeros((400, 1)), np.ones(400), 1e-2)(states)
        assert (rates > 0).all()
        assert rates.max() < 1 / 400

    @BOTH_REGRESSIONS
    def test_rates_are_positive_and_finite_in_extrapolation(self, regression: FitFunction, states: np.ndarray) -> None:
        predict = regression(states, np.random.default_rng(1).poisson(10 * states), np.ones(400), 1e-4)
        rates = predict(np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 9.0]]))
        assert (rates > 0).all()
        assert np.isfinite(rates).all()

    def test_penalty_does_not_depend_on_the_bin_width(self, states: np.ndarray) -> None:
        counts = np.random.default_rng(1).poisson(1.0 + states[:, :1])
        wide = fit_poisson(states, counts, np.ones(400), 0.1)(states)
        narrow = fit_poisson(states / 4, counts / 4, np.full(400, 4.0), 0.1)(states / 4)
        np.testing.assert_allclose(4 * narrow, wide, rtol=1e-3)

    def test_poisson_fit_without_penalty_equals_scikit_learn(self, states: np.ndarray) -> None:
        counts = np.random.default_rng(1).poisson(1.0 + 3 * states[:, 0])
        inputs = np.log(states + 2 * states.mean(0))
        expected = PoissonRegressor(alpha=0, tol=1e-9, max_iter=1000).fit(inputs, counts).predict(inputs)
        predicted = fit_poisson(states, counts[:, None], np.ones(400), 0.0)(states)[:, 0]
        np.testing.assert_allclose(predicted, expected, rtol=1e-3)


class TestBaseline:
    @BOTH_REGRESSIONS
    def test_scores_are_above_zero(self, regression: FitFunction, tmp_path_factory: pytest.TempPathFactory) -> None:
        subsets = _simulated(tmp_path_factory).subsets
        baseline = Baseline.fit(regression, subsets["fit"], subsets["selection"])
        scores = evaluate_rates(
            subsets["train"], subsets["eval"], (baseline.predict(subsets["train"]), baseline.predict(subsets["eval"]))
        )
        assert scores["co_bps"] > 0.05
        assert scores["vel_r2"] > 0.3

    @BOTH_REGRESSIONS
    def test_ignores_behavior_and_predicted_counts(self, regression: FitFunction, tiny: NLBDataModule) -> None:
        session, selection = tiny.subsets["fit"], tiny.subsets["selection"]
        rates = Baseline.fit(regression, session, selection).predict(tiny.subsets["eval"])
        without_behavior = Baseline.fit(regression, _without_behavior(session), _without_behavior(selection))
        hidden = _without_behavior(tiny.subsets["eval"])
        hidden.spikes[:, hidden.n_observed :] = 7
        hidden.spikes[:, :, hidden.n_heldin :] = 7
        torch.testing.assert_close(without_behavior.predict(hidden), rates, rtol=0, atol=0)

    @BOTH_REGRESSIONS
    def test_unrecorded_counts_change_nothing(self, regression: FitFunction) -> None:
        session = session_of(trials=30)
        session.observed[3, 2:, 1] = False
        session.observed[:9, -1] = False
        session.observed[4, 1, 0] = False
        garbage = replace(session, spikes=torch.where(session.valid_mask(torch.arange(30)), session.spikes, 200))
        expected = Baseline.fit(regression, session, session).predict(session)
        torch.testing.assert_close(Baseline.fit(regression, garbage, garbage).predict(garbage), expected)
        assert expected.isfinite().all()

    @BOTH_REGRESSIONS
    def test_only_forward_bins_are_fitted_without_held_out_units(self, regression: FitFunction) -> None:
        session = session_of(trials=30, heldin=5, heldout=0)
        baseline = Baseline.fit(regression, session, session)
        assert baseline.heldout is None
        assert baseline.hyperparameters.keys() == {"forward", "decoding"}
        assert baseline.predict(session).isfinite().all()

    def test_only_held_out_units_are_fitted_without_forward_bins(self) -> None:
        session = session_of(trials=30, forward=0)
        baseline = Baseline.fit(fit_ridge, session, session)
        assert baseline.hyperparameters.keys() == {"heldout", "decoding"}
        assert baseline.predict(session).shape == (30, 5, 5)

    def test_velocity_is_decoded_with_a_kernel_of_its_own(self) -> None:
        session = session_of(trials=80, bins=30, heldin=6)
        generator = torch.Generator().manual_seed(0)
        slow = torch.rand(80, 1, 6, generator=generator)
        spikes = session.spikes.clone()
        spikes[:, :30, :6] = torch.poisson(slow.expand(-1, 30, -1), generator=generator).byte()
        behavior = session.behavior.clone()
        behavior[:, :30] = slow @ torch.randn(6, 2, generator=generator)
        session = replace(session, spikes=spikes, behavior=behavior)
        baseline = Baseline.fit(fit_ridge, session.select(torch.arange(50)), session.select(torch.arange(50, 80)))
        assert baseline.decoding is not None
        assert baseline.decoding.sd_ms >= 200
        scores = baseline.evaluate(session, session)
        rates = baseline.predict(session)
        shared_kernel = evaluate_rates(session, session, (rates, rates))
        assert scores.keys() == shared_kernel.keys()
        narrow = replace(baseline, decoding=replace(baseline.decoding, sd_ms=20.0)).evaluate(session, session)
        assert scores["vel_r2"] > narrow["vel_r2"] + 0.1
        assert {name: scores[name] for name in scores if name != "vel_r2"} == {
            name: shared_kernel[name] for name in scores if name != "vel_r2"
        }

    def test_nothing_to_predict_raises(self) -> None:
        session = session_of(trials=30, heldin=5, heldout=0, forward=0)
        with pytest.raises(DataError, match="nothing to predict"):
            Baseline.fit(fit_ridge, session, session)

    @BOTH_REGRESSIONS
    def test_each_unit_is_fitted_on_its_own_bins(self, regression: FitFunction) -> None:
        whole = session_of(trials=60, heldin=3, heldout=3)
        coverage = torch.ones(60, 7, 1, dtype=torch.bool)
        coverage[:30] = False
        session = replace(
            whole,
            spikes=whole.spikes.clone(),
            observed=torch.cat([coverage, coverage, coverage, torch.ones_like(coverage)], -1),
            observed_column=torch.tensor([3, 2, 3, 2, 3, 2]),
        )
        session.spikes[:30, :, 1::2] = 0
        rates = Baseline.fit(regression, session, session).predict(session)
        assert rates.isfinite().all()
        expected = whole.spikes[30:].double().mean((0, 1))
        assert (rates[30:].mean((0, 1)) / expected - 1).abs().max() < 0.25
        assert (rates[:30, :, 1::2].mean((0, 1)) / expected[1::2] - 1).abs().max() < 0.25

    @BOTH_REGRESSIONS
    def test_unit_that_was_never_recorded_has_a_positive_rate(self, regression: FitFunction) -> None:
        session = session_of(trials=30)
        nowhere = torch.zeros(30, 7, 1, dtype=torch.bool)
        session = replace(
            session,
            observed=torch.cat([nowhere, nowhere, ~nowhere, nowhere], -1),
            observed_column=torch.tensor([2, 3, 2, 2, 3]),
        )
        rates = Baseline.fit(regression, session, session).predict(session)
        assert rates.isfinite().all()
        assert (rates[..., [1, 4]] > 0.1).all()


class TestCommand:
    def test_runs_are_compared_with_a_network(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        data = [f"--data.root={tmp_path / 'data'}", "--data.bin_ms=10", *SIMULATION]
        network = fit("simulated_baseline", tmp_path / "runs", *data, "--seed_everything=1")
        run_baseline(EXPERIMENTS / "simulated_baseline.yaml", f"--output={tmp_path / 'runs'}", "--seeds=[1,2]", *data)
        assert "simulated_glm" in capsys.readouterr().out
        (table,) = compare_runs([tmp_path / "runs"])
        assert [e.name for e in table.experiments] == [
            *("simulated_baseline", "simulated_glm", "simulated_smoothing", "simulated_wiener"),
        ]
        assert [run.seed for run in table.experiments[1].runs] == [1, 2]
        assert table.experiments[1].scores_by_seed("co_bps")[1] == table.experiments[1].scores_by_seed("co_bps")[2]
        results, of_network = table.experiments[1].runs[0].results, Results.read(network)
        assert results.role == of_network.role == BASELINE
        assert results.oracle == of_network.oracle
        assert results.scores.keys() == of_network.scores.keys()
        assert results.data_config == of_network.data_config
        assert table.experiments[3].runs[0].results.scores.keys() == {"vel_r2"}

        run_command(["report", str(tmp_path / "runs")])
        assert "simulated_glm" in (tmp_path / "runs/report/report.md").read_text()

    @pytest.mark.parametrize("name", ["area2_bump", "dmfc_rsg"])
    def test_recorded_sessions_have_finite_scores(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = EXPERIMENTS / f"{name}_baseline.yaml"
        run_baseline(path, f"--output={tmp_path}", *write_set(path, tmp_path / "data"), "--data.bin_ms=20")
        for method in ("smoothing", "glm"):
            (folder,) = (tmp_path / f"{name}_{method}").iterdir()
            results = Results.read(folder)
            assert results.oracle is None
            assert "co_bps" in results.scores
            assert all(np.isfinite(value) for value in results.scores.values())
        assert (tmp_path / f"{name}_wiener").exists() is (name == "area2_bump")
        assert ("no wiener baseline: the scored trials have no velocity" in capsys.readouterr().out) is (
            name == "dmfc_rsg"
        )

    def test_data_file_names_the_runs(self, tmp_path: Path) -> None:
        file = tmp_path / "my_session.yaml"
        settings = {"base": [str(EXPERIMENTS.parent / "configs/data/simulated.yaml")]}
        file.write_text(json.dumps(settings))
        run_baseline(file, f"--output={tmp_path / 'runs'}", *write_set(file, tmp_path / "data"))
        assert {path.name for path in (tmp_path / "runs").iterdir()} == {
            *("my_session_smoothing", "my_session_glm", "my_session_wiener"),
        }

    def test_given_candidates_are_used_and_their_edges_named(self, tmp_path: Path) -> None:
        file = EXPERIMENTS / "simulated_baseline.yaml"
        grid = ["--kernel_sds_ms=[20,700]", "--penalties=[10,1e4,1e6]", "--lags_ms=[40]"]
        data = [f"--data.root={tmp_path / 'data'}", "--data.bin_ms=20", *SIMULATION]
        with pytest.warns(UserWarning, match="is the smallest of its candidates .* extend --penalties") as caught:
            run_baseline(file, f"--output={tmp_path}", *grid, *data)
        lines = [str(warning.message) for warning in caught if "of its candidates" in str(warning.message)]
        assert lines
        assert all(line.startswith("simulated_") and "\n" not in line for line in lines)
        (folder,) = (tmp_path / "simulated_wiener").iterdir()
        chosen = Results.read(folder).chosen
        assert chosen is not None
        assert chosen["velocity"]["lag_ms"] == 40
        assert chosen["velocity"]["penalty"] == 10

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--penalties=[0]"], "penalties"),
            (["--data.bin_ms=wide"], "bin_ms"),
            (["--data.nonsense=1"], "nonsense"),
            (["--seeds=[]"], "no seeds"),
            (["--data.phase=test", "--data.selection_split=val"], "selection_split to train_holdout"),
            (["--data.phase=test", *SIMULATION], "--data.phase val"),
        ],
    )
    def test_invalid_arguments_raise_one_line_errors(self, arguments: list[str], message: str, tmp_path: Path) -> None:
        file = EXPERIMENTS / "simulated_baseline.yaml"
        with pytest.raises(BlendError, match=message) as caught:
            run_baseline(file, f"--output={tmp_path / 'runs'}", f"--data.root={tmp_path}", *arguments)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300
        assert not (tmp_path / "runs").exists()

    def test_file_without_data_settings_raises(self) -> None:
        with pytest.raises(ConfigError, match="no `data:` settings"):
            run_baseline(EXPERIMENTS.parent / "configs/trainer/simulated.yaml")


def _simulated(folders: pytest.TempPathFactory) -> NLBDataModule:
    simulation = replace(tiny_module(folders.mktemp("none")).simulation, n_train=80, n_val=40, n_units=30, n_heldout=8)
    return tiny_module(folders.mktemp("baseline"), simulation=simulation)


def _without_behavior(session: SessionTensors) -> SessionTensors:
    nothing = torch.full_like(session.behavior, torch.nan)
    return replace(session, behavior=nothing, spikes=session.spikes.clone())
