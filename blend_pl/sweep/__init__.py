"""Hyperparameter sweeps without a W&B account: W&B sweep files, sampled by Optuna, shared by any number of machines."""

from blend_pl.sweep.command import sweep

__all__ = ["sweep"]
