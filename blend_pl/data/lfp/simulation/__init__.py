"""A simulated set of sessions of several animals: parameters, what the brain does, what is recorded, and the files."""

from blend_pl.data.lfp.simulation.files import write_sessions
from blend_pl.data.lfp.simulation.parameters import LFPSimulation

__all__ = ["LFPSimulation", "write_sessions"]
