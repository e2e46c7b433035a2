"""Baselines without a network: smoothed spikes and regressions on them."""

from blend_pl.baselines.command import fit_baselines

__all__ = ["fit_baselines"]
