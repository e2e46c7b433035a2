"""A simulated delayed-reach session: parameters, the hand, the population, its spikes, and the files they go into."""

from blend_pl.data.nlb.simulation.parameters import PRESETS, NLBSimulation

__all__ = ["PRESETS", "NLBSimulation"]
