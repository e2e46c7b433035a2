"""Plain baselines that a network must beat: smoothed spikes, and regressions from them."""

from blend_pl.baselines.command import plain

__all__ = ["plain"]
