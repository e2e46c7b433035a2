"""The rates of a finished run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch.core import LightningDataModule
from torch import Tensor

from blend_pl.data import NLBDataModule
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.metrics import PsthR2, VelocityR2
from blend_pl.runs.folder import BEST_CHECKPOINT, CHECKPOINT_DIR
from blend_pl.runs.results import Results
from blend_pl.systems.checkpoint import load_system


@dataclass(frozen=True)
class Prediction:
    """Rates of all trials; T observed of T' bins, N units.

    Attributes:
        datamodule: the session, set up.
        train_rates: (train trials, T', N) expected counts per bin.
        rates: (reported trials, T', N) expected counts per bin.
    """

    datamodule: NLBDataModule
    train_rates: Tensor
    rates: Tensor

    @property
    def train(self) -> SessionTensors:
        """Trials that a decoder is fitted on."""
        return self.datamodule.subsets["train"]

    @property
    def session(self) -> SessionTensors:
        """Trials that are reported."""
        return self.datamodule.subsets["eval"]

    @cached_property
    def velocity(self) -> Tensor | None:
        """(reported trials, T, Y) velocity as the benchmark's decoder reads it from the rates, in the file's unit.

        None for a session without velocity. Times are those of the spikes: the hand is there a lag later.
        """
        sessions, bins = (self.train, self.session), self.session.n_observed
        targets = [session.velocity for session in sessions]
        if not all(target.isfinite().any() for target in targets):
            return None
        metric = VelocityR2(self.session.n_units, *targets, *(session.decode_mask for session in sessions))
        # All trials are here: the ranks of a training, if it is one that asks, have nothing to add.
        metric.distributed_available_fn = lambda: False
        for rates, is_train in ((self.train_rates, True), (self.rates, False)):
            metric.update(rates[:, :bins], torch.arange(len(rates)), is_train)
        metric.compute()
        return metric.decode(self.rates[:, :bins], self.session.decode_mask)

    def psth(self) -> Tensor:
        """(conditions, T, N) mean rates around the event, expected counts per bin; NaN where nothing is known."""
        session = self.session
        metric = PsthR2(session.psth)
        metric.update(self.rates[:, : session.n_observed], session.condition, session.jitter)
        undefined = (metric.trial_counts == 0)[:, None, None] | session.psth.isnan()
        return metric.predicted_psth.masked_fill(undefined, torch.nan)


def predict(run: Path, checkpoint: str = BEST_CHECKPOINT) -> Prediction:
    """Predicts the rates of a run's session with one of its checkpoints, on the CPU.

    Args:
        run: folder of a finished run.
        checkpoint: name of the file in its folder of checkpoints; by default the one that was selected.

    Raises:
        DataError: the results or the recording are missing or damaged, or the recording is not what was trained on.
        TeacherError: the checkpoint is missing or damaged, or a teacher has no behaviour to see.
    """
    system = load_system(run / CHECKPOINT_DIR / checkpoint)
    datamodule = load_datamodule(run)
    datamodule.setup("test")
    if system.signature != datamodule.signature:
        raise DataError(f"{run} was trained on {system.signature}, but its data are now {datamodule.signature}")
    rates = []
    with torch.no_grad():
        for batches in datamodule.test_dataloader():
            rates.append(torch.cat([system.predict_step(batch, batch_idx) for batch_idx, batch in enumerate(batches)]))
    return Prediction(datamodule, *rates)


def load_datamodule(run: Path) -> NLBDataModule:
    """The data module that a finished run was trained with, not yet set up.

    Raises:
        DataError: the run has no results, or its settings do not fit this version.
    """
    results = Results.read(run)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    try:
        datamodule = parser.instantiate_classes(parser.parse_object({"data": _resolve_paths(run, results)})).data
    except ArgumentError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"the data settings of {run} do not fit this version: {reason}; run it again") from error
    if not isinstance(datamodule, NLBDataModule):
        raise DataError(f"{run} was trained on {type(datamodule).__name__}, whose rates cannot be predicted here")
    return datamodule


def _resolve_paths(run: Path, results: Results) -> dict[str, Any]:
    """The data settings, with a relative data folder taken from where `fit` was called, if it is still there."""
    data, output = results.data_config, results.output
    output_dir = run.resolve().parents[1]
    if output.is_absolute() or output_dir.parts[-len(output.parts) :] != output.parts:
        return data
    working_dir = output_dir.parents[len(output.parts) - 1]
    init_args = dict(data["init_args"])
    for key in ("root", "cache_dir"):
        if init_args.get(key) and (working_dir / init_args[key]).exists():
            init_args[key] = str(working_dir / init_args[key])
    return {**data, "init_args": init_args}
