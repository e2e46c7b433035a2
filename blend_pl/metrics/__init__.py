"""Streaming scores of the Neural Latents Benchmark '21, equal to those of nlb_tools."""

from blend_pl.metrics.bits_per_spike import BitsPerSpike, bits_per_spike
from blend_pl.metrics.psth import PsthR2
from blend_pl.metrics.timing import TimingCorrelation
from blend_pl.metrics.velocity import VelocityR2

__all__ = ["BitsPerSpike", "PsthR2", "TimingCorrelation", "VelocityR2", "bits_per_spike"]
