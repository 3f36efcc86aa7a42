"""What a model call does, counted without a GPU: a stand-in for CUDA graphs, and counters of operations."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

aten = torch.ops.aten


class StandIn:
    """Records a callable and plays it back by calling it: with the same inputs in the same places, as CUDA graphs do.

    A recording that reads what is neither an input nor fixed shows: the callable's tensors are those of the recording.
    Recordings share one pool of memory, so that one that is played writes over what later ones have returned; here
    that becomes NaN.
    """

    playing = False

    def __init__(self) -> None:
        self.recorded = self.played = 0
        self.fails = False
        self._outputs: list[list[weakref.ref[torch.Tensor]]] = []

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """As of the recorder of CUDA graphs."""
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1
        outputs = self._played(function)
        self._outputs.append([weakref.ref(tensor) for tensor in tensors_in(outputs)])
        later = len(self._outputs)

        def replay() -> None:
            self.played += 1
            self._played(lambda: self._lose(later))
            self._played(lambda: _fill(outputs, function()))

        return outputs, replay

    def _lose(self, later: int) -> None:
        for lost in itertools.chain.from_iterable(self._outputs[later:]):
            if (tensor := lost()) is not None:
                tensor.fill_(float("nan"))

    def _played(self, function: Callable[[], Any]) -> Any:
        StandIn.playing = True
        try:
            return function()
        finally:
            StandIn.playing = False


class Operations(TorchDispatchMode):
    """Counts operations outside of recordings, and those for which a GPU would have to be waited for."""

    WAITS = ("_local_scalar_dense", "item", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not StandIn.playing and not _is_free(func):
            self.names[_name(func)] += 1
        return self.computed(func, args, kwargs)

    def computed(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """The operation's result."""
        return func(*args, **kwargs)

    @property
    def launched(self) -> int:
        """Operations that a GPU would have to compute, about one launch each."""
        return sum(count for name, count in self.names.items() if name not in self.WAITS)

    @property
    def waited(self) -> int:
        """Operations that bring a number to the CPU."""
        return sum(self.names[name] for name in self.WAITS)


class Dry(Operations):
    """Counts, and computes nothing large: what a tensor of so many numbers takes part in gets a shape alone.

    So a sampling of full-size networks takes seconds on a CPU, and runs the very code of a real one. Small tensors, the
    noise levels above all, are computed, so that everything that is decided by them is decided as ever. What large
    tensors hold is undefined.

    Attributes:
        flops: multiplications and additions, by torch's own formulas; inside of recordings, too.
    """

    def __init__(self, large: int = 1 << 14) -> None:
        super().__init__()
        self.large = large
        self.flops = 0
        self._known: dict[tuple, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _is_composite(func):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def computed(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """A real result where all is small, where memory is shared, and of ``new_zeros`` and the like."""
        if func.is_view or _name(func).startswith("new_"):
            return func(*args, **kwargs)
        tensors = [part for arg in (*args, *kwargs.values())
                   for part in (arg if isinstance(arg, (list, tuple)) else (arg,)) if isinstance(part, torch.Tensor)]
        if all(tensor.numel() < self.large for tensor in tensors):
            return func(*args, **kwargs)
        if func._schema.is_mutable:
            if _name(func) == "_foreach_copy_":
                for place, tensor in zip(*args[:2], strict=True):
                    if tensor.numel() < self.large:
                        place.copy_(tensor)
            return args[0] if func._schema.returns else None
        key = (func, *map(_form, args), *((name, _form(value)) for name, value in kwargs.items()))
        if key not in self._known:
            result = func(*map(_shape_of, args), **{name: _shape_of(value) for name, value in kwargs.items()})
            self._known[key] = result, _flops(func, args, kwargs, result)
        result, flops = self._known[key]
        self.flops += flops
        many = isinstance(result, (list, tuple))
        results = [self._place(tensor, tensors[0].device) for tensor in (result if many else (result,))]
        return type(result)(results) if many else results[0]

    def _place(self, tensor: Any, device: torch.device) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return tensor
        if tensor.numel() < self.large:  # it may be read
            return torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def hollow(module: torch.nn.Module, large: int = 1 << 14) -> torch.nn.Module:
    """Lets the parameters of a module on the device "meta" lie on the CPU, all zero: each large one is a single number
    in memory, whatever its shape."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                single = parameter.numel() >= large
                numbers = torch.zeros(() if single else parameter.shape, dtype=parameter.dtype)
                part._parameters[name] = torch.nn.Parameter(numbers.expand(parameter.shape), requires_grad=False)
    return module


def _name(func: Any) -> str:
    return func._schema.name.removeprefix("aten::")


@functools.cache
def _is_free(func: Any) -> bool:
    """Whether an operation starts nothing on a GPU: it makes a view, or memory."""
    return func.is_view or _name(func) in ("empty", "empty_like", "empty_strided", "detach", "lift_fresh", "alias",
                                           "_unsafe_view", "_reshape_alias")


@functools.cache
def _is_composite(func: Any) -> bool:
    """Whether an operation is made of others, as it is seen in inference mode."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _form(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype
    return tuple(map(_form, value)) if isinstance(value, (list, tuple)) else (type(value), value)


def _shape_of(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, (list, tuple)):
        return type(value)(map(_shape_of, value))
    return torch.device("meta") if isinstance(value, torch.device) else value


def _flops(func: Any, args: tuple, kwargs: dict, result: Any) -> int:
    packet = func._overloadpacket
    if packet is aten._scaled_dot_product_flash_attention_for_cpu:  # torch knows those of a GPU alone
        return sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
    return flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0


def tensors_in(outputs: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested dicts, lists and tuples."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif outputs is not None:
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from tensors_in(part)


def _fill(places: Any, values: Any) -> None:
    if isinstance(places, torch.Tensor):
        places.copy_(values)
        return
    for place, value in (zip(places.values(), values.values(), strict=True) if isinstance(places, dict)
                         else zip(places, values, strict=True)):
        if place is not None:
            _fill(place, value)
