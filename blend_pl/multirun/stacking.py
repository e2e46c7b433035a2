"""Stacks of modules of one architecture, which `torch.func.vmap` computes in one call."""

import copy
import functools
import itertools
import math
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from blend_pl.models.layers.attention import AttentionWindow, SelfAttention, window_mask
from blend_pl.models.layers.padded_linear import PaddedLinear, padded_linear

PER_REPLICA_ATTRIBUTES = {"_parameters", "_buffers"}
"""Attributes of `nn.Module` with tensors that differ between replicas; other tensors must be equal in all replicas."""
DESCRIBED_ATTRIBUTES = {*PER_REPLICA_ATTRIBUTES, "_modules"}
"""Attributes of `nn.Module` that `describe_architecture` includes; others, such as hooks, are ignored."""
ALIGNMENT = 8
"""Every parameter starts at a multiple of this number of entries, for aligned memory access."""
LITERAL_TYPES = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


class VmapLinear(nn.Module):
    """`PaddedLinear` without a custom autograd function, which is slow under vmap.

    Args:
        linear: layer of one replica; its parameters are shared.
    """

    def __init__(self, linear: PaddedLinear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        out = padded_linear(tokens, self.weight, None)
        # Under vmap a bias of float32 would promote an output of mixed precision.
        return out if self.bias is None else out + self.bias.to(out.dtype)


class VmapDropout(nn.Module):
    """`nn.Dropout` with p as a buffer, so that p can differ between the replicas of a stack.

    Args:
        p: dropout probability.
    """

    p: Tensor
    scale: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p), persistent=False)
        # With p = 1 all outputs are zero, and a finite scale avoids NaN.
        self.register_buffer("scale", torch.tensor(1.0 if p == 1 else 1 / (1 - p)), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps a tensor to a tensor of the same shape."""
        if not self.training:
            return tokens
        keep_mask = torch.rand_like(tokens) >= self.p
        return tokens * (keep_mask * self.scale).to(tokens.dtype)


class VmapWindow(nn.Module):
    """`AttentionWindow` as a bias buffer (T', T'), so that the window can differ between the replicas of a stack.

    Args:
        window: window of one replica.
    """

    bias: Tensor

    def __init__(self, window: AttentionWindow) -> None:
        super().__init__()
        bins = window.bins
        allowed = window_mask(bins, window.context_forward, window.context_backward)
        bias = torch.zeros(bins, bins)
        self.register_buffer("bias", bias if allowed is None else bias.masked_fill(~allowed, -torch.inf), False)


class VmapAttention(nn.Module):
    """`SelfAttention` with `VmapDropout` and `VmapWindow`.

    Args:
        attention: layer of one replica; its projections are shared.
    """

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.num_heads, self.qkv, self.out_proj = attention.num_heads, attention.qkv, attention.out_proj
        self.dropout = VmapDropout(attention.dropout)
        self.training = self.dropout.training = attention.training

    def forward(self, tokens: Tensor, window: VmapWindow | None = None) -> Tensor:
        """Maps tokens (B, T', d_model) to (B, T', d_model); a window of None attends to all bins."""
        q, k, v = (
            projection.transpose(1, 2)
            for projection in self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        )
        scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2)
        weights = self.dropout((scores if window is None else scores + window.bias).softmax(-1).to(v.dtype))
        outputs: Tensor = self.out_proj((weights @ v).transpose(1, 2).flatten(-2))
        return outputs


def to_vmappable(module: nn.Module, ignored_attributes: Collection[str] = ()) -> nn.Module:
    """Copies a module for use under vmap: its dropout probabilities and attention windows become buffers.

    Parameters, buffers and ignored attributes are not copied: the copy has those of the module.

    Args:
        module: any module.
        ignored_attributes: names of attributes, of any submodule, that do not affect the computation.
    """
    shared_objects = [*module.parameters(), *module.buffers()]
    for submodule in module.modules():
        shared_objects += [vars(submodule)[name] for name in ignored_attributes if name in vars(submodule)]
    # deepcopy does not copy the objects in its memo.
    vmappable = _replace_layers(copy.deepcopy(module, {id(value): value for value in shared_objects}))
    tensor = next(itertools.chain(module.parameters(), module.buffers()), None)
    # New buffers are created on the CPU.
    return vmappable if tensor is None else vmappable.to(tensor.device)


def _replace_layers(module: nn.Module) -> nn.Module:
    # Reversed order: children before their parents. A module with two names is listed twice.
    for name, layer in reversed([*module.named_modules(remove_duplicate=False)]):
        replacement = _vmap_layer(layer)
        if replacement is not None and not name:
            return replacement
        if replacement is not None:
            module.set_submodule(name, replacement)
    return module


def _vmap_layer(layer: nn.Module) -> nn.Module | None:
    """Returns the replacement of a layer; None if it needs none."""
    if isinstance(layer, nn.Dropout):
        # New modules are created in training mode.
        return VmapDropout(layer.p).train(layer.training)
    if isinstance(layer, AttentionWindow):
        return VmapWindow(layer)
    if isinstance(layer, PaddedLinear):
        return VmapLinear(layer)
    return VmapAttention(layer) if isinstance(layer, SelfAttention) else None


class ModuleStack:
    """K modules of one architecture with stacked parameters, which `torch.func.vmap` computes in one call.

    The modules' parameters and buffers become views of the stacked tensors, so that an optimizer of one replica's
    parameters trains the stack, and in-place changes of a replica's buffer change the stack's. Random numbers differ
    between replicas and from those of a replica alone.

    Args:
        modules: modules on one device with equal `describe_architecture`.
        ignored_attributes: names of attributes that do not affect the computation; see `to_vmappable`.

    Attributes:
        template: module that is called with the tensors of each replica; its training mode is that of all.
        parameters: stacked parameters by name, (K, ...) each.
        flat_parameters: trainable parameters of each replica, (K, P); the trainable `parameters` are views of it.
        replica_parameters: parameters of each replica by name.

    Raises:
        RuntimeError: the trainable parameters have several dtypes.
    """

    def __init__(self, modules: Sequence[nn.Module], ignored_attributes: Collection[str] = ()) -> None:
        vmappable = [to_vmappable(module, ignored_attributes) for module in modules]
        self.template = vmappable[0]
        self.replica_parameters = [dict(module.named_parameters()) for module in vmappable]
        self.buffers = {
            name: _stack_and_alias([module.get_buffer(name) for module in vmappable])
            for name, _ in self.template.named_buffers()
        }
        template_parameters = self.replica_parameters[0]
        self.trainable_names = [name for name, parameter in template_parameters.items() if parameter.requires_grad]
        self.parameters = {
            name: _stack_and_alias([named_parameters[name] for named_parameters in self.replica_parameters])
            for name in template_parameters
            if name not in self.trainable_names
        }
        if len({template_parameters[name].dtype for name in self.trainable_names}) > 1:
            raise RuntimeError("trainable parameters of several dtypes cannot be stacked")
        padded_sizes = [-(-template_parameters[name].numel() // ALIGNMENT) * ALIGNMENT for name in self.trainable_names]
        self.padded_sizes = dict(zip(self.trainable_names, padded_sizes, strict=True))
        trainable_tensors = [template_parameters[name].detach() for name in self.trainable_names] or [torch.empty(0)]
        self.flat_parameters = trainable_tensors[0].new_zeros(len(vmappable), sum(padded_sizes))
        self._alias_parameters()

    def _alias_parameters(self) -> None:
        """Makes the trainable parameters views of `flat_parameters`."""
        for name, stacked in self.unflatten_parameters(self.flat_parameters).items():
            for named_parameters, view in zip(self.replica_parameters, stacked, strict=True):
                view.copy_(named_parameters[name].detach())
                named_parameters[name].data = view
            self.parameters[name] = stacked.requires_grad_()

    def unflatten_parameters(self, flat_values: Tensor) -> dict[str, Tensor]:
        """Returns views, (K, ...) per trainable parameter, of values (K, P) in the layout of `flat_parameters`."""
        columns_by_name = zip(self.trainable_names, flat_values.split([*self.padded_sizes.values()], 1), strict=True)
        shapes = {name: self.replica_parameters[0][name].shape for name in self.trainable_names}
        return {name: columns[:, : shapes[name].numel()].view(-1, *shapes[name]) for name, columns in columns_by_name}

    def __call__(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """Calls `compute` for all replicas at once.

        Args:
            compute: `compute(module, *arguments)`, called for one replica under vmap.
            arguments: pytrees (dict, list, tuple) of tensors, (K, ...) each.

        Returns:
            The outputs of `compute`, a pytree of tensors, (K, ...) each.
        """
        function_module = _FunctionModule(self.template, compute)

        def call_replica(parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *args: Any) -> Any:
            tensors = {f"module.{name}": tensor for name, tensor in (*parameters.items(), *buffers.items())}
            return functional_call(function_module, tensors, args)

        return vmap(call_replica, randomness="different")(self.parameters, self.buffers, *arguments)

    @property
    def has_all_gradients(self) -> bool:
        """Whether all trainable parameters have a gradient."""
        return all(self.parameters[name].grad is not None for name in self.trainable_names)

    def flat_gradients(self) -> Tensor:
        """Returns the gradients of `flat_parameters`, (K, P); zero for parameters without one."""
        n_replicas, pieces = len(self.replica_parameters), []
        zero = self.flat_parameters.new_zeros(())
        for name, padded_size in self.padded_sizes.items():
            gradient = self.parameters[name].grad
            if gradient is not None:
                pieces.append(gradient.reshape(n_replicas, -1))
                padded_size -= pieces[-1].shape[1]
            if padded_size:
                pieces.append(zero.expand(n_replicas, padded_size))
        return torch.cat(pieces, 1)

    def scatter_gradients(self, gradients: Tensor) -> None:
        """Sets the gradients of each replica's parameters from (K, P); None where the stacked parameter has none."""
        for name, stacked in self.unflatten_parameters(gradients).items():
            for named_parameters, replica_gradient in zip(self.replica_parameters, stacked, strict=True):
                named_parameters[name].grad = None if self.parameters[name].grad is None else replica_gradient

    def zero_grad(self) -> None:
        """Resets all gradients to None."""
        for parameter in self.parameters.values():
            parameter.grad = None


class _FunctionModule(nn.Module):
    """Wraps a function of a module in a module, as `functional_call` requires."""

    def __init__(self, module: nn.Module, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.compute = module, compute

    def forward(self, *arguments: Any) -> Any:
        return self.compute(self.module, *arguments)


def _stack_and_alias(tensors: Sequence[Tensor]) -> Tensor:
    """Stacks tensors and makes them views of the result."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, view in zip(tensors, stacked, strict=True):
        tensor.data = view
    return stacked.requires_grad_(tensors[0].requires_grad)


def describe_architecture(module: nn.Module, ignored_attributes: Collection[str] = ()) -> str:
    """Describes a module without the values of its parameters and buffers, dropout probabilities and attention windows.

    Modules with equal descriptions can be stacked.

    Args:
        module: any module.
        ignored_attributes: names of attributes, of any object in the module, that do not affect the computation.
    """
    ignored_module_attributes = {*vars(nn.Module())} - DESCRIBED_ATTRIBUTES
    describer = _StructureDescriber({*ignored_module_attributes, *ignored_attributes})
    return repr(describer.describe(to_vmappable(module, ignored_attributes)))


class _StructureDescriber:
    """Describes a value recursively by numbers and names; an object that occurred before is described by its index."""

    def __init__(self, ignored_attributes: set[str]) -> None:
        self.ignored_attributes = ignored_attributes
        # Holds the objects too, because the id of a deleted object can be reused.
        self.seen: dict[int, tuple[int, Any]] = {}

    def describe(self, value: Any, is_per_replica: bool = False) -> Any:
        if isinstance(value, LITERAL_TYPES):
            return value
        if isinstance(value, Tensor) and not is_per_replica:
            return ("tensor", value.dtype, value.tolist())
        if id(value) in self.seen:
            return ("seen", self.seen[id(value)][0])
        self.seen[id(value)] = len(self.seen), value
        if isinstance(value, Tensor):
            return ("tensor", tuple(value.shape), value.dtype, value.requires_grad)
        if isinstance(value, Mapping):
            items = [(key, item) for key, item in value.items() if key not in self.ignored_attributes]
            return [
                (str(key), [(name, self.describe(tensor, True)) for name, tensor in item.items()])
                if key in PER_REPLICA_ATTRIBUTES
                else (str(key), self.describe(item))
                for key, item in items
            ]
        if isinstance(value, Sequence):
            return [self.describe(item) for item in value]
        if isinstance(value, functools.partial):
            return ["partial", *(self.describe(component) for component in (value.func, value.args, value.keywords))]
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            bound = (value.__defaults__, value.__kwdefaults__, cells)
            # Two functions can have one name, such as two lambdas in one line.
            return [
                value.__module__,
                value.__qualname__,
                hash(value.__code__),
                *(self.describe(component) for component in bound),
            ]
        if isinstance(value, weakref.ref):
            return ["weakref", self.describe(value())]
        if isinstance(value, MethodType):
            return [self.describe(value.__func__), self.describe(value.__self__)]
        cls = value if isinstance(value, type | BuiltinFunctionType) else type(value)
        name = f"{cls.__module__}.{cls.__qualname__}"
        if cls is value:
            return name
        if hasattr(value, "__dict__"):
            return [name, self.describe(vars(value))]
        # Objects without attributes, such as sets and arrays, are described by their pickled state.
        return [name, self.describe(value.__reduce_ex__(2)[1:])]
