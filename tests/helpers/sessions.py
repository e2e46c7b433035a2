"""Small sessions and batches for tests that train."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from helpers.specs import MC_MAZE

from blend_pl.data.batch import Batch
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.session import SessionTensors, group_columns
from blend_pl.data.nlb.simulation.parameters import NLBSimulation

TINY = NLBSimulation(n_train=24, n_val=8, n_test=6, n_units=13, n_heldout=4)


def tiny_module(root: Path, **changes: Any) -> NLBDataModule:
    """Returns a set-up data module of the tiny simulated session below `root`."""
    settings: dict[str, Any] = {"bin_ms": 20, "batch_size": 8, "simulation": TINY, **changes}
    module = NLBDataModule(replace(MC_MAZE, name="tiny"), str(root), source="simulated", **settings)
    module.setup("fit")
    return module


def session_of(trials: int = 6, bins: int = 5, forward: int = 2, heldin: int = 3, heldout: int = 2) -> SessionTensors:
    """Returns random spikes and behavior of 2 channels without missing values."""
    generator = torch.Generator().manual_seed(trials)
    total, units = bins + forward, heldin + heldout
    return SessionTensors(
        spikes=torch.randint(0, 4, (trials, total, units), generator=generator, dtype=torch.uint8),
        observed=torch.ones(trials, total, 2, dtype=torch.bool),
        scoring_mask=torch.ones(trials, bins, dtype=torch.bool),
        behavior=torch.randn(trials, total, 2, generator=generator),
        trial_id=torch.arange(trials),
        start_bin=torch.arange(trials) * total,
        jitter=torch.zeros(trials, dtype=torch.int64),
        condition=torch.full((trials,), -1),
        decode_mask=torch.ones(trials, 1, dtype=torch.bool),
        timing_condition=torch.full((trials,), -1),
        produced_interval=torch.linspace(400, 900, trials, dtype=torch.float64),
        psth=torch.empty(0, bins, units, dtype=torch.float64),
        unit_id=torch.arange(units),
        observed_column=group_columns(heldin, units),
        n_heldin=heldin,
        n_forward=forward,
        n_series=2,
        bin_ms=20,
    )


def batch_of(session: SessionTensors) -> Batch:
    """Returns all trials of a session as one batch, without z-scoring behavior."""
    rows = torch.arange(len(session))
    target = session.spikes.float()
    return Batch(
        observed=target[:, : session.n_observed, : session.n_heldin],
        target=target,
        target_valid=session.valid_mask(rows),
        index=rows,
        global_rows=rows,
        global_size=len(session),
        privileged=session.behavior,
        privileged_valid=session.behavior.isfinite(),
    )
