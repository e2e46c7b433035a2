"""The contract of data modules, on which systems, callbacks and the command line rely."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.data.loader import BatchLoader
from blend_pl.data.signature import Signature
from blend_pl.errors import ConfigError


class NeuralDataModule(L.LightningDataModule, ABC):
    """Abstract base class of all data modules.

    `prepare_data` downloads or simulates missing files. `setup` reads them; without a preceding `prepare_data` it first
    does the same, safely in many processes at once. Everything else needs `setup`.

    Args:
        root: data folder.

    Attributes:
        phase: names what is scored, for the results.
    """

    phase: str

    def __init__(self, root: str = "data") -> None:
        super().__init__()
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    def __str__(self) -> str:
        return repr(self)

    def describe(self) -> str:
        """Describes the data in a line, for `repr`."""
        return ""

    @abstractmethod
    def setup(self, stage: str) -> None:
        """Reads the recordings and divides them; does nothing when called again.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            ConfigError: the settings contradict one another or the recordings.
            DataError: a recording is missing or cannot be used.
        """

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """Sizes and ids on which a model must agree to run on these data."""

    @property
    @abstractmethod
    def digest(self) -> str | None:
        """Digest of what a model of these data sees and is scored on; see `content_digest`.

        It is equal in every folder and on every machine, and does not depend on batch sizes. None if only a part of the
        data was read, as to predict test trials.
        """

    @property
    @abstractmethod
    def selection(self) -> str:
        """Describes how the checkpoint is selected, for the results."""

    @property
    @abstractmethod
    def eval_has_behavior(self) -> bool:
        """Whether the evaluated data have behavior, which a behavior teacher needs as input."""

    @abstractmethod
    def train_dataloader(self) -> BatchLoader[Any, Batch]:
        """Returns this rank's training batches, in an order drawn each epoch."""

    @abstractmethod
    def val_dataloader(self) -> BatchLoader[Any, Batch]:
        """Returns this rank's batches for the selection of the checkpoint."""

    @abstractmethod
    def test_dataloader(self) -> Any:
        """Returns this rank's batches for `test`."""

    @abstractmethod
    def predict_dataloader(self) -> BatchLoader[Any, Batch]:
        """Returns this rank's batches for `predict`.

        Raises:
            ConfigError: nothing can be predicted for these data.
        """

    @abstractmethod
    def calibration_dataloader(self) -> BatchLoader[Any, Batch]:
        """Returns training batches in a fixed order, the same on every rank."""

    def true_rates(self, subset: str) -> Tensor | None:
        """Returns the rates that generated a subset's spikes, or None if they are not known."""
        return None

    def draw_new_rates(self, n_trials: int) -> Tensor | None:
        """Returns the (n_trials, T', N) expected counts of further trials of a simulated population, None otherwise."""
        return None

    @property
    def device(self) -> torch.device:
        """The device on which batches are served: the trainer's, or the CPU without a trainer."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def seed_and_rank(self) -> tuple[int, int, int]:
        """Returns the run's seed, equal on all ranks, the rank, and the number of ranks."""
        if self.trainer is None:
            return 0, 0, 1
        seed = self.trainer.strategy.broadcast(torch.initial_seed())
        return seed, self.trainer.global_rank, self.trainer.world_size


def datamodule_of(trainer: L.Trainer) -> NeuralDataModule:
    """Returns the trainer's data module.

    Raises:
        ConfigError: the trainer has none.
    """
    datamodule: NeuralDataModule | None = getattr(trainer, "datamodule", None)
    if datamodule is None:
        raise ConfigError("the trainer has no data module; pass one, as in trainer.fit(system, datamodule=...)")
    return datamodule
