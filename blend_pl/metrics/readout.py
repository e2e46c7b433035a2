"""A linear read-out of behaviour from frozen latents."""

import torch
from torch import Tensor

from blend_pl.errors import DataError
from blend_pl.metrics.ridge import RidgeFit

PENALTIES = torch.logspace(-6, 1, 15, dtype=torch.float64)
"""Ridge penalties that are tried, in units of the latents' mean variance and a row."""


def readout_r2(latents: dict[str, Tensor], behavior: dict[str, Tensor]) -> float:
    """R2 of a ridge regression that is fitted on "train", its penalty chosen on "val", scored on "test".

    Args:
        latents: (rows, H) by part.
        behavior: (rows, D) by part; rows with NaN are left out.

    Returns:
        R2, averaged over the D outputs.

    Raises:
        DataError: a part has fewer than two rows with behaviour.
    """
    known = {part: values.isfinite().all(-1) for part, values in behavior.items()}
    for part, rows in known.items():
        if int(rows.sum()) < 2:
            raise DataError(f"fewer than two bins of the {part} segments have behaviour; there is nothing to decode")
    inputs = {part: values[known[part]].double() for part, values in latents.items()}
    outputs = {part: values[known[part]].double() for part, values in behavior.items()}
    mean = inputs["train"].mean(0)
    squares = {part: _moments(inputs[part] - mean, outputs[part]) for part in inputs}
    unit = (inputs["train"] - mean).square().mean() * len(inputs["train"])
    penalties = PENALTIES.to(mean.device) * unit.clamp(min=1e-12)
    fit = RidgeFit.path(squares["train"], outputs["train"].shape[1], penalties)
    constant = {part: (values == values[0]).all(0) for part, values in outputs.items()}
    best = int(fit.score(squares["val"], constant["val"]).argmax())
    return float(fit.score(squares["test"], constant["test"])[best])


def _moments(inputs: Tensor, outputs: Tensor) -> Tensor:
    rows = torch.cat([torch.ones_like(inputs[:, :1]), inputs, outputs], 1)
    return rows.mT @ rows
