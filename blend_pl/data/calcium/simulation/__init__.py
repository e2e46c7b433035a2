"""A simulated tree of calcium recordings: parameters, the animal's states, the cells' activity, and the files."""

from blend_pl.data.calcium.simulation.files import write_tree
from blend_pl.data.calcium.simulation.parameters import TreeSimulation

__all__ = ["TreeSimulation", "write_tree"]
