"""`python -m blend_pl export`: a trained student as a program that runs without this package."""

from blend_pl.export.command import export

__all__ = ["export"]
