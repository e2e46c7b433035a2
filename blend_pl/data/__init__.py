"""Data modules: recordings or simulations are read, divided and served as batches.

The data modules of calcium imaging and of LFP are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blend_pl.data.base import NeuralDataModule
from blend_pl.data.batch import Batch
from blend_pl.data.nlb.module import NLBDataModule
from blend_pl.data.nlb.simulation.parameters import NLBSimulation
from blend_pl.data.nlb.spec import SessionSpec
from blend_pl.data.signature import Signature

if TYPE_CHECKING:
    from blend_pl.data.calcium import BugeonDataModule, CalciumNWBDataModule
    from blend_pl.data.lfp import MultiSessionDataModule

__all__ = [
    "Batch",
    "BugeonDataModule",
    "CalciumNWBDataModule",
    "MultiSessionDataModule",
    "NLBDataModule",
    "NLBSimulation",
    "NeuralDataModule",
    "SessionSpec",
    "Signature",
]

_LAZY = {
    "BugeonDataModule": "blend_pl.data.calcium",
    "CalciumNWBDataModule": "blend_pl.data.calcium",
    "MultiSessionDataModule": "blend_pl.data.lfp",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
