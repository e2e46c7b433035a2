"""Calcium imaging with transcriptomic labels: specs, readers, simulation, batches and data modules."""

from blend_pl.data.calcium.batches import CalciumBatch
from blend_pl.data.calcium.module import BugeonDataModule, CalciumDataModule, CalciumNWBDataModule
from blend_pl.data.calcium.simulation import BugeonSimulation
from blend_pl.data.calcium.spec import CalciumSpec

__all__ = [
    "BugeonDataModule",
    "BugeonSimulation",
    "CalciumBatch",
    "CalciumDataModule",
    "CalciumNWBDataModule",
    "CalciumSpec",
]
