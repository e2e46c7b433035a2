"""Several networks as one function of stacked parameters, as many models at once are trained."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from blend_pl.models import NDT, Dims

DIMS = Dims(channels=5, neurons=9, observed_bins=60, bins=70)


def networks(**rates: float) -> list[NDT]:
    torch.manual_seed(0)
    return [NDT(DIMS, layers=2, heads=2, feedforward=8, context_forward=1, context_backward=2, **rates) for _ in "ab"]


def loss(model: NDT, parameters: dict[str, Tensor], buffers: dict[str, Tensor], counts: Tensor) -> Tensor:
    return functional_call(model, (parameters, buffers), (counts,)).prediction.exp().mean()


def test_stacked_networks_have_the_gradients_of_each_alone() -> None:
    models = networks(dropout=0.0, dropout_embedding=0.0, dropout_rates=0.0)
    assert models[0].window.bias is not None
    parameters, buffers = stack_module_state(models)
    counts = torch.rand(2, 3, 60, 5)
    together = vmap(partial(loss, models[0]))(parameters, buffers, counts)
    together.sum().backward()
    for number, model in enumerate(models):
        alone = model(counts[number]).prediction.exp().mean()
        torch.testing.assert_close(together[number], alone)
        alone.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameters[name].grad[number], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("shared", [True, False])
def test_stacked_networks_drop_out_each_by_itself(shared: bool) -> None:
    models = networks(dropout=0.5)
    parameters, buffers = stack_module_state(models[:1] * 2)
    counts = torch.rand(3, 60, 5).expand(2, -1, -1, -1)
    run = vmap(partial(loss, models[0]), in_dims=(0, 0, None if shared else 0), randomness="different")
    first, second = run(parameters, buffers, counts[0] if shared else counts)
    assert first != second
