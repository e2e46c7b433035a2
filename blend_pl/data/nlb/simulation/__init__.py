"""Simulated delayed-reach sessions in the layout of the Neural Latents Benchmark '21."""

from blend_pl.data.nlb.simulation.parameters import PRESETS, NLBSimulation

__all__ = ["PRESETS", "NLBSimulation"]
