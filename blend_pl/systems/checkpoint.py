"""Reading and writing of checkpoints, without running code that a checkpoint names."""

from argparse import ArgumentError
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import instantiate_module
from lightning.pytorch.plugins.io import TorchCheckpointIO

from blend_pl.compat import upgrade_hyper_parameters
from blend_pl.errors import TeacherError
from blend_pl.systems.base import INSTANTIATOR, INSTANTIATOR_KEY, SESSION_KEY, NeuralSystem
from blend_pl.systems.trust import find_untrusted_class
from blend_pl.utils.suggestions import explain_parser_error
from blend_pl.utils.tensors import atomic_save

LEGACY_KEYS = {"hparams", "module_arguments"}
"""Keys of hyper-parameters in old versions of Lightning, which still reads them; this package never writes them."""


def read_checkpoint(path: Path, content: bytes | None = None) -> dict[str, Any]:
    """Reads a checkpoint without running code of it.

    Args:
        path: path of the checkpoint.
        content: content of the file if it was read already.

    Returns:
        The checkpoint; its hyper-parameters have the names of this version.

    Raises:
        TeacherError: the file is missing or damaged, was not written by this package, or its settings name something
            that is neither a class of this package nor of a network, an optimizer or a schedule.
    """
    try:
        checkpoint = torch.load(path if content is None else BytesIO(content), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TeacherError(f"there is no checkpoint {path}; train that model first, or name its experiment") from None
    except Exception as error:  # torch.load raises many types of errors for damaged files.
        reason = [*str(error).splitlines(), "no reason given"][0]
        raise TeacherError(f"cannot read the checkpoint {path}, it is damaged ({reason}); train it again") from error
    if not isinstance(checkpoint, dict) or SESSION_KEY not in checkpoint or LEGACY_KEYS & checkpoint.keys():
        raise TeacherError(f"{path} is not a checkpoint of a student or a teacher of this package; name one")
    hyper_parameters = checkpoint.get("hyper_parameters") or {}
    if hyper_parameters.get(INSTANTIATOR_KEY) != INSTANTIATOR:
        raise TeacherError(
            f"{path} does not say how its network is built, because an argument of its system is a function; train it "
            "with classes or functools.partial of classes as arguments, or pass the system instead of its checkpoint"
        )
    recognized_checkpoint: dict[str, Any] = checkpoint
    recognized_checkpoint["hyper_parameters"] = upgrade_hyper_parameters(hyper_parameters)
    untrusted = find_untrusted_class(_settings(recognized_checkpoint))
    if untrusted is not None:
        raise TeacherError(
            f"{path} asks to build {untrusted}, which is no class of a network, an optimizer or a schedule that is "
            "installed here; name a checkpoint that you trust"
        )
    return recognized_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, through a temporary file in the same folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            DataError: the folder cannot be written or the disk is full; the previous checkpoint is kept.
        """
        atomic_save(checkpoint, Path(path))


def save_weights(system: NeuralSystem, path: Path, epoch: int, step: int) -> None:
    """Writes a checkpoint without the state of the optimizer and the loops; training cannot be resumed from it.

    Args:
        system: a system that was built from a config.
        path: path of the checkpoint.
        epoch: last epoch of training, from 0.
        step: number of optimizer steps.

    Raises:
        DataError: the folder cannot be written or the disk is full; the previous checkpoint is kept.
    """
    checkpoint: dict[str, Any] = {
        # torch.save writes the whole storage of a view.
        "state_dict": {name: tensor.detach().clone() for name, tensor in system.state_dict().items()},
        "hyper_parameters": dict(system.hparams),
        "pytorch-lightning_version": L.__version__,
        "epoch": epoch,
        "global_step": step,
    }
    system.on_save_checkpoint(checkpoint)
    atomic_save(checkpoint, path)


def load_system(path: Path, content: bytes | None = None) -> NeuralSystem:
    """Loads a system, on the CPU, in evaluation mode.

    Args:
        path: checkpoint written by `fit` or by a plain `Trainer`.
        content: content of the file if it was read already.

    Raises:
        TeacherError: the file is missing or damaged, or was not written by this package.
    """
    checkpoint = read_checkpoint(path, content)
    try:
        system = instantiate_module(L.LightningModule, _settings(checkpoint))
        if not isinstance(system, NeuralSystem):
            raise TeacherError(f"{path} holds a {type(system).__name__}; name the checkpoint of a student or a teacher")
        system.on_load_checkpoint(checkpoint)
        system.load_state_dict(checkpoint["state_dict"])
    except (ArgumentError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = explain_parser_error(str(error)) or type(error).__name__
        raise TeacherError(f"{path} does not fit this version: {reason}; train that model again") from error
    return system.eval()


def _settings(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns the class path and the arguments of the system of a checkpoint."""
    return {key: value for key, value in checkpoint["hyper_parameters"].items() if key != INSTANTIATOR_KEY}
