"""Seeded tensors, and where the registry puts the files that hold them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import torch

from camouflage import weights

Shapes = Iterable[tuple[str, tuple[int, ...]]]
State = dict[str, torch.Tensor]


def file_of(models: Path, role: str, name: str | None = None) -> Path:
    """Place of a role's file below ``models``; its folder is made.

    Args:
        models: root of a host's ``models`` tree.
        role: a role of ``camouflage.weights``.
        name: last part of the file's path, for roles of several files.

    Raises:
        ValueError: the role does not have exactly one such file.
    """
    found = [weight for weight in weights.of_role(role) if name is None or Path(weight.file).name == name]
    if len(found) != 1:
        raise ValueError(f"role {role!r}: wanted one file named {name or '(any)'}, the registry has {len(found)}")
    path = models / found[0].path
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def generator(seed: int, file: Path) -> torch.Generator:
    """A file's own random numbers: they depend on the seed and the file's name, not on the order of building."""
    digest = hashlib.sha256(f"{seed}/{file.parent.name}/{file.name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def random_tensor(key: str, shape: tuple[int, ...], rng: torch.Generator, gain: float = 1.0) -> torch.Tensor:
    """One float32 tensor whose layer neither blows up nor fades a unit signal.

    Matrices and kernels ``[out, in, ...]`` are normal with variance ``gain^2 / fan_in``. Vectors are biases or the
    scale of a norm: near their neutral value but never on it, so that a loader that drops or swaps one is noticed.
    Running variances stay at least 1, running means are small.
    """
    if len(shape) > 1:
        return torch.randn(shape, generator=rng) * (gain / math.sqrt(math.prod(shape[1:])))
    if key.endswith(("bias", "running_mean")):
        return torch.randn(shape, generator=rng) * 0.02
    return 1.0 + torch.rand(shape, generator=rng) * 0.1


def random_state(shapes: Shapes, rng: torch.Generator, gains: dict[str, float] | None = None) -> State:
    """Random half-precision tensors for ``(key, shape)`` pairs.

    Args:
        shapes: keys with their shapes, in the order in which random numbers are drawn.
        rng: the file's generator.
        gains: gain of every kernel whose key contains the given text; the first match counts, the rest have 1.
    """
    state = {}
    for key, shape in shapes:
        gain = next((value for part, value in (gains or {}).items() if part in key), 1.0)
        state[key] = random_tensor(key, shape, rng, gain).half()
    return state
