"""Systems back from their checkpoints, without running anything that a checkpoint says."""

from argparse import ArgumentError
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning import LightningModule
from lightning.pytorch.plugins.io import TorchCheckpointIO

from blend_pl.errors import TeacherError
from blend_pl.systems.base import SESSION_KEY, NeuralSystem
from blend_pl.systems.trust import find_untrusted_class
from blend_pl.utils.tensors import atomic_save

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
LEGACY_KEYS = {"hparams", "module_arguments"}
"""Where Lightning once kept hyper-parameters, and still looks for them; no checkpoint of this package has them."""


def read_checkpoint(path: Path, content: bytes | None = None) -> dict[str, Any]:
    """Reads what a checkpoint holds; nothing in it is run, and its settings name nothing that must not be.

    Args:
        path: of the checkpoint.
        content: what the file holds, where it was read already.

    Raises:
        TeacherError: there is no such file, it is damaged, it was not written by this package, or its settings name
            something that is neither a class of this package nor of a network, an optimiser or a schedule.
    """
    try:
        checkpoint = torch.load(_path_or_buffer(path, content), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TeacherError(f"there is no checkpoint {path}; train that model first, or name its experiment") from None
    except Exception as error:  # Bytes that are no checkpoint make torch.load fail in many ways.
        reason = [*str(error).splitlines(), "no reason given"][0]
        raise TeacherError(f"cannot read the checkpoint {path}, it is damaged ({reason}); train it again") from error
    hyper_parameters = (checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None) or {}
    is_recognized = hyper_parameters.get("_instantiator") == INSTANTIATOR and SESSION_KEY in checkpoint
    if not is_recognized or LEGACY_KEYS & checkpoint.keys():
        raise TeacherError(f"{path} was not written by `python -m blend_pl fit`; name a checkpoint of this package")
    untrusted = find_untrusted_class({key: value for key, value in hyper_parameters.items() if key != "_instantiator"})
    if untrusted is not None:
        raise TeacherError(
            f"{path} asks to build {untrusted}, which is no class of a network, an optimiser or a schedule that is "
            "installed here; name a checkpoint that you trust"
        )
    return checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints that appear whole or not at all, wherever the system keeps its temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            DataError: the folder cannot be written or the disk is full; the checkpoint before this one is kept.
        """
        atomic_save(checkpoint, Path(path))


def save_weights(system: NeuralSystem, path: Path, epoch: int, step: int) -> None:
    """Writes a checkpoint without the state of its training, from which nothing goes on.

    Args:
        system: built from a config.
        path: where to.
        epoch: the last epoch of its training, from 0.
        step: how many steps of the optimiser.

    Raises:
        DataError: the folder cannot be written or the disk is full; the checkpoint before this one is kept.
    """
    checkpoint: dict[str, Any] = {
        # A view would be written with all that it is a part of.
        "state_dict": {name: tensor.detach().clone() for name, tensor in system.state_dict().items()},
        "hyper_parameters": dict(system.hparams),
        "pytorch-lightning_version": L.__version__,
        "epoch": epoch,
        "global_step": step,
    }
    system.on_save_checkpoint(checkpoint)
    atomic_save(checkpoint, path)


def load_system(path: Path, content: bytes | None = None) -> NeuralSystem:
    """Loads a student or teacher, on the CPU, in evaluation mode.

    Args:
        path: checkpoint written by `fit`.
        content: what the file holds, where it was read already.

    Raises:
        TeacherError: there is no such file, it is damaged, or it was not written by this package.
    """
    read_checkpoint(path, content)
    # Asked on the base class, Lightning rebuilds whichever system the checkpoint names.
    try:
        system = LightningModule.load_from_checkpoint(
            _path_or_buffer(path, content), map_location="cpu", weights_only=True
        )
    except (ArgumentError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = [*str(error).splitlines(), "its settings are unknown"][0]
        raise TeacherError(f"{path} does not fit this version: {reason}; train that model again") from error
    if not isinstance(system, NeuralSystem):
        raise TeacherError(f"{path} holds a {type(system).__name__}; name the checkpoint of a student or a teacher")
    return system.eval()


def _path_or_buffer(path: Path, content: bytes | None) -> Path | BytesIO:
    return path if content is None else BytesIO(content)
