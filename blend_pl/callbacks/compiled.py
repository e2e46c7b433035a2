"""Compilation of the network with torch.compile and CUDA graphs."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from blend_pl.data.base import datamodule_of
from blend_pl.systems.base import NeuralSystem
from blend_pl.utils.buffers import preserve_buffers

COMPILE_OPTIONS: dict[str, Any] = {"mode": "reduce-overhead"}
"""Options of torch.compile: with CUDA graphs, because launches of kernels take most of the time of small networks."""

TOLERANCE = 1e-2
"""Largest accepted difference of predictions, relative for entries above 1; TF32 has three significant digits."""


class Compiled(L.Callback):
    """Compiles the network of a system during training on a GPU.

    Parameters, checkpoints and the computed function do not change; dropout draws other numbers than without
    compilation. Before training the forward and the backward pass of the compiled network are tested on a batch. The
    network is not compiled, and one line is logged, on a CPU and if the test fails or the predictions differ.

    A CUDA graph overwrites the results of its previous run when the network is called again after a backward pass. No
    result is read that late: a step uses its predictions, features and latents only itself, gradients are accumulated
    in other tensors, and scores are sums. Teachers are not compiled, so that no other graph runs in between.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, NeuralSystem)
        if not supports_cuda_graphs(pl_module.device):
            rank_zero_info("the network is not compiled: compilation helps on a GPU only")
            return
        network = pl_module.backbone
        network.forward = torch.compile(network.forward, **COMPILE_OPTIONS)
        try:
            reason = self._check_compiled(trainer, pl_module)
        except Exception as error:  # The compiler and networks of users raise errors of any type.
            # The first line names the compiler, the second line the error.
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
        """Returns why the compiled network cannot be used, or None if it can."""
        network = system.backbone
        batch = next(iter(datamodule_of(trainer).calibration_dataloader())).to(system.device)
        was_training, devices = system.training, [system.device] if system.device.type == "cuda" else []

        def predict() -> Tensor:
            with trainer.precision_plugin.train_step_context():
                # A copy, because CUDA graphs overwrite the previous result.
                return system.encode(batch).prediction.clone()

        try:
            with preserve_buffers(network), torch.random.fork_rng(devices):
                # All compiled layers run in training mode only.
                predict().float().square().mean().backward()
                system.zero_grad()
                system.eval()
                with torch.no_grad():
                    compiled_prediction = predict()
                    compiled_forward = network.forward
                    uncompile(network)
                    eager_prediction = predict()
                    network.forward = compiled_forward
        finally:
            system.train(was_training)
        error = ((compiled_prediction - eager_prediction).abs() / eager_prediction.abs().clamp(min=1)).max()
        return None if error <= TOLERANCE else f"its predictions would differ by {error:.1e}"


def supports_cuda_graphs(device: torch.device) -> bool:
    """Whether compilation helps on a device: on a CPU steps were slower, after minutes of compilation."""
    return device.type == "cuda"


def uncompile(network: nn.Module) -> None:
    """Restores the forward method of the class of a network."""
    vars(network).pop("forward", None)
