"""Training trials that select the checkpoint."""

import torch
from torch import Tensor

from blend_pl.data.nlb.session import SessionTensors
from blend_pl.data.nlb.splits import overlap_groups
from blend_pl.errors import ConfigError

_MAX_DEVIATION = 0.5
"""Largest difference between the requested and the drawn fraction of held-out trials, relative to the former."""


def holdout_mask(n_trials: int, fraction: float) -> Tensor:
    """Returns the (n_trials,) bool mask of the trials that select the checkpoint, the same in every run.

    Raises:
        ConfigError: all trials or none would be selected.
    """
    n_holdout = _n_holdout(n_trials, fraction)
    mask = torch.zeros(n_trials, dtype=torch.bool)
    mask[torch.randperm(n_trials, generator=torch.Generator().manual_seed(0))[:n_holdout]] = True
    return mask


def divide_training_trials(session: SessionTensors, fraction: float, is_benchmark: bool) -> tuple[Tensor, Tensor]:
    """Divides training trials into those used for gradients and those that select the checkpoint, without shared bins.

    Trials that do not overlap are drawn one by one. Overlapping trials are drawn in groups; if the groups are too
    large, the last trials of the recording are held out, and trials across the border are in neither part.

    Trials of a benchmark set are drawn one by one in any case. In MC_RTT they have no gaps, so that forward bins of a
    trial are observed bins of the next one, in the official splits and in this one.

    Args:
        session: training trials.
        fraction: fraction of the trials that selects the checkpoint.
        is_benchmark: whether the session is a published set with its own splits.

    Returns:
        Two (trials,) bool masks.

    Raises:
        ConfigError: one part would be empty.
    """
    n_trials = len(session)
    start, stop = (bins.numpy() for bins in session.recorded_spans(session.n_observed + session.n_forward))
    groups = overlap_groups(start, stop)
    n_groups = int(groups.max()) + 1
    if n_groups == n_trials or is_benchmark:
        selected = holdout_mask(n_trials, fraction)
        return ~selected, selected
    n_holdout = _n_holdout(n_trials, fraction)
    order = torch.randperm(n_groups, generator=torch.Generator().manual_seed(0))
    group = torch.from_numpy(groups)
    sizes = group.bincount()[order]
    middle = sizes.cumsum(0) - sizes / 2
    selected = torch.isin(group, order[middle < n_holdout])
    if abs(int(selected.sum()) - n_holdout) <= _MAX_DEVIATION * n_holdout and not selected.all():
        return ~selected, selected
    first, end = torch.from_numpy(start), torch.from_numpy(stop)
    border = first.sort().values[n_trials - n_holdout]
    fit, selected = end <= border, first >= border
    if not fit.any():
        raise ConfigError(
            f"all {n_trials} training windows overlap the part of data.holdout {fraction}; record more, or shorten "
            "data.spec.window.stop_ms"
        )
    return fit, selected


def _n_holdout(n_trials: int, fraction: float) -> int:
    n_holdout = round(n_trials * fraction)
    if not 0 < n_holdout < n_trials:
        raise ConfigError(
            f"data.holdout {fraction} of {n_trials} training trials leaves one side empty; choose another fraction"
        )
    return n_holdout
