"""Several seeds and settings of one experiment in one process, trained at once on a GPU."""

from blend_pl.multirun.command import multirun

__all__ = ["multirun"]
