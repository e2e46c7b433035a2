"""Linear readout of behavior."""

import numpy as np
import pytest
import torch
from torch import Tensor

from blend_pl.metrics.readout import readout_r2


def draw_subsets(n_outputs: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(n_outputs)
    latents = {subset: torch.randn(80, 4, generator=generator) for subset in ("train", "val", "test")}
    weights = torch.randn(4, n_outputs, generator=generator)
    noise = {subset: torch.randn(80, n_outputs, generator=generator) for subset in latents}
    return latents, {subset: values @ weights + noise[subset] for subset, values in latents.items()}


@pytest.mark.parametrize("value", [0.0, 3.7])
@pytest.mark.parametrize("column", [0, 1])
def test_constant_output_is_left_out_of_the_mean(column: int, value: float) -> None:
    latents, behavior = draw_subsets(2)
    others = {subset: values[:, 1 - column : 2 - column].clone() for subset, values in behavior.items()}
    for values in behavior.values():
        values[:, column] = value
    assert readout_r2(latents, behavior) == pytest.approx(readout_r2(latents, others), abs=1e-9)


def test_readout_without_varying_output_is_nan_with_a_warning() -> None:
    latents, behavior = draw_subsets(1)
    behavior["test"][:] = 1.0
    with pytest.warns(UserWarning, match="constant in all test bins"):
        assert np.isnan(readout_r2(latents, behavior))
