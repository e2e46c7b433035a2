"""Calcium imaging with transcriptomic labels: spec, readers, simulated trees, batches and the data modules."""

from blend_pl.data.calcium.batches import PopulationBatch
from blend_pl.data.calcium.module import BugeonDataModule, CalciumDataModule
from blend_pl.data.calcium.nwb import CalciumNWBDataModule
from blend_pl.data.calcium.simulation import TreeSimulation
from blend_pl.data.calcium.spec import CalciumSpec

__all__ = [
    "BugeonDataModule",
    "CalciumDataModule",
    "CalciumNWBDataModule",
    "CalciumSpec",
    "PopulationBatch",
    "TreeSimulation",
]
