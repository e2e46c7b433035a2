"""Recordings in, batches out: spec, reader, cache, simulated sessions and the data module."""

from blend_pl.data.batch import Batch
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.simulation.parameters import NLBSimulation
from blend_pl.data.nlb.spec import SessionSpec

__all__ = ["Batch", "NLBDataModule", "NLBSimulation", "SessionSpec"]
