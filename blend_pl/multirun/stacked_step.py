"""Training and validation step of all replicas at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import Tensor

from blend_pl.data.batch import Batch
from blend_pl.distillation.true_rates import TrueRates
from blend_pl.masking import concatenate_mask_samples
from blend_pl.multirun.replica import IGNORED_ATTRIBUTES, DistillationStep, Replica
from blend_pl.multirun.stacking import ModuleStack
from blend_pl.systems.base import NeuralSystem
from blend_pl.utils.buffers import preserve_buffers


class StackedStep:
    """Computes the distillation steps of several replicas at once.

    Args:
        replicas: replicas of one architecture, built.

    Attributes:
        stack: stack of their distillation steps.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.systems = [replica.system for replica in replicas]
        self.stack = ModuleStack([replica.distillation_step for replica in replicas], IGNORED_ATTRIBUTES)

    def losses(self, batch: Batch, seeds: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """Computes the terms of the objective, (K,) each.

        Args:
            batch: K * B trials, replica after replica, on this process only (no data parallelism).
            seeds: seed of each replica's masks.
            epoch: training epoch; see `NeuralSystem.mask`.
        """
        n_replicas, (_, bins, channels) = len(self.systems), batch.observed.shape
        size = batch.global_size, bins, channels
        mask_samples = [system.sample_mask(size, seed, epoch) for system, seed in zip(self.systems, seeds, strict=True)]
        # The replicas differ in the masks that they draw, not in how masks are applied.
        masked, loss_mask = self.systems[0].apply_mask(batch, concatenate_mask_samples(mask_samples))

        def step(module: DistillationStep, tensors: dict[str, Tensor], loss_mask: Tensor) -> dict[str, Tensor]:
            replica_losses: dict[str, Tensor] = module(Batch(**tensors, global_size=size[0]), loss_mask)
            return replica_losses

        tensors = {name: tensor.unflatten(0, (n_replicas, -1)) for name, tensor in _tensor_fields(masked).items()}
        losses: dict[str, Tensor] = self.stack(step, tensors, loss_mask.unflatten(0, (n_replicas, -1)))
        return losses

    def predict_with_loss(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts one validation batch by all replicas; see `PopulationSystem.predict_with_loss`.

        Args:
            batch: B trials.
            batch_idx: index of the batch, which seeds its masks.

        Returns:
            Expected counts per bin, losses of the entries, and the mask of entries in the loss, (K, B, T', N) each.
        """
        system_of_masking = {repr(system.masking): system for system in self.systems}
        batch_of_masking = {
            masking: system.mask_for_validation(batch, batch_idx) for masking, system in system_of_masking.items()
        }
        replica_batches = [batch_of_masking[repr(system.masking)] for system in self.systems]
        tensors = [_tensor_fields(masked) for masked, _ in replica_batches]
        loss_mask = _stack_or_expand([loss_mask for _, loss_mask in replica_batches])

        def step(module: DistillationStep, tensors: dict[str, Tensor], loss_mask: Tensor) -> tuple[Tensor, Tensor]:
            return module.system.predict_with_loss(Batch(**tensors, global_size=batch.global_size), loss_mask)

        with self._eval_mode():
            rates, losses = self.stack(
                step, {name: _stack_or_expand([t[name] for t in tensors]) for name in tensors[0]}, loss_mask
            )
        return rates, losses, loss_mask

    @contextmanager
    def _eval_mode(self) -> Iterator[None]:
        """Puts the stack into evaluation mode and restores the modes on exit."""
        modes = [(module, module.training) for module in self.stack.template.modules()]
        self.stack.template.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def stacking_unsupported_reason(replicas: Sequence[Replica], batch: Batch) -> str | None:
    """Tries a step and returns why replicas cannot be stacked (e.g. an error of `torch.func.vmap`), or None.

    Args:
        replicas: replicas of one architecture, built; the first two are tried.
        batch: any batch; its first two trials are used.
    """
    teachers = (teacher for replica in replicas for teacher in replica.distillation_step.teachers)
    if any(isinstance(teacher, NeuralSystem | TrueRates) and teacher.teaches_without_masks for teacher in teachers):
        return "each run has its own table of predictions of its teacher"
    rows = torch.arange(len(batch), device=batch.global_rows.device)[:2]
    size = len(rows)
    small_batch, stacked_batch = (
        Batch(**{name: tensor[indices].to("cpu") for name, tensor in _tensor_fields(batch).items()}, global_size=size)
        for indices in (rows, rows.repeat(2))
    )
    small_batch.global_rows, stacked_batch.global_rows = torch.arange(size), torch.arange(size).repeat(2)
    pair = replicas[:2]
    try:
        with preserve_buffers(*(replica.distillation_step for replica in pair)):
            stacked_step = StackedStep(pair)
            stacked_step.losses(stacked_batch, [0, 0], 0)["loss"].sum().backward()
            with torch.no_grad():
                stacked_step.predict_with_loss(small_batch, 0)
    except (RuntimeError, TypeError) as error:  # Versions of torch before 2.7 raise a TypeError.
        return str(error).splitlines()[0]
    return None


def _stack_or_expand(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the replicas' tensors as (K, ...), without a copy if all are the same tensor."""
    first = tensors[0]
    same = all(tensor is first for tensor in tensors)
    return first.expand(len(tensors), *first.shape) if same else torch.stack([*tensors])


def _tensor_fields(batch: Batch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
