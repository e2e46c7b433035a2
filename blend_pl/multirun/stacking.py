"""Several networks of one architecture, computed at once."""

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

TENSOR_ATTRIBUTES = {"_parameters", "_buffers", "_modules"}
SWAPPED_ATTRIBUTES = {"_parameters", "_buffers"}
"""What is exchanged from member to member; of other tensors all members have those of the first."""
ALIGNMENT = 8
"""Every parameter begins at a multiple of so many entries, which processors like."""
LITERAL_TYPES = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


class VmapLinear(nn.Module):
    """`PaddedLinear` in functions that vmap knows itself: those with a backward of their own cost it much time.

    Args:
        linear: the linear map of one member, whose parameters are shared.
    """

    def __init__(self, linear: PaddedLinear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        out = padded_linear(tokens, self.weight, None)
        # Under vmap a bias of another type would widen what mixed precision has made narrow.
        return out if self.bias is None else out + self.bias.to(out.dtype)


class VmapDropout(nn.Module):
    """`nn.Dropout` whose p is a tensor, so that it may differ between the members of a stack.

    Args:
        p: share that is dropped.
    """

    p: Tensor
    scale: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p), persistent=False)
        # Where everything is dropped, zeros are divided by one.
        self.register_buffer("scale", torch.tensor(1.0 if p == 1 else 1 / (1 - p)), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Any shape -> the same."""
        if not self.training:
            return tokens
        keep_mask = torch.rand_like(tokens) >= self.p
        return tokens * (keep_mask * self.scale).to(tokens.dtype)


class VmapWindow(nn.Module):
    """`Window` as one bias for all pairs of bins, so that its reach may differ between the members of a stack.

    Args:
        window: of one member.
    """

    bias: Tensor

    def __init__(self, window: AttentionWindow) -> None:
        super().__init__()
        bins = window.bins
        allowed = window_mask(bins, window.context_forward, window.context_backward)
        bias = torch.zeros(bins, bins)
        self.register_buffer("bias", bias if allowed is None else bias.masked_fill(~allowed, -torch.inf), False)


class VmapAttention(nn.Module):
    """`SelfAttention` with the dropout and the window of a member.

    Args:
        attention: the attention of one member, whose projections are shared.
    """

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.num_heads, self.qkv, self.out_proj = attention.num_heads, attention.qkv, attention.out_proj
        self.dropout = VmapDropout(attention.dropout)
        self.training = self.dropout.training = attention.training

    def forward(self, tokens: Tensor, window: VmapWindow | None = None) -> Tensor:
        """Tokens (B, T', width), and where they may look, None for anywhere -> (B, T', width)."""
        q, k, v = (
            projection.transpose(1, 2)
            for projection in self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        )
        scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2)
        weights = self.dropout((scores if window is None else scores + window.bias).softmax(-1).to(v.dtype))
        return self.out_proj((weights @ v).transpose(1, 2).flatten(-2))


def to_vmappable(module: nn.Module, ignore: Collection[str] = ()) -> nn.Module:
    """A copy that shares all tensors, in which dropouts and windows hold tensors instead of numbers.

    Args:
        module: of any kind.
        ignore: names of attributes that are shared too.
    """
    shared = [*module.parameters(), *module.buffers()]
    shared += [vars(submodule)[name] for submodule in module.modules() for name in ignore if name in vars(submodule)]
    # What is in the memo is not copied.
    vmappable = _replace_layers(copy.deepcopy(module, {id(value): value for value in shared}))
    tensor = next(itertools.chain(module.parameters(), module.buffers()), None)
    # What is new was made on the CPU.
    return vmappable if tensor is None else vmappable.to(tensor.device)


def _replace_layers(module: nn.Module) -> nn.Module:
    # What is new is in training mode.
    if isinstance(module, nn.Dropout):
        return VmapDropout(module.p).train(module.training)
    if isinstance(module, AttentionWindow):
        return VmapWindow(module)
    if isinstance(module, PaddedLinear):
        return VmapLinear(module)
    if isinstance(module, SelfAttention):
        module = VmapAttention(module)
    # One that has two names is named once by `named_children`.
    for name, child in [*module._modules.items()]:
        replacement = child and _replace_layers(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


class ModuleStack:
    """K modules of one architecture whose parameters lie side by side, computed by `torch.func.vmap`.

    The modules' own parameters and buffers become views of the stacked ones: an optimiser of one member's parameters
    trains the stack, and whoever writes to a member's buffer in place writes to the stack's. Chance differs between
    members; it is not what a member would draw on its own.

    Args:
        modules: the members, on one device and of one `architecture`.
        ignore: attributes that no computation needs, as in `architecture`.

    Attributes:
        template: a module that computes with the tensors of whichever member; its mode is that of all.
        parameters: those of all members, (K, ...) each.
        flat_parameters: (K, P) all that is trained, a row for each member; the trained parameters are views of it.
        replica_parameters: parameters of each.

    Raises:
        RuntimeError: what is trained is of several types.
    """

    def __init__(self, modules: Sequence[nn.Module], ignore: Collection[str] = ()) -> None:
        vmappable = [to_vmappable(module, ignore) for module in modules]
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
            raise RuntimeError("parameters of several types cannot be trained at once")
        padded_sizes = [-(-template_parameters[name].numel() // ALIGNMENT) * ALIGNMENT for name in self.trainable_names]
        self.padded_sizes = dict(zip(self.trainable_names, padded_sizes, strict=True))
        trainable_tensors = [template_parameters[name].detach() for name in self.trainable_names] or [torch.empty(0)]
        self.flat_parameters = trainable_tensors[0].new_zeros(len(vmappable), sum(padded_sizes))
        self._alias_parameters()

    def _alias_parameters(self) -> None:
        """Makes the trained parameters views of the values."""
        for name, stacked in self.unflatten_parameters(self.flat_parameters).items():
            for named_parameters, view in zip(self.replica_parameters, stacked, strict=True):
                view.copy_(named_parameters[name].detach())
                named_parameters[name].data = view
            self.parameters[name] = stacked.requires_grad_()

    def unflatten_parameters(self, flat_values: Tensor) -> dict[str, Tensor]:
        """What belongs to each trained parameter, (K, ...), in anything that is laid out as the values are; views."""
        columns_by_name = zip(self.trainable_names, flat_values.split([*self.padded_sizes.values()], 1), strict=True)
        shapes = {name: self.replica_parameters[0][name].shape for name in self.trainable_names}
        return {name: columns[:, : shapes[name].numel()].view(-1, *shapes[name]) for name, columns in columns_by_name}

    def __call__(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function of the skeleton for all members at once.

        Args:
            compute: called with the arguments of one member while the skeleton has that member's tensors.
            arguments: trees (dict, list, tuple) of tensors, (K, ...) each.

        Returns:
            What `compute` returns, a tree of tensors, (K, ...) each.
        """
        function_module = _FunctionModule(self.template, compute)

        def call_replica(parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *args: Any) -> Any:
            tensors = {f"module.{name}": tensor for name, tensor in (*parameters.items(), *buffers.items())}
            return functional_call(function_module, tensors, args)

        return vmap(call_replica, randomness="different")(self.parameters, self.buffers, *arguments)

    @property
    def has_all_gradients(self) -> bool:
        """Whether all that is trained has a gradient."""
        return all(self.parameters[name].grad is not None for name in self.trainable_names)

    def flat_gradients(self) -> Tensor:
        """(K, P) of the values; zero where there is none."""
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
        """Gives each member's parameters their part of gradients, (K, P), unless the stack's have none."""
        for name, stacked in self.unflatten_parameters(gradients).items():
            for named_parameters, replica_gradient in zip(self.replica_parameters, stacked, strict=True):
                named_parameters[name].grad = None if self.parameters[name].grad is None else replica_gradient

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None


class _FunctionModule(nn.Module):
    """A function of a module as a module, so that its tensors can be exchanged while it runs."""

    def __init__(self, module: nn.Module, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.compute = module, compute

    def forward(self, *arguments: Any) -> Any:
        return self.compute(self.module, *arguments)


def _stack_and_alias(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors in one, of which they become views."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, view in zip(tensors, stacked, strict=True):
        tensor.data = view
    return stacked.requires_grad_(tensors[0].requires_grad)


def describe_architecture(module: nn.Module, ignore: Collection[str] = ()) -> str:
    """All of a module but the values of its tensors, the shares of its dropouts and the reach of its windows.

    Modules with equal texts can be stacked.

    Args:
        module: of any kind.
        ignore: names of attributes that say nothing of what is computed, in whatever they are.
    """
    return repr(
        _StructureDescriber({*vars(nn.Module())} - TENSOR_ATTRIBUTES | {*ignore}).describe(to_vmappable(module, ignore))
    )


class _StructureDescriber:
    """What a value is, down to numbers and names; an object that was met before stands for itself by its number."""

    def __init__(self, ignore: set[str]) -> None:
        self.ignore = ignore
        # With the objects themselves: once one is gone, another may have its id.
        self.seen: dict[int, tuple[int, Any]] = {}

    def describe(self, value: Any, swapped: bool = False) -> Any:
        if isinstance(value, LITERAL_TYPES):
            return value
        if isinstance(value, Tensor) and not swapped:
            return ("tensor", value.dtype, value.tolist())
        if id(value) in self.seen:
            return ("seen", self.seen[id(value)][0])
        self.seen[id(value)] = len(self.seen), value
        if isinstance(value, Tensor):
            return ("tensor", tuple(value.shape), value.dtype, value.requires_grad)
        if isinstance(value, Mapping):
            items = [(key, item) for key, item in value.items() if key not in self.ignore]
            return [
                (str(key), [(name, self.describe(tensor, True)) for name, tensor in item.items()])
                if key in SWAPPED_ATTRIBUTES
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
            # Functions of one name may be others, as two lambdas of a line are.
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
        # Of what has no attributes, such as a set or an array: what a copy would be made from.
        return [name, self.describe(value.__reduce_ex__(2)[1:])]
