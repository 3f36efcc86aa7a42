"""What was computed before: nobody waits twice for the same photo, whose results stand under its pixels' SHA-256."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch
from comfy.sd import VAE

from ..images import bands


class Memory:
    """Results by what they depend on: maps and texts of pictures, noise. Nothing is written to disk.

    Args:
        most: results that are kept; the one that was asked for longest ago is forgotten first (our choice: as many
            as detectors remember pictures).
        most_bytes: of all tensors together (our choice: 85 maps of 512 x 512 px).
    """

    def __init__(self, most: int = 256, most_bytes: int = 256 << 20):
        self._most, self._most_bytes = most, most_bytes
        self._results: OrderedDict[Hashable, Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def recall(self, key: Hashable) -> Any:
        """A copy of the result, a tensor in main memory; None where it is not known."""
        with self._lock:
            if key not in self._results:
                return None
            self._results.move_to_end(key)
            result = self._results[key]
        return result.clone() if isinstance(result, torch.Tensor) else result

    def keep(self, key: Hashable, result: torch.Tensor | str) -> None:
        """Keeps a copy of a result.

        Args:
            key: everything that the result depends on: digest of the picture, network with its files, settings.
        """
        if isinstance(result, torch.Tensor):
            result = result.to("cpu", copy=True)
        with self._lock:
            self._bytes += _bytes(result) - _bytes(self._results.pop(key, ""))
            self._results[key] = result
            while len(self._results) > self._most or self._bytes > self._most_bytes:
                self._bytes -= _bytes(self._results.popitem(last=False)[1])

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._results.clear()
            self._bytes = 0


_memory = Memory()
recall, keep, clear = _memory.recall, _memory.keep, _memory.clear


def picture_sha256(picture: torch.Tensor) -> str:
    """SHA-256 over the size and the values of H x W x C, float32: all that a network can see, not only 8 bits of it."""
    digest = hashlib.sha256(f"{tuple(picture.shape)} float32\n".encode())
    for rows in bands(*picture.shape[:2]):
        digest.update(picture[rows].cpu().contiguous().numpy().data)
    return digest.hexdigest()


def encode(vae: VAE, images: torch.Tensor) -> torch.Tensor:
    """``vae.encode`` that encodes a picture which comes several times in a batch once.

    Nothing is kept for the next call: an encoding can be decoded to nearly the same picture, and a VAE that another
    node changed in place looks the same as before. The host keeps the output of a node whose inputs stay the same.

    Args:
        vae: the host's; one of videos gets the batch as it is, for its pictures are frames.
        images: B x H x W x 3, float32, 0..1.

    Returns:
        B x C x h x w, as ``vae.encode`` gives it.
    """
    places: dict[str, int] = {}
    index = [places.setdefault(picture_sha256(image), len(places)) for image in images]
    if len(places) == len(images) or getattr(vae, "latent_dim", 2) != 2:
        return vae.encode(images)
    return vae.encode(images[[index.index(place) for place in range(len(places))]])[index]


def _bytes(result: torch.Tensor | str) -> int:
    return result.nbytes if isinstance(result, torch.Tensor) else len(result)
