"""Backbones, in pure torch: each is built from `Dims` and returns an `Encoding`."""

from blend_pl.models.contract import Backbone, Dims, Encoding
from blend_pl.models.ndt import NDT

__all__ = ["NDT", "Backbone", "Dims", "Encoding"]
