"""Export of trained students as programs that run without this package."""

from blend_pl.export.command import export

__all__ = ["export"]
