"""Export of trained students as programs that run without this package."""

from blend_pl.export.command import export_student

__all__ = ["export_student"]
