"""Checks that training on a GPU never waits for the device; without CUDA, on a fake GPU.

Tensors on the fake GPU have a shape and a device but no values (torch's FakeTensorMode). Operators on tensors of two
devices raise, and so do operators that make the host wait for the device: reading a value, sizes that depend on values
and, within `NoStalls`, blocking copies between host and device. The rest is as on a GPU: the branches of the package
for devices other than the CPU, autograd, vmap, optimizers and Lightning's loop.

The fake GPU uses torch's slot for custom devices (PrivateUse1), because fake tensors on "cuda" have no gradients
without CUDA. It must be installed before the first backward pass of a process; tests use it in a subprocess.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
from helpers.systems import trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

REAL = torch.cuda.is_available()
NAME = "cuda" if REAL else "fakegpu"
aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)


AUTOCAST = "AutocastPrivateUse1"
CAST = {
    torch.bfloat16: ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv1d", "scaled_dot_product_attention"),
    torch.float32: (
        *("softmax.int", "log_softmax.int", "layer_norm", "exp", "log", "sum", "sum.dim_IntList", "kl_div"),
        *("cosine_similarity", "rsqrt", "pow.Tensor_Scalar"),
    ),
}
"""Operators that mixed precision on CUDA computes in each type; only those that the cases use."""


class Stall(Exception):
    """The host waits for the device."""


class _Module(backend_registration._DummyBackendModule):
    def is_available(self) -> bool:
        # With True, torch creates tensors from lists on the device.
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class _Hooks(backend_registration._DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return False


class _Cast:
    """An operator that casts its floating-point arguments to one type."""

    def __init__(self, operator: Any, dtype: torch.dtype) -> None:
        self.operator, self.dtype = operator, dtype

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        def cast(value: Any) -> Any:
            return value.to(self.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        keys = torch._C.DispatchKeySet(torch._C._parse_dispatch_key(AUTOCAST))
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return self.operator(*tree_map(cast, args), **tree_map(cast, kwargs))


def _gru(x: Tensor, h: Tensor, hx: Tensor, b1: Tensor | None = None, b2: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(hx), hx.new_empty(len(hx), 5 * hx.shape[1])


def _gru_backward(grad: Tensor, workspace: Tensor, has_bias: bool) -> tuple[Tensor, ...]:
    gates, bias = grad.new_empty(len(grad), 3 * grad.shape[1]), grad.new_empty(3 * grad.shape[1])
    return gates, torch.empty_like(gates), torch.empty_like(grad), bias, torch.empty_like(bias)


def install() -> ExitStack:
    """Installs the fake device, once per process, until the returned stack is closed or deleted."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module(), _Hooks())
    libraries = ExitStack()
    # The only operator without a fake implementation; CUDA uses cuDNN.
    library = libraries.enter_context(torch.library._scoped_library("aten", "IMPL"))
    library.impl("_thnn_fused_gru_cell", _gru, "Meta")
    library.impl("_thnn_fused_gru_cell_backward", _gru_backward, "Meta")
    autocast = libraries.enter_context(torch.library._scoped_library("_", "IMPL", AUTOCAST))
    autocast.fallback(torch.library.fallthrough_kernel)
    for dtype, names in CAST.items():
        for name in names:
            packet, _, overload = name.partition(".")
            library.impl(name, _Cast(getattr(getattr(aten, packet), overload or "default"), dtype), AUTOCAST)
    return libraries


