"""An opt-in for GPUs: the network compiled, its kernels launched together."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from blend_pl.data.base import datamodule_of
from blend_pl.systems.base import NeuralSystem
from blend_pl.utils.buffers import preserve_buffers

COMPILE_OPTIONS: dict[str, Any] = {"mode": "reduce-overhead"}
"""torch.compile with CUDA graphs: small networks wait for launches rather than for arithmetic."""

TOLERANCE = 1e-2
"""Largest difference of predictions that compiling may make, relative to entries above 1; TF32 has three digits."""


class Compiled(L.Callback):
    """Compiles the network of a system for the time of a training on a GPU.

    Parameters, checkpoints and what is computed stay as they are; dropout draws other numbers than without. Before
    training the compiled network is tried on a batch, forwards and backwards. On a CPU, and where that fails or
    predicts something else, the network runs as it is, and one line says so.

    A CUDA graph writes over the results of its last run once a step has gone backwards and the network is called again.
    Nothing is read that late: prediction, features and latents are used up by their own step, whose gradients are added
    up in other tensors; scores are sums. A teacher is not compiled, so that no run of its comes between.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, NeuralSystem)
        if not supports_cuda_graphs(pl_module.device):
            rank_zero_info("the network is not compiled: that pays on a GPU alone")
            return
        network = pl_module.backbone
        network.forward = torch.compile(network.forward, **COMPILE_OPTIONS)  # type: ignore[method-assign]
        try:
            reason = self._check_compiled(trainer, pl_module)
        except Exception as error:  # Whatever the compiler, or a network of one's own in it, may raise.
            # Compilers name themselves on a first line, and what was wrong on the next.
            reason = " ".join([*str(error).split("\n"), ""][:2]).strip() or type(error).__name__
        if reason:
            uncompile(network)
            rank_zero_info(f"the network is not compiled: {reason}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, NeuralSystem)
        uncompile(pl_module.backbone)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(pl_module, NeuralSystem) and pl_module.signature is not None:
            uncompile(pl_module.backbone)

    def _check_compiled(self, trainer: L.Trainer, system: NeuralSystem) -> str | None:
        """Why the compiled network is of no use; None if it is."""
        network = system.backbone
        batch = next(iter(datamodule_of(trainer).calibration_dataloader())).to(system.device)
        was_training, devices = system.training, [system.device] if system.device.type == "cuda" else []

        def predict() -> Tensor:
            with trainer.precision_plugin.train_step_context():
                # A copy, for CUDA graphs write each result over the last.
                return system.encode(batch).prediction.clone()

        try:
            with preserve_buffers(network), torch.random.fork_rng(devices):
                # In the mode of training alone do all layers run that are compiled; backwards too.
                predict().float().square().mean().backward()
                system.zero_grad()
                system.eval()
                with torch.no_grad():
                    compiled_prediction = predict()
                    compiled_forward = network.forward
                    uncompile(network)
                    eager_prediction = predict()
                    network.forward = compiled_forward  # type: ignore[method-assign]
        finally:
            system.train(was_training)
        error = ((compiled_prediction - eager_prediction).abs() / eager_prediction.abs().clamp(min=1)).max()
        return None if error <= TOLERANCE else f"its predictions would differ by {error:.1e}"


def supports_cuda_graphs(device: torch.device) -> bool:
    """Whether compiling pays on a device: on a CPU a step took longer, after minutes of compiling."""
    return device.type == "cuda"


def uncompile(network: nn.Module) -> None:
    """Lets a network's class say again how it runs."""
    vars(network).pop("forward", None)
