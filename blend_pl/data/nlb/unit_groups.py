"""Held-in and held-out units that depend on the training trials or on the fold."""

from dataclasses import replace

import torch
from torch import Tensor

from blend_pl.data.nlb.folds import Fold
from blend_pl.data.nlb.session import SessionTensors, group_columns
from blend_pl.errors import ConfigError, DataError


def regroup_units(session: SessionTensors, held_in: Tensor, held_out: Tensor) -> SessionTensors:
    """Returns a session with other held-in and held-out units.

    Args:
        session: the session.
        held_in: positions of the held-in units in `session.unit_id`, at least one.
        held_out: positions of the held-out units; units in neither are left out.
    """
    units = torch.cat([held_in, held_out])
    columns = session.observed_column[units]
    n_heldin, n_units = len(held_in), len(units)
    groups = [columns[:n_heldin].unique(), columns[n_heldin:].unique()]
    # A group without units is recorded nowhere, as in a session without held-out units.
    together = [
        session.observed[..., group].all(-1) if len(group) else torch.zeros_like(session.observed[..., 0])
        for group in groups
    ]
    observed, observed_column = torch.stack(together, -1), group_columns(n_heldin, n_units)
    for start, group in ((0, groups[0]), (n_heldin, groups[1])):
        if len(group) > 1:
            in_group = slice(0, n_heldin) if start == 0 else slice(n_heldin, n_units)
            observed_column[in_group] = observed.shape[-1] + torch.searchsorted(group, columns[in_group])
            observed = torch.cat([observed, session.observed[..., group]], -1)
    recorded = session.observed[:, : session.n_observed, groups[0]].any(-1)
    return replace(
        session,
        spikes=session.spikes[..., units],
        observed=observed,
        scoring_mask=session.scoring_mask & recorded,
        psth=session.psth[..., units],
        unit_id=session.unit_id[units],
        observed_column=observed_column,
        n_heldin=n_heldin,
    )


def select_units(rates: Tensor, column_id: Tensor, unit_id: Tensor) -> Tensor:
    """Returns the rates (..., N) of units in their order, of rates (..., M) with the unit ids of the columns."""
    if torch.equal(column_id, unit_id):
        return rates
    column_of = {unit: column for column, unit in enumerate(column_id.tolist())}
    return rates[..., torch.tensor([column_of[unit] for unit in unit_id.tolist()])]


def rotated_units(n_units: int, fold: Fold, seed: int) -> tuple[Tensor, Tensor]:
    """Returns the positions of the held-in and of the held-out units of a fold.

    The units are divided at random into as many parts as there are folds; each fold holds out another part.

    Args:
        n_units: number of units.
        fold: the fold.
        seed: seed of the division.

    Raises:
        ConfigError: there are more folds than units.
    """
    if fold.count > n_units:
        raise ConfigError(
            f"data.fold is {fold}, and held_out.by_fold divides {n_units} units; choose at most {n_units} folds"
        )
    order = torch.randperm(n_units, generator=torch.Generator().manual_seed(seed))
    is_held_out = torch.zeros(n_units, dtype=torch.bool)
    is_held_out[order[fold.number - 1 :: fold.count]] = True
    return (~is_held_out).nonzero()[:, 0], is_held_out.nonzero()[:, 0]


def firing_rates_hz(session: SessionTensors) -> Tensor:
    """Returns the (N,) float64 spikes per second of each unit in its recorded bins; 0 for a unit without any."""
    trials = torch.arange(len(session))
    n_recorded = torch.zeros(session.n_units, dtype=torch.float64)
    # Valid masks of all trials at once would need the memory of the counts again.
    for chunk in trials.split(256):
        n_recorded += session.valid_mask(chunk).sum((0, 1))
    seconds = n_recorded * (session.bin_ms / 1000)
    return session.spikes.sum((0, 1), dtype=torch.float64) / seconds.clamp_min(session.bin_ms / 1000)


def units_above(session: SessionTensors, min_rate_hz: float) -> tuple[Tensor, Tensor]:
    """Returns the positions of the held-in and of the held-out units with at least a minimum rate.

    Args:
        session: training trials; other trials must not decide which units are used.
        min_rate_hz: lowest rate.

    Raises:
        DataError: no held-in unit, or no held-out unit of some, has this rate.
    """
    is_active = firing_rates_hz(session) >= min_rate_hz
    groups = is_active[: session.n_heldin], is_active[session.n_heldin :]
    for name, group in zip(("held-in", "held-out"), groups, strict=True):
        if len(group) and not group.any():
            raise DataError(
                f"none of {len(group)} {name} units has {min_rate_hz:g} spikes per second in the training trials; "
                "decrease data.spec.min_rate_hz"
            )
    active = is_active.nonzero()[:, 0]
    n_heldin = int(groups[0].sum())
    return active[:n_heldin], active[n_heldin:]
