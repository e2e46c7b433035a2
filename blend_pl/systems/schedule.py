"""Learning rates over training."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """A linear warm-up, then half a cosine down to zero.

    Args:
        optimizer: whose learning rate is scheduled.
        total_steps: optimiser steps of the whole training.
        warmup: share of them in which the rate rises.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> None:
        warmup_steps = max(1.0, warmup * total_steps)
        decay_steps = max(1.0, total_steps - warmup_steps)

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / decay_steps)))

        super().__init__(optimizer, factor)


class WarmupExponential(LambdaLR):
    """A linear warm-up, then a fall by the same factor every step.

    The defaults are 30 epochs of warm-up and a factor of 0.995 an epoch in 400 epochs (Erturk et al., 2025).

    Args:
        optimizer: whose learning rate is scheduled.
        total_steps: optimiser steps of the whole training.
        warmup: share of them in which the rate rises.
        final: share of the highest rate that the last step has.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.075, final: float = 0.156) -> None:
        warmup_steps = max(1.0, warmup * total_steps)
        decay_steps = max(1.0, total_steps - warmup_steps)

        def factor(step: int) -> float:
            return (
                (step + 1) / (warmup_steps + 1)
                if step < warmup_steps
                else final ** min(1.0, (step - warmup_steps) / decay_steps)
            )

        super().__init__(optimizer, factor)


class Constant(LambdaLR):
    """The same rate from the first step to the last.

    Args:
        optimizer: whose learning rate stays as it is.
        total_steps: optimiser steps of the whole training.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int) -> None:
        super().__init__(optimizer, lambda step: 1.0)
