"""A simulated tree of calcium recordings: parameters, the animal's states, the cells' activity, and the files."""

from blend_pl.data.calcium.simulation.files import write_bugeon_dataset
from blend_pl.data.calcium.simulation.parameters import BugeonSimulation

__all__ = ["BugeonSimulation", "write_bugeon_dataset"]
