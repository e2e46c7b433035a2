import json
from pathlib import Path

import pytest
import torch
from helpers.cli import SIMULATION, fit

from blend_pl.errors import DataError, TeacherError
from blend_pl.metrics.nlb import evaluate_rates
from blend_pl.prediction import predict_run
from blend_pl.runs.results import Results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prediction")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder / fit("simulated_baseline", Path("runs"), *SIMULATION)


def test_rates_have_the_scores_of_the_run(run: Path) -> None:
    prediction = predict_run(run)
    scores = evaluate_rates(prediction.train, prediction.session, (prediction.train_rates, prediction.rates))
    assert scores == pytest.approx(Results.read(run).scores, abs=1e-6)


def test_another_checkpoint_can_be_asked_for(run: Path) -> None:
    path = run / "checkpoints/other.ckpt"
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["state_dict"] = {name: value * 0.5 for name, value in checkpoint["state_dict"].items()}
    torch.save(checkpoint, path)
    assert not torch.equal(predict_run(run).rates, predict_run(run, path.name).rates)


def test_decoded_velocity_has_the_score_of_the_run(run: Path) -> None:
    prediction = predict_run(run)
    true = prediction.session.behavior[:, : prediction.session.n_observed].double().flatten(0, 1)
    velocity = prediction.velocity
    assert velocity is not None
    error, total = true - velocity.flatten(0, 1), true - true.mean(0)
    r2 = (1 - error.square().sum(0) / total.square().sum(0)).mean()
    assert float(r2) == pytest.approx(Results.read(run).scores["vel_r2"], abs=1e-6)


def test_psth_is_the_mean_over_trials_of_a_condition(run: Path) -> None:
    prediction = predict_run(run)
    session = prediction.session
    condition = int(session.condition[0])
    expected = prediction.rates[session.condition == condition, : session.n_observed].mean(0)
    torch.testing.assert_close(prediction.psth()[condition], expected.double())


def test_relative_data_are_found_from_any_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    predict_run(run)
    assert list(tmp_path.iterdir()) == []


def test_data_of_another_session_are_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "checkpoints/best.ckpt").write_bytes((run / "checkpoints/best.ckpt").read_bytes())
    results = json.loads((run / "results.json").read_text())
    results["config"]["data"]["init_args"] |= {"bin_ms": 10, "root": str(tmp_path)}
    (copy / "results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match=r"was trained on .*20 ms.*now .*10 ms"):
        predict_run(copy)


def test_settings_of_another_version_are_refused(run: Path, tmp_path: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    results["config"]["data"]["init_args"]["colour"] = "red"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/best.ckpt").write_bytes((run / "checkpoints/best.ckpt").read_bytes())
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match="are invalid in this version"):
        predict_run(tmp_path)


def test_run_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="there is no checkpoint"):
        predict_run(tmp_path)
