"""Linear readout of behavior from frozen latents."""

import warnings

import torch
from torch import Tensor

from blend_pl.errors import DataError
from blend_pl.metrics.ridge import RidgeFit
from blend_pl.metrics.score import mean_over_varying

PENALTIES = torch.logspace(-6, 1, 15, dtype=torch.float64)
"""Candidate ridge penalties, as multiples of the latents' mean variance times the number of rows."""


def readout_r2(latents: dict[str, Tensor], behavior: dict[str, Tensor]) -> float:
    """Returns the R2 on "test" of a ridge regression fitted on "train", with the penalty selected on "val".

    Args:
        latents: (rows, H) for each subset.
        behavior: (rows, D) for each subset; rows with NaN are ignored.

    Returns:
        R2, averaged over the outputs that vary in "test"; nan, with a warning, if none does.

    Raises:
        DataError: a subset has fewer than two rows with behavior.
    """
    valid_rows = {subset: values.isfinite().all(-1) for subset, values in behavior.items()}
    for subset, rows in valid_rows.items():
        if int(rows.sum()) < 2:
            raise DataError(f"fewer than two bins of the {subset} segments have behavior; a readout needs at least two")
    inputs = {subset: values[valid_rows[subset]].double() for subset, values in latents.items()}
    outputs = {subset: values[valid_rows[subset]].double() for subset, values in behavior.items()}
    mean = inputs["train"].mean(0)
    second_moments = {subset: _second_moments(inputs[subset] - mean, outputs[subset]) for subset in inputs}
    penalty_scale = (inputs["train"] - mean).square().mean() * len(inputs["train"])
    penalties = PENALTIES.to(mean.device) * penalty_scale.clamp(min=1e-12)
    fit = RidgeFit.fit_path(second_moments["train"], outputs["train"].shape[1], penalties)
    constant = {subset: (values == values[0]).all(0) for subset, values in outputs.items()}
    best = int(fit.score(second_moments["val"], constant["val"]).argmax())
    if constant["test"].all():
        warnings.warn("the behavior is constant in all test bins, so that its R2 is nan", stacklevel=2)
    return float(mean_over_varying(fit.output_scores(second_moments["test"], constant["test"])[best], constant["test"]))


def _second_moments(inputs: Tensor, outputs: Tensor) -> Tensor:
    rows = torch.cat([torch.ones_like(inputs[:, :1]), inputs, outputs], 1)
    return rows.mT @ rows
