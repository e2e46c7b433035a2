"""Backbones in pure torch: each is built from `Dims` and returns an `Encoding`."""

from blend_pl.models.autoencoder import PatchAutoencoder
from blend_pl.models.base import Backbone, Dims, Encoding
from blend_pl.models.generator import PopulationGenerator
from blend_pl.models.lfads import LFADS
from blend_pl.models.multimodal import MultimodalAutoencoder
from blend_pl.models.ndt import NDT
from blend_pl.models.neuprint import NeuPRINT
from blend_pl.models.per_session import PerSessionNetworks
from blend_pl.models.session_network import SessionDims, SessionNetwork
from blend_pl.models.stndt import STNDT

__all__ = [
    "LFADS",
    "NDT",
    "STNDT",
    "Backbone",
    "Dims",
    "Encoding",
    "MultimodalAutoencoder",
    "NeuPRINT",
    "PatchAutoencoder",
    "PerSessionNetworks",
    "PopulationGenerator",
    "SessionDims",
    "SessionNetwork",
]
