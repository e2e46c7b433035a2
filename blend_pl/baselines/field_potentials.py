"""Linear decoding of velocity from filtered field potentials, without a network."""

from statistics import fmean

import torch
from torch import Tensor

from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.data.lfp.module import MultiSessionDataModule
from blend_pl.metrics.readout import readout_r2
from blend_pl.models.layers.filtered_patches import DEFAULT_WIDTHS, filter_series, gaussian_filters

SUBSETS = ("train", "val", "test")
LINEAR_DECODERS = {
    "smoothed LFP": gaussian_filters((2.0, 4.0, 8.0, 16.0, 32.0))[::2],
    "filtered LFP": gaussian_filters(DEFAULT_WIDTHS),
}
"""Filters of each linear decoder: Gaussians, or the Gaussians and derivatives of `FilteredPatches`."""


def decode_field_potentials(datamodule: MultiSessionDataModule, filters: Tensor) -> dict[str, float]:
    """Scores a ridge regression from filtered LFP to velocity in every session.

    The regression has the information of a student: the channels and the bins of one segment. It is fitted and
    selected on the same segments as the readout of a network, see `DecodingEvaluation`.

    Args:
        datamodule: the sessions, set up.
        filters: (K, L) filters of odd length, see `filter_series`.

    Returns:
        "vel_r2", the mean over sessions that are not held out; "new_r2", the mean over held-out sessions; "r2/NAME" of
        each session.
    """
    r2 = {name: _session_r2(datamodule, name, filters) for name in datamodule.evaluation_sessions}
    seen_r2 = [score for name, score in r2.items() if name not in datamodule.held_out]
    new_r2 = [score for name, score in r2.items() if name in datamodule.held_out]
    means = {"vel_r2": seen_r2, "new_r2": new_r2}
    return {key: fmean(scores) for key, scores in means.items() if scores} | {
        f"r2/{name}": score for name, score in r2.items()
    }


def _session_r2(datamodule: MultiSessionDataModule, name: str, filters: Tensor) -> float:
    n_channels = datamodule.sessions[name].lfp.shape[1]
    inputs, velocity = {}, {}
    for subset in SUBSETS:
        batches = list(datamodule.segment_dataloader(name, subset))
        inputs[subset] = torch.cat([_filtered_rows(batch, n_channels, filters) for batch in batches])
        velocity[subset] = torch.cat([_masked_velocity(batch) for batch in batches])
    return readout_r2(inputs, velocity)


def _filtered_rows(batch: SessionBatch, n_channels: int, filters: Tensor) -> Tensor:
    """Returns a row of n_channels * filters values for each bin."""
    series = batch.observed[..., :n_channels].transpose(1, 2)
    filtered = filter_series(series, filters.to(series.device))
    return filtered.flatten(1, 2).transpose(1, 2).flatten(0, 1)


def _masked_velocity(batch: SessionBatch) -> Tensor:
    return batch.behavior.masked_fill(~batch.behavior_valid, torch.nan).flatten(0, 1)
