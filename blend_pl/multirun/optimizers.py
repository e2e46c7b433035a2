"""Optimizers and schedules of all replicas as one optimizer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.multirun.stacked_adam import StackedAdam
from blend_pl.multirun.stacking import ModuleStack

REPLICAS = "replicas"


class StackedOptimizer(Optimizer):
    """Steps optimizer and learning-rate schedule of every active replica, by `StackedAdam` where it supports them.

    Args:
        optimizers_and_schedules: optimizer and schedule of each replica.

    Attributes:
        gradients: (K, P) gradients of the stack's `flat_parameters`, set by the closure of a step.
    """

    gradients: Tensor

    def __init__(self, optimizers_and_schedules: Sequence[tuple[Optimizer, LRScheduler]]) -> None:
        self.optimizers_and_schedules = optimizers_and_schedules
        self.adam: StackedAdam | None = None
        super().__init__([group for optimizer, _ in optimizers_and_schedules for group in optimizer.param_groups], {})

    def set_active(self, active: Sequence[int], stack: ModuleStack) -> None:
        """Sets the replicas that the next steps train.

        Args:
            active: indices of the replicas.
            stack: stack of their modules.
        """
        self._release_adam()
        self.active, self.stack = active, stack
        optimizers = [self.optimizers_and_schedules[index][0] for index in active]
        if StackedAdam.supports(optimizers, stack):
            self.adam = StackedAdam(optimizers, stack)

    def _release_adam(self) -> None:
        if self.adam is not None:
            self.adam.export_state()
        self.adam = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps each active replica after calling `closure`, and returns its value."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.adam is not None and self.stack.has_all_gradients:
            self.adam.step(self.gradients)
        else:
            self._release_adam()
            self.stack.scatter_gradients(self.gradients)
            for index in self.active:
                self.optimizers_and_schedules[index][0].step()
        for index in self.active:
            self.optimizers_and_schedules[index][1].step()
        return loss

    def clip(self, limit: float, by_value: bool) -> None:
        """Clips the gradients of each replica like `nn.utils.clip_grad_norm_`, or `clip_grad_value_` if `by_value`."""
        if by_value:
            self.gradients.clamp_(-limit, limit)
            return
        norms = torch.linalg.vector_norm(self.gradients, dim=1, keepdim=True)
        self.gradients.mul_((limit / (norms + 1e-6)).clamp(max=1.0))

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of the optimizers and schedules of all replicas."""
        if self.adam is not None:
            self.adam.export_state()
        return {
            REPLICAS: [
                (optimizer.state_dict(), schedule.state_dict()) for optimizer, schedule in self.optimizers_and_schedules
            ]
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state returned by `state_dict`."""
        for (optimizer, schedule), state in zip(self.optimizers_and_schedules, state_dict[REPLICAS], strict=True):
            optimizer.load_state_dict(state[0])
            schedule.load_state_dict(state[1])
