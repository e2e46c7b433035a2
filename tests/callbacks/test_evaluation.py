from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from helpers.sessions import tiny_module
from helpers.systems import trainer
from torch import Tensor

from blend_pl.callbacks import NLBEvaluation
from blend_pl.data.batch import Batch
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.metrics.nlb import SCORES, evaluate_rates


class NoisyOracle(L.LightningModule):
    """Predicts the true rates, blurred by a factor that depends on the trial."""

    def __init__(self, module: NLBDataModule, noise: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        generator = torch.Generator().manual_seed(0)
        self.rates: dict[str, Tensor] = {}
        self.n_train_batches = len(module.test_dataloader().loaders[0])
        for part in ("selection", "train", "eval"):
            rates = module.true_rates(part)
            assert rates is not None
            self.rates[part] = rates * (noise * torch.randn(rates.shape, generator=generator)).exp()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.weight.square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.rates["selection"][batch.index]

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.rates["train" if batch_idx < self.n_train_batches else "eval"][batch.index]


@pytest.mark.parametrize("eval_batch_size", [3, 256])
def test_test_scores_all_reported_trials(tiny_root: Path, tmp_path: Path, eval_batch_size: int) -> None:
    module = tiny_module(tiny_root, eval_batch_size=eval_batch_size)
    noisy_oracle, evaluation = NoisyOracle(module, 0.5), NLBEvaluation()
    (logged,) = trainer(tmp_path, 1, evaluation).test(noisy_oracle, datamodule=module, verbose=False)
    parts, rates = module.subsets, noisy_oracle.rates
    expected = evaluate_rates(parts["train"], parts["eval"], (rates["train"], rates["eval"]))
    assert set(expected) == set(SCORES) - {"tp_corr", "speed_r2", "pos_r2"}
    assert evaluation.scores == pytest.approx(expected, abs=1e-5)
    assert {name.removeprefix("eval/"): value for name, value in logged.items() if "eval/" in name} == pytest.approx(
        expected, abs=1e-5
    )


def test_true_rates_are_the_oracle(tiny: NLBDataModule, tmp_path: Path) -> None:
    evaluation = NLBEvaluation()
    trainer(tmp_path, 1, evaluation).test(NoisyOracle(tiny, 0.0), datamodule=tiny, verbose=False)
    assert evaluation.oracle == pytest.approx(evaluation.scores, abs=1e-5)
    assert evaluation.oracle is not None
    assert evaluation.oracle["co_bps"] > 0


def test_noise_scores_below_the_oracle(tiny: NLBDataModule, tmp_path: Path) -> None:
    evaluation = NLBEvaluation()
    trainer(tmp_path, 1, evaluation).test(NoisyOracle(tiny, 1.0), datamodule=tiny, verbose=False)
    assert evaluation.oracle is not None
    assert all(evaluation.scores[name] < evaluation.oracle[name] for name in ("co_bps", "fp_bps", "psth_r2"))


def test_oracle_is_none_without_true_rates(
    tiny: NLBDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy_oracle, evaluation = NoisyOracle(tiny, 0.5), NLBEvaluation()
    monkeypatch.setattr(tiny, "true_rates", lambda part: None)
    trainer(tmp_path, 1, evaluation).test(noisy_oracle, datamodule=tiny, verbose=False)
    assert evaluation.oracle is None
    assert set(evaluation.scores) == set(SCORES) - {"tp_corr", "speed_r2", "pos_r2"}


def test_each_epoch_scores_the_trials_that_select_the_checkpoint(tiny_root: Path, tmp_path: Path) -> None:
    module = tiny_module(tiny_root, eval_batch_size=2)
    logged: list[dict[str, Any]] = []

    class Record(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    noisy_oracle = NoisyOracle(module, 0.5)
    trainer(tmp_path, 2, NLBEvaluation(), Record()).fit(noisy_oracle, datamodule=module)
    selection = module.subsets["selection"]
    expected = evaluate_rates(selection, selection, (noisy_oracle.rates["selection"],) * 2)["co_bps"]
    assert [epoch["val/co_bps"] for epoch in logged] == pytest.approx([expected] * 2, abs=1e-5)
    assert not any(name.startswith(("val/vel", "val/psth", "eval/")) for name in logged[0])
