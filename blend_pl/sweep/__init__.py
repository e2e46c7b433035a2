"""Sweeps over settings without an account: W&B's sweep files, drawn by Optuna, run by as many machines as there are."""

from blend_pl.sweep.command import sweep

__all__ = ["sweep"]
