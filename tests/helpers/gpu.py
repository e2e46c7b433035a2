"""Training on a GPU that must not wait; without CUDA, on one of which there is no more than the rules.

Tensors on the fake one have a shape and a device but no numbers (torch's FakeTensorMode). An operator on tensors of two
devices raises, and so does whatever would make the host wait for the device: a number read back, a size that depends on
numbers, and, as long as `NoStalls` watches, a copy from one to the other that blocks. All else is what it would be
on a GPU: the branches of the package that a CPU does not take, autograd, vmap, optimisers, Lightning's loop.

It is torch's slot for devices of one's own, as fake tensors on "cuda" have no gradients without CUDA. It has to be
there before the first backward pass of a process, so whoever uses it has a process of its own.
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
"""What mixed precision on CUDA computes in which type, as far as it is met with here."""


class Stall(Exception):
    """The host would wait for the device."""


class _Module(backend_registration._DummyBackendModule):
    def is_available(self) -> bool:
        # Otherwise torch would make tensors of lists on the device itself.
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class _Hooks(backend_registration._DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return False


class _Cast:
    """An operator whose arguments are of one type."""

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
    """Makes the fake device, once in a process; what is returned has to be kept."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module(), _Hooks())
    kept = ExitStack()
    # The one operator without a fake: on CUDA it is cuDNN's.
    library = kept.enter_context(torch.library._scoped_library("aten", "IMPL"))
    library.impl("_thnn_fused_gru_cell", _gru, "Meta")
    library.impl("_thnn_fused_gru_cell_backward", _gru_backward, "Meta")
    autocast = kept.enter_context(torch.library._scoped_library("_", "IMPL", AUTOCAST))
    autocast.fallback(torch.library.fallthrough_kernel)
    for dtype, names in CAST.items():
        for name in names:
            packet, _, overload = name.partition(".")
            library.impl(name, _Cast(getattr(getattr(aten, packet), overload or "default"), dtype), AUTOCAST)
    return kept


class NoStalls(TorchDispatchMode):
    """Raises where host and device exchange what does not fit into a kernel's arguments, and one waits for it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (aten._to_copy.default, aten.copy_.default):
            moves = func is aten._to_copy.default
            source, target = args[0 if moves else 1], kwargs.get("device") or args[0].device
            waits = target.type != source.device.type and not (kwargs.get("non_blocking") or args[2:3] == (True,))
            if waits:
                raise Stall(f"a copy from {source.device} to {target} that blocks")
        if func in INDEXED:
            for index in args[1]:
                if index is not None and index.device.type != args[0].device.type:
                    raise Stall(f"an index on {index.device} of what lies on {args[0].device}")
        return func(*args, **kwargs)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


class _Generator(torch.Generator):
    """Stands in for a generator on the device: one on the CPU that says that it lies there."""

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0)


class FakeGPU(TorchDispatchMode):
    """Within it, tensors may lie on the device, where they are fake; on the host all is as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.within = ExitStack()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        concerned = any(
            isinstance(x, FakeTensor) or (isinstance(x, torch.device) and x.type == NAME)
            for x in tree_leaves((args, kwargs))
        )
        with self.fake if concerned else nullcontext():
            return func(*args, **(kwargs or {}))

    def __enter__(self) -> "FakeGPU":
        host = torch.Generator

        def generator(device: Any = "cpu") -> torch.Generator:
            return host() if torch.device(device).type == "cpu" else _Generator()

        self.within.enter_context(patch("torch.Generator", generator))
        # Lightning looks once, before it trains, whether any rank has batches.
        for loop in ("fit_loop", "evaluation_loop"):
            self.within.enter_context(patch(f"lightning.pytorch.loops.{loop}.has_len_all_ranks", return_value=True))
        # What a fake parameter refers to weakly keeps it from being put where it is already.
        swap = torch.utils.swap_tensors
        moved = patch("torch.utils.swap_tensors", lambda old, new: old.device == new.device or swap(old, new))
        self.within.enter_context(moved)
        # Fake tensors cannot be copied by way of their storage.
        self.within.enter_context(patch("torchmetrics.metric.deepcopy", _copy))
        # Tensors of lists are made on the host and then moved, as on a GPU.
        self.within.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.within.close()


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """There is nothing to set up."""


class OnFakeGPU(SingleDeviceStrategy):
    """Trains on the device, and leaves there what has been trained."""

    def __init__(self) -> None:
        super().__init__(torch.device(NAME, 0), _Accelerator())

    def teardown(self) -> None:
        """Nothing comes back."""


@contextmanager
def there() -> Iterator[torch.device]:
    """Where the device is."""
    with nullcontext() if REAL else FakeGPU():
        yield torch.device(NAME, 0)


@contextmanager
def watched() -> Iterator[None]:
    """Raises where the host would wait for the device."""
    if not REAL:
        with NoStalls():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Watch(L.Callback):
    """Lets no training step wait but the first, in which Lightning learns what is logged."""

    def __init__(self) -> None:
        self.watching, self.steps = ExitStack(), 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1
        if self.steps == 1:
            self.watching.enter_context(watched())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends the watch; all must be where it belongs."""
        self.watching.close()
        for name, parameter in pl_module.named_parameters():
            assert parameter.device.type == NAME, f"{name} was left on {parameter.device}"
            assert parameter.grad is None or parameter.grad.device.type == NAME, f"the gradient of {name}"

    def on_exception(self, *_: Any) -> None:
        self.watching.close()


def fit(system: L.LightningModule, data: L.LightningDataModule, *callbacks: L.Callback, **settings: Any) -> None:
    """Takes three training steps on the device, with Lightning's loop; all but the first may not wait.

    Args:
        system: what is trained.
        data: its data.
        callbacks: of the training.
        settings: of the trainer.
    """
    where: dict[str, Any] = {"accelerator": "gpu", "devices": 1}
    if not REAL:
        where = {"accelerator": "auto", "strategy": OnFakeGPU()}
    # A validation and what is logged are waited for, once an epoch and every so many steps.
    budget: dict[str, Any] = {"limit_train_batches": 3, "limit_val_batches": 0, "log_every_n_steps": 1000}
    watch = Watch()
    with TemporaryDirectory() as folder, there():
        trainer(Path(folder), 1, *callbacks, watch, **{**where, **budget, **settings}).fit(system, data)
    assert watch.steps == 3
