"""Simulated calcium recordings in the layout of the published tree (Bugeon et al., 2022)."""

from blend_pl.data.calcium.simulation.files import write_bugeon_dataset
from blend_pl.data.calcium.simulation.parameters import BugeonSimulation

__all__ = ["BugeonSimulation", "write_bugeon_dataset"]
