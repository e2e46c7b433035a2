"""Adam for several models at once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from blend_pl.multirun.stacking import Stack
from blend_pl.utils.device import sent

PLAIN = {"amsgrad": False, "maximize": False, "differentiable": False}
"""Settings under which the update is the one below."""
STEP, FIRST, SECOND = "step", "exp_avg", "exp_avg_sq"
"""Names in the state of torch's optimisers."""


class StackedAdam:
    """What each member's `torch.optim.Adam` or `AdamW` would do, in a few operations on the values of all.

    Members may differ in learning rate, betas, eps and weight decay (Kingma & Ba, 2015; Loshchilov & Hutter, 2019).

    Args:
        optimizers: of the members of the stack, for which `possible` holds. Their settings are read at each step.
        stack: what they train.
    """

    def __init__(self, optimizers: Sequence[Optimizer], stack: Stack) -> None:
        self.optimizers, self.stack = optimizers, stack
        self.first, self.second = torch.zeros_like(stack.values), torch.zeros_like(stack.values)
        states = [state for optimizer in optimizers for state in optimizer.state.values()]
        self.steps = int(states[0][STEP]) if states else 0
        for optimizer in optimizers:
            # Or a schedule would complain of having been stepped before it.
            optimizer._opt_called = True  # type: ignore[attr-defined]
        for name, moments in ((FIRST, self.first), (SECOND, self.second)):
            for parameter, part in stack.parts(moments).items():
                for optimizer, member, own in zip(optimizers, stack.members, part, strict=True):
                    if state := optimizer.state.get(member[parameter]):
                        own.copy_(state[name])

    @staticmethod
    def possible(optimizers: Sequence[Optimizer], stack: Stack) -> bool:
        """Whether the optimisers are such, and have made as many steps with every parameter."""
        if any(type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) > 1 for optimizer in optimizers):
            return False
        groups = [optimizer.param_groups[0] for optimizer in optimizers]
        trained = [[member[name] for name in stack.trained] for member in stack.members]
        states = [o.state.get(parameter) for o, own in zip(optimizers, trained, strict=True) for parameter in own]
        steps = [state[STEP] for state in states if state]
        return (
            stack.values.dtype in (torch.float32, torch.float64)
            and all(group[name] == value for group in groups for name, value in PLAIN.items())
            and not any(isinstance(value, Tensor) for group in groups for value in (group["lr"], *group["betas"]))
            and len({_is_decoupled(optimizer) for optimizer in optimizers}) == 1
            and all({*group["params"]} == {*own} for group, own in zip(groups, trained, strict=True))
            and len(steps) in (0, len(states))
            and (not steps or len({*torch.stack(steps).tolist()}) == 1)
        )

    def step(self, gradients: Tensor) -> None:
        """One step of all.

        Args:
            gradients: (K, P) of the stack's values.
        """
        self.steps += 1
        values, first, second = self.stack.values, self.first, self.second
        groups = [optimizer.param_groups[0] for optimizer in self.optimizers]
        decoupled = _is_decoupled(self.optimizers[0])
        numbers = torch.tensor(
            [
                [1 - g["lr"] * g["weight_decay"] if decoupled else g["weight_decay"] for g in groups],
                [1 - g["betas"][0] for g in groups],
                [g["betas"][1] for g in groups],
                [1 - g["betas"][1] for g in groups],
                [(1 - g["betas"][1] ** self.steps) ** 0.5 for g in groups],
                [g["eps"] for g in groups],
                [-g["lr"] / (1 - g["betas"][0] ** self.steps) for g in groups],
            ],
            dtype=values.dtype,
        )
        decay, new_1, keep_2, new_2, root, eps, rate = sent(numbers, values.device)[..., None]
        if decoupled:
            values.mul_(decay)
        else:
            gradients = torch.addcmul(gradients, values, decay)
        first.lerp_(gradients, new_1)
        second.mul_(keep_2).addcmul_(gradients, gradients * new_2)
        values.addcdiv_(first * rate, second.sqrt().div_(root).add_(eps))

    def give_back(self) -> None:
        """Gives the optimisers their state, as if they had made the steps."""
        if not self.steps:
            return
        moments = [self.stack.parts(values) for values in (self.first, self.second)]
        for index, (optimizer, member) in enumerate(zip(self.optimizers, self.stack.members, strict=True)):
            group = optimizer.param_groups[0]
            for name in self.stack.trained:
                parameter = member[name]
                device = parameter.device if group["capturable"] or group["fused"] else "cpu"
                optimizer.state[parameter] = {
                    STEP: torch.full((), float(self.steps), device=device),
                    FIRST: moments[0][name][index],
                    SECOND: moments[1][name][index],
                }


def _is_decoupled(optimizer: Optimizer) -> bool:
    """Whether weights decay apart from the gradients; torch 2.6 does not say so."""
    group = optimizer.param_groups[0]
    return bool(group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)))
