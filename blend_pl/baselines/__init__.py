"""Plain baselines that a network must beat: smoothed spikes, and regressions from them."""

from blend_pl.baselines.command import fit_baselines

__all__ = ["fit_baselines"]
