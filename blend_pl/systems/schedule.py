"""Learning-rate schedules."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from blend_pl.utils.checks import FRACTION, Interval, check_range


class WarmupCosine(LambdaLR):
    """Linear warm-up, then a cosine decay to zero.

    Args:
        optimizer: optimizer whose learning rate is scheduled.
        total_steps: optimizer steps of the whole training.
        warmup: fraction of the steps in which the rate increases.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> None:
        check_range(FRACTION, warmup=warmup)
        warmup_steps = max(1.0, warmup * total_steps)
        decay_steps = max(1.0, total_steps - warmup_steps)

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / decay_steps)))

        super().__init__(optimizer, factor)


class WarmupExponential(LambdaLR):
    """Linear warm-up, then an exponential decay.

    The defaults match 30 epochs of warm-up and a factor of 0.995 per epoch over 400 epochs (Erturk et al., 2025).

    Args:
        optimizer: optimizer whose learning rate is scheduled.
        total_steps: optimizer steps of the whole training.
        warmup: fraction of the steps in which the rate increases.
        final: learning rate of the last step as a fraction of the highest.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.075, final: float = 0.156) -> None:
        check_range(FRACTION, warmup=warmup)
        check_range(Interval(0, 1, includes_low=False), final=final)
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
    """Constant learning rate.

    Args:
        optimizer: optimizer whose learning rate is scheduled.
        total_steps: optimizer steps of the whole training.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int) -> None:
        super().__init__(optimizer, lambda step: 1.0)
