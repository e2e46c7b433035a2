"""A callback that records losses, gradients and weights of every rank."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from blend_pl.callbacks import Distillation


class Spy(L.Callback):
    """Saves loss and gradients of every step and the final weights of student and teachers, in one file per rank.

    Args:
        folder: folder of the files.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.losses: list[float] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        named_parameters = pl_module.named_parameters()
        self.gradients.append({name: p.grad.clone() for name, p in named_parameters if p.grad is not None})

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        distillations = [c for c in trainer.callbacks if isinstance(c, Distillation)]  # type: ignore[attr-defined]
        teachers = [teacher.state_dict() for distillation in distillations for teacher in distillation.teachers]
        record = {
            "losses": torch.tensor(self.losses),
            "gradients": self.gradients,
            "teachers": teachers,
            "student": pl_module.state_dict(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(record, self.folder / f"rank{trainer.global_rank}.pt")
