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

from blend_pl.models.layers.attention import SelfAttention, Window, attention_window
from blend_pl.models.layers.padded_linear import AlignedLinear, padded_linear

TENSORS = {"_parameters", "_buffers", "_modules"}
EXCHANGED = {"_parameters", "_buffers"}
"""What is exchanged from member to member; of other tensors all members have those of the first."""
ALIGNMENT = 8
"""Every parameter begins at a multiple of so many entries, which processors like."""
PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


class MemberLinear(nn.Module):
    """`AlignedLinear` in functions that vmap knows itself: those with a backward of their own cost it much time.

    Args:
        alone: the linear map of one member, whose parameters are shared.
    """

    def __init__(self, alone: AlignedLinear) -> None:
        super().__init__()
        self.weight, self.bias = alone.weight, alone.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        out = padded_linear(tokens, self.weight, None)
        # Under vmap a bias of another type would widen what mixed precision has made narrow.
        return out if self.bias is None else out + self.bias.to(out.dtype)


class MemberDropout(nn.Module):
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
        kept = torch.rand_like(tokens) >= self.p
        return tokens * (kept * self.scale).to(tokens.dtype)


class MemberWindow(nn.Module):
    """`Window` as one bias for all pairs of bins, so that its reach may differ between the members of a stack.

    Args:
        window: of one member.
    """

    bias: Tensor

    def __init__(self, window: Window) -> None:
        super().__init__()
        bins = window.bins
        allowed = attention_window(bins, window.ahead, window.back)
        bias = torch.zeros(bins, bins)
        self.register_buffer("bias", bias if allowed is None else bias.masked_fill(~allowed, -torch.inf), False)


class MemberAttention(nn.Module):
    """`SelfAttention` with the dropout and the window of a member.

    Args:
        alone: the attention of one member, whose projections are shared.
    """

    def __init__(self, alone: SelfAttention) -> None:
        super().__init__()
        self.heads, self.qkv, self.out_proj = alone.heads, alone.qkv, alone.out_proj
        self.dropout = MemberDropout(alone.dropout)
        self.training = self.dropout.training = alone.training

    def forward(self, tokens: Tensor, window: MemberWindow | None = None) -> Tensor:
        """Tokens (B, T', width), and where they may look, None for anywhere -> (B, T', width)."""
        q, k, v = (part.transpose(1, 2) for part in self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).unbind(-3))
        scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2)
        weights = self.dropout((scores if window is None else scores + window.bias).softmax(-1).to(v.dtype))
        return self.out_proj((weights @ v).transpose(1, 2).flatten(-2))


def member_form(module: nn.Module, besides: Collection[str] = ()) -> nn.Module:
    """A copy that shares all tensors, in which dropouts and windows hold tensors instead of numbers.

    Args:
        module: of any kind.
        besides: names of attributes that are shared too.
    """
    shared = [*module.parameters(), *module.buffers()]
    shared += [vars(part)[name] for part in module.modules() for name in besides if name in vars(part)]
    # What is in the memo is not copied.
    formed = _formed(copy.deepcopy(module, {id(value): value for value in shared}))
    tensor = next(itertools.chain(module.parameters(), module.buffers()), None)
    # What is new was made on the CPU.
    return formed if tensor is None else formed.to(tensor.device)


def _formed(module: nn.Module) -> nn.Module:
    # What is new is in training mode.
    if isinstance(module, nn.Dropout):
        return MemberDropout(module.p).train(module.training)
    if isinstance(module, Window):
        return MemberWindow(module)
    if isinstance(module, AlignedLinear):
        return MemberLinear(module)
    if isinstance(module, SelfAttention):
        module = MemberAttention(module)
    # One that has two names is named once by `named_children`.
    for name, child in [*module._modules.items()]:
        formed = child and _formed(child)
        if formed is not child:
            setattr(module, name, formed)
    return module


