"""A simulated set of sessions of several animals: parameters, what the brain does, what is recorded, and the files."""

from blend_pl.data.lfp.simulation.files import write_sessions
from blend_pl.data.lfp.simulation.parameters import SessionsSimulation

__all__ = ["SessionsSimulation", "write_sessions"]
