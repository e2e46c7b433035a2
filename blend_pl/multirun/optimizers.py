"""The optimisers of several models as one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from blend_pl.multirun.stacked_adam import StackedAdam
from blend_pl.multirun.stacking import ModuleStack


class StackedOptimizer(Optimizer):
    """Steps the optimiser and the learning rate of every model that still trains: all at once if that is possible.

    Args:
        optimizers_and_schedules: optimiser and schedule of each model.

    Attributes:
        gradients: (K, P) of the stack's values, after the closure of a step.
    """

    gradients: Tensor

    def __init__(self, optimizers_and_schedules: Sequence[tuple[Optimizer, LRScheduler]]) -> None:
        self.optimizers_and_schedules = optimizers_and_schedules
        self.adam: StackedAdam | None = None
        super().__init__([group for optimizer, _ in optimizers_and_schedules for group in optimizer.param_groups], {})

    def set_active(self, active: Sequence[int], stack: ModuleStack) -> None:
        """Chooses who is trained from now on.

        Args:
            active: places of the models.
            stack: of them.
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

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of each, after `closure`, whose value is returned."""
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
        """Clips the gradients of each model, as `nn.utils.clip_grad_norm_` or `clip_grad_value_` does those of one."""
        if by_value:
            self.gradients.clamp_(-limit, limit)
            return
        norms = torch.linalg.vector_norm(self.gradients, dim=1, keepdim=True)
        self.gradients.mul_((limit / (norms + 1e-6)).clamp(max=1.0))

    def state_dict(self) -> dict[str, Any]:
        """Those of all models."""
        if self.adam is not None:
            self.adam.export_state()
        return {
            "members": [
                (optimizer.state_dict(), schedule.state_dict()) for optimizer, schedule in self.optimizers_and_schedules
            ]
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        for (optimizer, schedule), state in zip(self.optimizers_and_schedules, state_dict["members"], strict=True):
            optimizer.load_state_dict(state[0])
            schedule.load_state_dict(state[1])