class Stack:
    """K modules of one architecture whose parameters lie side by side, computed by `torch.func.vmap`.

    The modules' own parameters and buffers become views of the stacked ones: an optimiser of one member's parameters
    trains the stack, and whoever writes to a member's buffer in place writes to the stack's. Chance differs between
    members; it is not what a member would draw on its own.

    Args:
        modules: the members, on one device and of one `architecture`.
        besides: attributes that no computation needs, as in `architecture`.

    Attributes:
        skeleton: a module that computes with the tensors of whichever member; its mode is that of all.
        parameters: those of all members, (K, ...) each.
        values: (K, P) all that is trained, a row for each member; the trained parameters are views of it.
        members: parameters of each.

    Raises:
        RuntimeError: what is trained is of several types.
    """

    def __init__(self, modules: Sequence[nn.Module], besides: Collection[str] = ()) -> None:
        formed = [member_form(module, besides) for module in modules]
        self.skeleton = formed[0]
        self.members = [dict(form.named_parameters()) for form in formed]
        self.buffers = {
            name: _stacked([form.get_buffer(name) for form in formed]) for name, _ in self.skeleton.named_buffers()
        }
        own = self.members[0]
        self.trained = [name for name, parameter in own.items() if parameter.requires_grad]
        self.parameters = {
            name: _stacked([member[name] for member in self.members]) for name in own if name not in self.trained
        }
        if len({own[name].dtype for name in self.trained}) > 1:
            raise RuntimeError("parameters of several types cannot be trained at once")
        rooms = [-(-own[name].numel() // ALIGNMENT) * ALIGNMENT for name in self.trained]
        self.rooms = dict(zip(self.trained, rooms, strict=True))
        like = [own[name].detach() for name in self.trained] or [torch.empty(0)]
        self.values = like[0].new_zeros(len(formed), sum(rooms))
        self._move_in()

    def _move_in(self) -> None:
        """Makes the trained parameters views of the values."""
        for name, stacked in self.parts(self.values).items():
            for member, place in zip(self.members, stacked, strict=True):
                place.copy_(member[name].detach())
                member[name].data = place
            self.parameters[name] = stacked.requires_grad_()

    def parts(self, values: Tensor) -> dict[str, Tensor]:
        """What belongs to each trained parameter, (K, ...), in anything that is laid out as the values are; views."""
        rooms = zip(self.trained, values.split([*self.rooms.values()], 1), strict=True)
        shapes = {name: self.members[0][name].shape for name in self.trained}
        return {name: room[:, : shapes[name].numel()].view(-1, *shapes[name]) for name, room in rooms}

    def __call__(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function of the skeleton for all members at once.

        Args:
            compute: called with the arguments of one member while the skeleton has that member's tensors.
            arguments: trees (dict, list, tuple) of tensors, (K, ...) each.

        Returns:
            What `compute` returns, a tree of tensors, (K, ...) each.
        """
        call = _Call(self.skeleton, compute)

        def one(parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *own: Any) -> Any:
            tensors = {f"module.{name}": tensor for name, tensor in (*parameters.items(), *buffers.items())}
            return functional_call(call, tensors, own)

        return vmap(one, randomness="different")(self.parameters, self.buffers, *arguments)

    @property
    def complete(self) -> bool:
        """Whether all that is trained has a gradient."""
        return all(self.parameters[name].grad is not None for name in self.trained)

    def gradients(self) -> Tensor:
        """(K, P) of the values; zero where there is none."""
        rows, pieces = len(self.members), []
        nothing = self.values.new_zeros(())
        for name, room in self.rooms.items():
            gradient = self.parameters[name].grad
            if gradient is not None:
                pieces.append(gradient.reshape(rows, -1))
                room -= pieces[-1].shape[1]
            if room:
                pieces.append(nothing.expand(rows, room))
        return torch.cat(pieces, 1)

    def hand_out_gradients(self, gradients: Tensor) -> None:
        """Gives each member's parameters their part of gradients, (K, P), unless the stack's have none."""
        for name, stacked in self.parts(gradients).items():
            for member, own in zip(self.members, stacked, strict=True):
                member[name].grad = None if self.parameters[name].grad is None else own

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None


class _Call(nn.Module):
    """A function of a module as a module, so that its tensors can be exchanged while it runs."""

    def __init__(self, module: nn.Module, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.compute = module, compute

    def forward(self, *arguments: Any) -> Any:
        return self.compute(self.module, *arguments)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors in one, of which they become views."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, part in zip(tensors, stacked, strict=True):
        tensor.data = part
    return stacked.requires_grad_(tensors[0].requires_grad)


def architecture(module: nn.Module, besides: Collection[str] = ()) -> str:
    """All of a module but the values of its tensors, the shares of its dropouts and the reach of its windows.

    Modules with equal texts can be stacked.

    Args:
        module: of any kind.
        besides: names of attributes that say nothing of what is computed, in whatever they are.
    """
    return repr(_Description({*vars(nn.Module())} - TENSORS | {*besides}).of(member_form(module, besides)))


class _Description:
    """What a value is, down to numbers and names; an object that was met before stands for itself by its number."""

    def __init__(self, besides: set[str]) -> None:
        self.besides = besides
        # With the objects themselves: once one is gone, another may have its id.
        self.seen: dict[int, tuple[int, Any]] = {}

    def of(self, value: Any, exchanged: bool = False) -> Any:
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, Tensor) and not exchanged:
            return ("tensor", value.dtype, value.tolist())
        if id(value) in self.seen:
            return ("seen", self.seen[id(value)][0])
        self.seen[id(value)] = len(self.seen), value
        if isinstance(value, Tensor):
            return ("tensor", tuple(value.shape), value.dtype, value.requires_grad)
        if isinstance(value, Mapping):
            items = [(key, item) for key, item in value.items() if key not in self.besides]
            return [
                (str(key), [(name, self.of(each, True)) for name, each in item.items()])
                if key in EXCHANGED
                else (str(key), self.of(item))
                for key, item in items
            ]
        if isinstance(value, Sequence):
            return [self.of(item) for item in value]
        if isinstance(value, functools.partial):
            return ["partial", *(self.of(part) for part in (value.func, value.args, value.keywords))]
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            bound = (value.__defaults__, value.__kwdefaults__, cells)
            # Functions of one name may be others, as two lambdas of a line are.
            return [value.__module__, value.__qualname__, hash(value.__code__), *(self.of(part) for part in bound)]
        if isinstance(value, weakref.ref):
            return ["weakref", self.of(value())]
        if isinstance(value, MethodType):
            return [self.of(value.__func__), self.of(value.__self__)]
        named = value if isinstance(value, type | BuiltinFunctionType) else type(value)
        name = f"{named.__module__}.{named.__qualname__}"
        if named is value:
            return name
        if hasattr(value, "__dict__"):
            return [name, self.of(vars(value))]
        # Of what has no attributes, such as a set or an array: what a copy would be made from.
        return [name, self.of(value.__reduce_ex__(2)[1:])]
