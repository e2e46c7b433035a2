"""Many models at once: seeds, or points of a search, of one experiment on one device."""

from blend_pl.multirun.command import multirun

__all__ = ["multirun"]
