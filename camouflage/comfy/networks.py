"""Networks of our own under the host's memory management: loaded once, reused between runs, bounded in number."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

import comfy.model_management as mm
import torch
from comfy.model_patcher import ModelPatcher

T = TypeVar("T")
GIGABYTE = 1 << 30


class Network(Generic[T]):
    """A loaded library object and the torch modules in it.

    The host decides when the modules leave the accelerator (it sees one ModelPatcher); ``on_device`` brings them
    back. They are plain torch modules, which cannot run partly offloaded, so they are loaded whole.

    Attributes:
        tool: the library object.
        identity: kind, paths, times and sizes of its files; two networks with the same one compute the same.
    """

    identity: tuple = ()

    def __init__(self, tool: T, modules: Iterable[torch.nn.Module]):
        self.tool = tool
        # ModelPatcher sets attributes on the module it wraps, which transformers models do not allow.
        self._patcher = ModelPatcher(torch.nn.ModuleList(modules).eval().requires_grad_(False),
                                     load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())

    def on_device(self, activation_bytes: int = 0) -> torch.device:
        """Loads the modules whole onto the host's device and returns it.

        Args:
            activation_bytes: about what one forward pass takes, so that the host frees as much.
        """
        mm.load_models_gpu([self._patcher], memory_required=activation_bytes, force_full_load=True)
        self._patcher.model.to(self._patcher.load_device)
        return self._patcher.load_device


class _Cache:
    """The networks used last. Bounded: an old one is dropped when a ninth comes (our choice: one of each kind)."""

    def __init__(self, size: int = 8):
        self._size = size
        self._networks: OrderedDict[tuple, Network] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple, build: Callable[[], Network]) -> Network:
        with self._lock:
            if key not in self._networks:
                self._networks[key] = build()
            self._networks.move_to_end(key)
            while len(self._networks) > self._size:
                self._networks.popitem(last=False)
            return self._networks[key]

    def clear(self) -> None:
        with self._lock:
            self._networks.clear()


_cache = _Cache()
clear = _cache.clear


def loaded(kind: str, paths: list[Path], build: Callable[[], Network[T]]) -> Network[T]:
    """The network of these files: from the cache while none of them has changed on disk, else built anew."""
    stamps = tuple((str(path), os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in paths)
    network = _cache.get((kind, *stamps), build)
    network.identity = (kind, *stamps)
    return network


def compute_dtype() -> torch.dtype:
    """Half precision where the host would use it, else single."""
    return torch.float16 if mm.should_use_fp16(mm.get_torch_device()) else torch.float32
