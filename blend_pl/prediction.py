"""Predicted rates of a trained system or a finished run."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from torch import Tensor

from blend_pl.data import NLBDataModule
from blend_pl.data.base import NeuralDataModule
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.settings import digest_of_settings, instantiate_datamodule
from blend_pl.errors import BlendError, ConfigError, DataError
from blend_pl.metrics import PsthR2, VelocityR2
from blend_pl.runs.digest import other_data_message
from blend_pl.runs.folder import BEST_CHECKPOINT, CHECKPOINT_DIR
from blend_pl.runs.results import Results
from blend_pl.systems.base import NeuralSystem
from blend_pl.systems.checkpoint import load_system


@dataclass(frozen=True, repr=False)
class Prediction:
    """Rates of all trials; T of T' bins are observed, N units.

    Attributes:
        datamodule: data module after `setup`.
        train_rates: expected counts per bin, (training trials, T', N).
        rates: expected counts per bin, (evaluation trials, T', N).
        other_data: says that the system was trained on other data; None if it was not, or if that is unknown.
    """

    datamodule: NLBDataModule
    train_rates: Tensor
    rates: Tensor
    other_data: str | None = None

    def __repr__(self) -> str:
        trials, bins, units = self.rates.shape
        return f"Prediction({trials} trials, {bins} bins, {units} units; {self.datamodule!r})"

    @property
    def train(self) -> SessionTensors:
        """Training trials, on which decoders are fitted."""
        return self.datamodule.subsets["train"]

    @property
    def session(self) -> SessionTensors:
        """Evaluation trials."""
        return self.datamodule.subsets["eval"]

    @cached_property
    def velocity(self) -> Tensor | None:
        """Velocity that the decoder of the benchmark predicts from the rates, (evaluation trials, T, Y).

        In the unit of the file, at the times of the spikes, which precede the movement by the lag of the decoder. None
        for a session without velocity.
        """
        if self.session.series_target != "velocity":
            return None
        sessions, bins = (self.train, self.session), self.session.n_observed
        targets = [session.velocity for session in sessions]
        if not all(target.isfinite().any() for target in targets):
            return None
        metric = VelocityR2(self.session.n_units, *targets, *(session.decode_mask for session in sessions))
        # This process has all trials; there is nothing to reduce over the ranks of a training.
        metric.distributed_available_fn = lambda: False
        for rates, is_train in ((self.train_rates, True), (self.rates, False)):
            metric.update(rates[:, :bins], torch.arange(len(rates)), is_train)
        metric.compute()
        return metric.decode(self.rates[:, :bins], self.session.decode_mask)

    def psth(self) -> Tensor:
        """Returns (conditions, T, N) mean expected counts per bin around the event; NaN without trials."""
        session = self.session
        metric = PsthR2(session.psth)
        metric.update(self.rates[:, : session.n_observed], session.condition, session.jitter)
        undefined = (metric.trial_counts == 0)[:, None, None] | session.psth.isnan()
        return metric.predicted_psth.masked_fill(undefined, torch.nan)


def predict(system: NeuralSystem, datamodule: NeuralDataModule) -> Prediction:
    """Predicts the rates of all training and evaluation trials, without masks, on the device of the system.

    Args:
        system: a trained student or teacher.
        datamodule: the data, an `NLBDataModule`; it is set up if it is not.

    Returns:
        The rates, on the CPU.

    Raises:
        ConfigError: the system is not trained.
        DataError: the data are missing or damaged, or are not those of the system.
        TeacherError: there is no behavior for a teacher.
    """
    if system.signature is None:
        raise ConfigError(f"the {type(system).__name__} is not trained; call trainer.fit with it first")
    if not isinstance(datamodule, NLBDataModule):
        raise DataError(f"only rates of an NLBDataModule can be predicted, not those of {type(datamodule).__name__}")
    datamodule.prepare_data()
    datamodule.setup("test")
    if not system.signature.is_compatible_with(datamodule.signature):
        raise DataError(f"the system was trained on {system.signature}, but the data are {datamodule.signature}")
    prediction = _predict(system, datamodule, "the system")
    if prediction.other_data is not None:
        warnings.warn(prediction.other_data, stacklevel=2)
    return prediction


def _predict(system: NeuralSystem, datamodule: NLBDataModule, name: str) -> Prediction:
    """Predicts rates for data that are set up; `name` is the name of the system in messages."""
    rates, was_training = [], system.training
    system.eval()
    with torch.no_grad():
        for loader in datamodule.test_dataloader().loaders:
            batches = (batch.to(system.device) for batch in loader)
            rates.append(torch.cat([system.predict_step(batch, index).cpu() for index, batch in enumerate(batches)]))
    system.train(was_training)
    return Prediction(datamodule, rates[0], rates[1], other_data_message(name, system.data_digest, datamodule.digest))


def predict_run(run: Path, checkpoint: str = BEST_CHECKPOINT) -> Prediction:
    """Predicts the rates of the session of a run with one of its checkpoints, on the CPU.

    Args:
        run: folder of a finished run.
        checkpoint: file name in the folder of checkpoints; by default the selected checkpoint.

    Raises:
        DataError: the results or the recording are missing or damaged, or the recording has other units or bins.
        TeacherError: the checkpoint is missing or damaged, or there is no behavior for a teacher.
    """
    system = load_system(run / CHECKPOINT_DIR / checkpoint)
    datamodule = load_datamodule(run)
    datamodule.setup("test")
    if system.signature != datamodule.signature:
        raise DataError(f"{run} was trained on {system.signature}, but its data are now {datamodule.signature}")
    return _predict(system, datamodule, str(run))


def digest_of_recording(run: Path) -> str | None:
    """Returns the digest of the recordings of a finished run as they are now.

    Returns:
        See `NeuralDataModule.digest`; None if the session is simulated, or if its files are missing or cannot be used.
        Nothing is downloaded.
    """
    results = Results.read(run)
    settings = _resolve_paths(run, results)
    spec = settings["init_args"].get("spec")
    if results.is_simulated or not isinstance(spec, dict):
        return None
    init_args = {**settings["init_args"], "spec": {**spec, "archive": None}}
    try:
        return digest_of_settings({**settings, "init_args": init_args})
    except (ArgumentError, BlendError):
        return None


def load_datamodule(run: Path) -> NLBDataModule:
    """Returns the data module of a finished run, before `setup`.

    Raises:
        DataError: the run has no results, or its settings are invalid in this version.
    """
    results = Results.read(run)
    try:
        datamodule = instantiate_datamodule(_resolve_paths(run, results))
    except (ArgumentError, ConfigError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"the data settings of {run} are invalid in this version: {reason}; run it again") from error
    if not isinstance(datamodule, NLBDataModule):
        raise DataError(
            f"{run} was trained on {type(datamodule).__name__}, and only rates of an NLBDataModule can be predicted"
        )
    return datamodule


def _resolve_paths(run: Path, results: Results) -> dict[str, Any]:
    """Returns the data settings, with data folders relative to the working directory of `fit`, if they still exist."""
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
