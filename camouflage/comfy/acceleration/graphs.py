"""Recorded calls: what a network does is recorded once and played back with one launch (CUDA graphs).

A recording reads and writes fixed places in the GPU's memory. So everything that may differ from call to call is either
an input, which is copied to its place before the recording is played, or part of the key under which it is found.
"""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import comfy.model_management as mm
import torch

from .together import copies, fill

Function = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], Any]
_LARGEST = 64  # recordings of a model; more means that keys never come back


class Recorder(Protocol):
    """Records a function, and plays it back."""

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """What the function returned, in places that every call of the second result fills anew."""
        ...


class CudaGraphs:
    """CUDA graphs that share one pool of memory.

    They may: each one's outputs are used, or copied, before another one is played that was recorded earlier and so may
    write over them.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Without torch.cuda.graph, which collects garbage and empties the cache each time."""
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                outputs = function()
            finally:
                graph.capture_end()
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        graph.replay()  # while it was recorded, nothing was computed
        return outputs, graph.replay


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on a device; None where nothing can."""
    return CudaGraphs(device) if device.type == "cuda" else None


class _Recording:
    """A recorded function with the places of its inputs."""

    def __init__(self, recorder: Recorder, changing: Sequence[torch.Tensor], constant: Sequence[torch.Tensor],
                 function: Function):
        with torch.inference_mode(False):  # else they could only be written to in inference mode
            self.changing, self.constant = ([_place(tensor) for tensor in tensors] for tensors in (changing, constant))
        self.sources: list[torch.Tensor | None] = [None] * len(constant)
        self._fill(changing, constant)
        self.outputs, self._replay = recorder.record(lambda: function(self.changing, self.constant))

    def __call__(self, changing: Sequence[torch.Tensor], constant: Sequence[torch.Tensor]) -> Any:
        self._fill(changing, constant)
        self._replay()
        return self.outputs

    def _fill(self, changing: Sequence[torch.Tensor], constant: Sequence[torch.Tensor]) -> None:
        fill(self.changing, changing)
        for index, tensor in enumerate(constant):
            if self.sources[index] is not tensor:
                self.constant[index].copy_(tensor)
                self.sources[index] = tensor


class Graphs:
    """The recordings of one model, by what must be the same to play them.

    The first call of a kind runs as it is, because libraries then choose and make what they need; the next is recorded.
    """

    def __init__(self, recorder: Recorder):
        self.recorder = recorder
        self.broken = False
        self.played = 0
        self._recordings: dict[Hashable, _Recording] = {}
        self._seen: set[Hashable] = set()
        self._owned: weakref.WeakValueDictionary[int, torch.Tensor] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._recordings)

    def run(self, kind: Hashable, key: Hashable, changing: Sequence[torch.Tensor], constant: Sequence[torch.Tensor],
            function: Function) -> Any:
        """``function(changing, constant)``, played where it was recorded.

        Args:
            kind: of calls that need the same of libraries.
            key: with ``kind`` all that decides what the function does, but for its inputs.
            changing: inputs that are copied at every call.
            constant: inputs that are copied only where the tensor is another one than at the last call.
            function: returns tensors, in nested dicts, lists and tuples. What a recording returns is overwritten when
                it, or one that was recorded before it, is played the next time.
        """
        kind = (kind, tuple(map(_form, changing[:1])))
        key = (kind, key, tuple(map(_form, changing)), tuple(map(_form, constant)))
        recording = self._recordings.get(key)
        if recording is not None:
            self.played += 1
            return recording(changing, constant)
        if self.broken or kind not in self._seen:
            self._seen.add(kind)
            return function(changing, constant)
        if len(self._recordings) >= _LARGEST:
            self.clear()
        try:
            recording = _Recording(self.recorder, changing, constant, function)
        except mm.InterruptProcessingException:
            raise
        except Exception as error:
            self.broken = True
            say_once(f"a call could not be recorded ({type(error).__name__}: {error})")
            return function(changing, constant)
        self._recordings[key] = recording
        self._owned.update({id(tensor): tensor for tensor in tensors_in(recording.outputs)})
        return recording.outputs

    def owns(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is the output of a recording, which stays where it is."""
        return self._owned.get(id(tensor)) is tensor

    def kept(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors, or copies if recordings own them, which write over them."""
        return copies(tensors) if any(map(self.owns, tensors)) else tensors

    def end(self) -> None:
        """At the end of a sampling: lets go of its constants, so that the next one's are copied whatever they are."""
        for recording in self._recordings.values():
            recording.sources = [None] * len(recording.sources)

    def clear(self) -> None:
        """Frees all recordings and their memory."""
        self._recordings.clear()
        self._seen.clear()


_graphs: weakref.WeakKeyDictionary[torch.nn.Module, Graphs] = weakref.WeakKeyDictionary()


def graphs_of(model: torch.nn.Module, device: torch.device) -> Graphs | None:
    """The recordings of a model, which live as long as it does; None where nothing can be recorded."""
    if model not in _graphs:
        recorder = recorder_for(device)
        if recorder is None:
            return None
        _graphs[model] = Graphs(recorder)
    return _graphs[model]


def free(model: torch.nn.Module) -> None:
    """Frees the recordings of a model that is unloaded."""
    graphs = _graphs.pop(model, None)
    if graphs is not None:
        graphs.clear()


class Session:
    """One sampling whose calls are recorded."""

    def __init__(self, graphs: Graphs, device: torch.device):
        self.graphs = graphs
        self.device = device
        self._places: dict[torch.nn.Module, int | None] = {}

    def run(self, networks: Sequence[torch.nn.Module], kind: Hashable, key: Hashable,
            changing: Sequence[torch.Tensor], constant: Sequence[torch.Tensor], function: Function) -> Any:
        """As :meth:`Graphs.run`; runs as it is where a network's weights are moved or changed while it computes."""
        places = tuple(self.place(network) for network in networks)
        if None in places:
            return function(changing, constant)
        return self.graphs.run(kind, (places, key), changing, constant, function)

    def place(self, network: torch.nn.Module) -> int | None:
        """Where a network's weights lie, as a number; they stay there during a sampling. None: its calls may not be
        recorded, because a part of it lies elsewhere, is patched while it computes, or has hooks."""
        if network not in self._places:
            self._places[network] = self._find(network)
        return self._places[network]

    def _find(self, network: torch.nn.Module) -> int | None:
        for part in network.modules():
            if getattr(part, "weight_function", None) or getattr(part, "bias_function", None):
                return say_once("weights are patched while the network computes (low VRAM)")
            if part._forward_hooks or part._forward_pre_hooks:
                return say_once("a network has hooks")
        tensors = list(itertools.chain(network.parameters(), network.buffers()))
        if any(tensor.device != self.device for tensor in tensors):
            return say_once("not all weights lie on the device (low VRAM)")
        return hash(tuple(tensor.data_ptr() for tensor in tensors))


_said: set[str] = set()


def say_once(reason: str) -> None:
    """Says in the log, once, why calls are not recorded."""
    if reason not in _said:
        _said.add(reason)
        logging.info("CAMOUFLaGE: sampling without CUDA graphs: %s", reason)


def _place(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, requires_grad=False)


def _form(tensor: torch.Tensor) -> tuple:
    return tensor.shape, tensor.dtype, tensor.device, tensor.stride()


def tensors_in(outputs: Any) -> list[torch.Tensor]:
    """The tensors in nested dicts, lists and tuples."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, dict) else outputs if isinstance(outputs, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]
