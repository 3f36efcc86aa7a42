"""A stand-in for CUDA graphs on the CPU, and counters of what a model call does outside of recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class StandIn:
    """Records a callable and plays it back by calling it: with the same inputs in the same places, as CUDA graphs do.

    A recording that reads what is neither an input nor fixed shows: the callable's tensors are those of the recording.
    """

    playing = False

    def __init__(self) -> None:
        self.recorded = self.played = 0
        self.fails = False

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1
        outputs = self._played(function)

        def replay() -> None:
            self.played += 1
            self._played(lambda: _fill(outputs, function()))

        return outputs, replay

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
        if not StandIn.playing and not _is_free(func, args, kwargs):
            self.names[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **kwargs)

    @property
    def launched(self) -> int:
        return sum(count for name, count in self.names.items() if name not in self.WAITS)

    @property
    def waited(self) -> int:
        return sum(self.names[name] for name in self.WAITS)


def _is_free(func: Any, args: Any, kwargs: dict) -> bool:
    """Whether an operation starts nothing on a GPU: it makes a view, or memory."""
    name = func._schema.name.removeprefix("aten::")
    return func.is_view or name in ("empty", "empty_like", "empty_strided", "detach", "lift_fresh", "alias",
                                    "_unsafe_view", "_reshape_alias")


def _fill(places: Any, values: Any) -> None:
    if isinstance(places, torch.Tensor):
        places.copy_(values)
        return
    for place, value in (zip(places.values(), values.values(), strict=True) if isinstance(places, dict)
                         else zip(places, values, strict=True)):
        if place is not None:
            _fill(place, value)
