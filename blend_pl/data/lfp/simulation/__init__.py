"""Simulated sessions of spikes and field potentials of several animals."""

from blend_pl.data.lfp.simulation.files import write_sessions
from blend_pl.data.lfp.simulation.parameters import LFPSimulation

__all__ = ["LFPSimulation", "write_sessions"]
