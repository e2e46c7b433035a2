"""Writing of predicted rates."""

from pathlib import Path
from typing import Any

import h5py
import lightning as L
import torch
from torch import Tensor

from blend_pl.data.base import datamodule_of
from blend_pl.data.batch import Batch
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import ConfigError
from blend_pl.utils.files import atomic_file


class RatesWriter(L.Callback):
    """Writes the rates of the evaluated trials of all ranks after `predict`.

    The HDF5 file holds eval_rates_heldin, eval_rates_heldout, eval_rates_heldin_forward and eval_rates_heldout_forward
    as in a submission to NLB'21, (trials, bins, units) in spikes per bin, and trial_id.

    Args:
        path: path of the HDF5 file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rates: Tensor | None = None

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.rates is None:
            n_trials = len(_evaluated_session(trainer))
            self.rates = outputs.new_zeros((n_trials, *outputs.shape[1:]))
        self.rates[batch.index] = outputs

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert self.rates is not None
        # Each trial is on one rank and 0 on all others.
        rates = torch.as_tensor(trainer.strategy.reduce(self.rates, reduce_op="sum")).cpu().numpy()
        if not trainer.is_global_zero:
            return
        session = _evaluated_session(trainer)
        bins, heldin = session.n_observed, session.n_heldin
        with atomic_file(self.path) as path, h5py.File(path, "w") as file:
            file["trial_id"] = session.trial_id.numpy()
            file["eval_rates_heldin"] = rates[:, :bins, :heldin]
            file["eval_rates_heldout"] = rates[:, :bins, heldin:]
            file["eval_rates_heldin_forward"] = rates[:, bins:, :heldin]
            file["eval_rates_heldout_forward"] = rates[:, bins:, heldin:]
        print(f"rates of {len(rates)} trials: {self.path}")


def _evaluated_session(trainer: L.Trainer) -> SessionTensors:
    datamodule = datamodule_of(trainer)
    if not isinstance(datamodule, NLBDataModule):
        raise ConfigError(f"rates are those of an NLBDataModule's trials, not of {type(datamodule).__name__}")
    return datamodule.subsets["eval"]