class NoStalls(TorchDispatchMode):
    """Raises at blocking copies between host and device, and at indices on another device than the tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (aten._to_copy.default, aten.copy_.default):
            is_to_copy = func is aten._to_copy.default
            source, target = args[0 if is_to_copy else 1], kwargs.get("device") or args[0].device
            blocks = target.type != source.device.type and not (kwargs.get("non_blocking") or args[2:3] == (True,))
            if blocks:
                raise Stall(f"blocking copy from {source.device} to {target}")
        if func in INDEXED:
            for index in args[1]:
                if index is not None and index.device.type != args[0].device.type:
                    raise Stall(f"index on {index.device} of a tensor on {args[0].device}")
        return func(*args, **kwargs)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


class _Generator(torch.Generator):
    """A generator on the CPU that reports the fake device as its own."""

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0)


class FakeGPU(TorchDispatchMode):
    """Makes tensors on the device fake within the context; tensors on the host are unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.stack = ExitStack()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        on_device = any(
            isinstance(x, FakeTensor) or (isinstance(x, torch.device) and x.type == NAME)
            for x in tree_leaves((args, kwargs))
        )
        with self.fake if on_device else nullcontext():
            return func(*args, **(kwargs or {}))

    def __enter__(self) -> "FakeGPU":
        cpu_generator = torch.Generator

        def generator(device: Any = "cpu") -> torch.Generator:
            return cpu_generator() if torch.device(device).type == "cpu" else _Generator()

        self.stack.enter_context(patch("torch.Generator", generator))
        # Before training, Lightning checks once whether any rank has batches.
        for loop in ("fit_loop", "evaluation_loop"):
            self.stack.enter_context(patch(f"lightning.pytorch.loops.{loop}.has_len_all_ranks", return_value=True))
        # swap_tensors raises for fake parameters with weak references; skip it if the device does not change.
        swap = torch.utils.swap_tensors
        skip_swap = patch("torch.utils.swap_tensors", lambda old, new: old.device == new.device or swap(old, new))
        self.stack.enter_context(skip_swap)
        # Fake tensors have no storage to copy.
        self.stack.enter_context(patch("torchmetrics.metric.deepcopy", _copy))
        # As on a GPU, tensors from lists are created on the host and then moved.
        self.stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.stack.close()


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Does nothing."""


class OnFakeGPU(SingleDeviceStrategy):
    """Trains on the device and leaves the model there."""

    def __init__(self) -> None:
        super().__init__(torch.device(NAME, 0), _Accelerator())

    def teardown(self) -> None:
        """Does not move the model to the CPU."""


@contextmanager
def on_device() -> Iterator[torch.device]:
    """Yields the device, with the fake GPU active if there is no CUDA."""
    with nullcontext() if REAL else FakeGPU():
        yield torch.device(NAME, 0)


@contextmanager
def forbid_stalls() -> Iterator[None]:
    """Raises where the host waits for the device."""
    if not REAL:
        with NoStalls():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class ForbidStalls(L.Callback):
    """Forbids stalls in all training steps but the first, in which Lightning registers the logged values."""

    def __init__(self) -> None:
        self.stack, self.steps = ExitStack(), 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1
        if self.steps == 1:
            self.stack.enter_context(forbid_stalls())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Checks that all parameters and gradients are on the device."""
        self.stack.close()
        for name, parameter in pl_module.named_parameters():
            assert parameter.device.type == NAME, f"{name} is on {parameter.device}"
            assert parameter.grad is None or parameter.grad.device.type == NAME, f"the gradient of {name}"

    def on_exception(self, *_: Any) -> None:
        self.stack.close()


def fit(system: L.LightningModule, data: L.LightningDataModule, *callbacks: L.Callback, **settings: Any) -> None:
    """Takes three training steps on the device with Lightning's loop; raises if one after the first stalls.

    Args:
        system: the system to train.
        data: its data module.
        callbacks: callbacks of the trainer.
        settings: settings of the trainer, which replace the defaults.
    """
    placement: dict[str, Any] = {"accelerator": "gpu", "devices": 1}
    if not REAL:
        placement = {"accelerator": "auto", "strategy": OnFakeGPU()}
    # Validation and logging stall, once per epoch and per log interval, and are excluded.
    budget: dict[str, Any] = {"limit_train_batches": 3, "limit_val_batches": 0, "log_every_n_steps": 1000}
    guard = ForbidStalls()
    with TemporaryDirectory() as folder, on_device():
        trainer(Path(folder), 1, *callbacks, guard, **{**placement, **budget, **settings}).fit(system, data)
    assert guard.steps == 3
