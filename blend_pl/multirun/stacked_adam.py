"""Adam and AdamW for all replicas of a stack at once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from blend_pl.multirun.stacking import ModuleStack
from blend_pl.utils.device import to_device_async

REQUIRED_OPTIONS = {"amsgrad": False, "maximize": False, "differentiable": False}
"""Options that `StackedAdam` requires."""
STEP, EXP_AVG, EXP_AVG_SQ = "step", "exp_avg", "exp_avg_sq"
"""Keys of the state of torch's optimizers."""


class StackedAdam:
    """Computes the update of each replica's `torch.optim.Adam` or `AdamW` by operations on the flat parameters.

    Replicas may differ in learning rate, betas, eps and weight decay (Kingma & Ba, 2015; Loshchilov & Hutter, 2019).

    Args:
        optimizers: optimizers of the replicas, for which `supports` returns True. Their options are read at each step.
        stack: stack of the modules that they train.
    """

    def __init__(self, optimizers: Sequence[Optimizer], stack: ModuleStack) -> None:
        self.optimizers, self.stack = optimizers, stack
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(stack.flat_parameters), torch.zeros_like(stack.flat_parameters)
        states = [state for optimizer in optimizers for state in optimizer.state.values()]
        self.steps = int(states[0][STEP]) if states else 0
        for optimizer in optimizers:
            # A step without gradients has no effect, except that schedules warn if there is no step before theirs.
            optimizer.zero_grad()
            optimizer.step()
        for name, moments in ((EXP_AVG, self.exp_avg), (EXP_AVG_SQ, self.exp_avg_sq)):
            for parameter, stacked_moment in stack.unflatten_parameters(moments).items():
                for optimizer, replica_parameters, replica_moment in zip(
                    optimizers, stack.replica_parameters, stacked_moment, strict=True
                ):
                    if state := optimizer.state.get(replica_parameters[parameter]):
                        replica_moment.copy_(state[name])

    @staticmethod
    def supports(optimizers: Sequence[Optimizer], stack: ModuleStack) -> bool:
        """Returns whether the optimizers are of one supported type and all parameters have the same number of steps."""
        if any(type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) > 1 for optimizer in optimizers):
            return False
        groups = [optimizer.param_groups[0] for optimizer in optimizers]
        trainable = [
            [replica_parameters[name] for name in stack.trainable_names]
            for replica_parameters in stack.replica_parameters
        ]
        states = [
            optimizer.state.get(parameter)
            for optimizer, parameters in zip(optimizers, trainable, strict=True)
            for parameter in parameters
        ]
        steps = [state[STEP] for state in states if state]
        return (
            stack.flat_parameters.dtype in (torch.float32, torch.float64)
            and all(group[name] == value for group in groups for name, value in REQUIRED_OPTIONS.items())
            and not any(isinstance(value, Tensor) for group in groups for value in (group["lr"], *group["betas"]))
            and len({_is_decoupled(optimizer) for optimizer in optimizers}) == 1
            and all({*group["params"]} == {*parameters} for group, parameters in zip(groups, trainable, strict=True))
            and len(steps) in (0, len(states))
            and (not steps or len({*torch.stack(steps).tolist()}) == 1)
        )

    def step(self, gradients: Tensor) -> None:
        """Updates the parameters of all replicas.

        Args:
            gradients: (K, P) gradients of the stack's `flat_parameters`.
        """
        self.steps += 1
        flat_parameters, exp_avg, exp_avg_sq = self.stack.flat_parameters, self.exp_avg, self.exp_avg_sq
        groups = [optimizer.param_groups[0] for optimizer in self.optimizers]
        decoupled = _is_decoupled(self.optimizers[0])
        coefficients = torch.tensor(
            [
                [1 - group["lr"] * group["weight_decay"] if decoupled else group["weight_decay"] for group in groups],
                [1 - group["betas"][0] for group in groups],
                [group["betas"][1] for group in groups],
                [1 - group["betas"][1] for group in groups],
                [(1 - group["betas"][1] ** self.steps) ** 0.5 for group in groups],
                [group["eps"] for group in groups],
                [-group["lr"] / (1 - group["betas"][0] ** self.steps) for group in groups],
            ],
            dtype=flat_parameters.dtype,
        )
        decay, one_minus_beta1, beta2, one_minus_beta2, bias_correction2_sqrt, eps, negative_step_size = (
            to_device_async(coefficients, flat_parameters.device)[..., None]
        )
        if decoupled:
            flat_parameters.mul_(decay)
        else:
            gradients = torch.addcmul(gradients, flat_parameters, decay)
        exp_avg.lerp_(gradients, one_minus_beta1)
        exp_avg_sq.mul_(beta2).addcmul_(gradients, gradients * one_minus_beta2)
        flat_parameters.addcdiv_(exp_avg * negative_step_size, exp_avg_sq.sqrt().div_(bias_correction2_sqrt).add_(eps))

    def export_state(self) -> None:
        """Writes the state into the replicas' optimizers, as if they had made the steps."""
        if not self.steps:
            return
        moments = [self.stack.unflatten_parameters(values) for values in (self.exp_avg, self.exp_avg_sq)]
        for index, (optimizer, replica_parameters) in enumerate(
            zip(self.optimizers, self.stack.replica_parameters, strict=True)
        ):
            group = optimizer.param_groups[0]
            for name in self.stack.trainable_names:
                parameter = replica_parameters[name]
                device = parameter.device if group["capturable"] or group["fused"] else "cpu"
                optimizer.state[parameter] = {
                    STEP: torch.full((), float(self.steps), device=device),
                    EXP_AVG: moments[0][name][index],
                    EXP_AVG_SQ: moments[1][name][index],
                }


def _is_decoupled(optimizer: Optimizer) -> bool:
    """Returns whether weight decay is decoupled from the gradients; torch 2.6 has no option for it."""
    group = optimizer.param_groups[0]
    return bool(group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)))
