"""The optimisers of several models as one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Optimizers(Optimizer):
    """Steps the optimiser and the learning rate of every model that still trains.

    Args:
        members: optimiser and schedule of each model.
    """

    def __init__(self, members: Sequence[tuple[Optimizer, LRScheduler]]) -> None:
        self.members = members
        self.active = list(range(len(members)))
        super().__init__([group for optimizer, _ in members for group in optimizer.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of each, after `closure`, whose value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index in self.active:
            optimizer, schedule = self.members[index]
            optimizer.step()
            schedule.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Those of all models."""
        return {"members": [(optimizer.state_dict(), schedule.state_dict()) for optimizer, schedule in self.members]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        for (optimizer, schedule), state in zip(self.members, state_dict["members"], strict=True):
            optimizer.load_state_dict(state[0])
            schedule.load_state_dict(state[1])
