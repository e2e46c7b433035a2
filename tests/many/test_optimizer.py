from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler

from blend_pl.many.optimizer import Optimizers


def pair(kind: type[Optimizer], rate: float) -> tuple[nn.Parameter, tuple[Optimizer, LRScheduler]]:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = kind([parameter], lr=rate)  # type: ignore[call-arg]
    return parameter, (optimizer, ExponentialLR(optimizer, 0.5))


def descend(parameters: Sequence[nn.Parameter]) -> Tensor:
    loss = torch.stack([parameter.pow(4).sum() for parameter in parameters]).sum()
    for parameter in parameters:
        parameter.grad = 4 * parameter.detach() ** 3
    return loss


def test_each_steps_as_it_would_alone() -> None:
    kinds = [(SGD, 0.1), (AdamW, 0.01)]
    (first, one), (second, two) = (pair(*kind) for kind in kinds)
    together = Optimizers([one, two])
    expected = [pair(*kind) for kind in kinds]
    for _ in range(3):
        assert together.step(lambda: descend([first, second])) > 0
        for parameter, (optimizer, schedule) in expected:
            descend([parameter])
            optimizer.step()
            schedule.step()
    for found, (parameter, _) in zip((first, second), expected, strict=True):
        torch.testing.assert_close(found, parameter, rtol=0, atol=0)
    assert [group["lr"] for group in together.param_groups] == [0.1 / 8, 0.01 / 8]


def test_who_has_stopped_does_not_move() -> None:
    (first, one), (second, two) = pair(SGD, 0.1), pair(SGD, 0.1)
    together = Optimizers([one, two])
    together.active = [1]
    together.step(lambda: descend([first, second]))
    assert torch.equal(first, torch.ones(3))
    assert not torch.equal(second, torch.ones(3))
    assert [group["lr"] for group in together.param_groups] == [0.1, 0.05]


def test_goes_on_where_it_was() -> None:
    parameter, member = pair(AdamW, 0.1)
    whole = Optimizers([member])
    whole.step(lambda: descend([parameter]))
    other, fresh = pair(AdamW, 0.1)
    resumed = Optimizers([fresh])
    resumed.load_state_dict(deepcopy(whole.state_dict()))
    with torch.no_grad():
        other.copy_(parameter)
    for one, optimizers in ((parameter, whole), (other, resumed)):
        optimizers.step(partial(descend, [one]))
    assert torch.equal(parameter, other)
