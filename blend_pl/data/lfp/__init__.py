"""Recordings of spikes and local field potentials (LFP): specs, readers, simulation, batches and the data module."""

from blend_pl.data.lfp.batches import SessionBatch
from blend_pl.data.lfp.module import MultiSessionDataModule
from blend_pl.data.lfp.recording import CrossModalRecording
from blend_pl.data.lfp.simulation import LFPSimulation
from blend_pl.data.lfp.spec import LFPSpec

__all__ = ["CrossModalRecording", "LFPSimulation", "LFPSpec", "MultiSessionDataModule", "SessionBatch"]
