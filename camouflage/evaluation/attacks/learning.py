"""The loop in which an attacker's networks learn: seeded, deterministic on a CPU, cancelled by an exception."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import CamouflageError
from ...training.randomness import generator

Step = Callable[[int, int], None]
"""Called with how many steps are done, and of how many."""
_EMBEDDED = 128  # pictures that a network sees at once after it has learned
_WARM = 20  # steps in which the rate rises
_DECAY = 1e-2


@dataclass(frozen=True)
class Effort:
    """What an attacker spends (our choice: about a minute on one core for crops of 32 px).

    Attributes:
        steps: of the optimizer (AdamW), from 1 on.
        batch: pictures of a step.
        rate: learning rate after a short rise; it falls to 0 along a cosine.
        seed: of the first weights, the batches and their changes.
        device: torch's name of it. On a GPU two runs may differ in the last digits.
    """

    steps: int = 300
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Learned:
    """A network that has learned.

    Attributes:
        network: in evaluation mode.
        device: where it is.
        cost: seconds by the clock and of the processor, parameters, steps, pictures that it learned from, …
    """

    network: nn.Module
    device: str
    cost: dict[str, Any]

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """What the network makes of n samples, float32, in batches of one size, so that equal samples stay equal."""
        results = []
        with torch.no_grad():
            for start in range(0, len(samples), _EMBEDDED):
                part = torch.as_tensor(np.asarray(samples[start:start + _EMBEDDED], np.float32))
                full = torch.cat([part, part[:1].expand(_EMBEDDED - len(part), *part.shape[1:])])
                results.append(self.network(full.to(self.device))[:len(part)].float().cpu().numpy())
        return np.concatenate(results)


def build(make: Callable[[], nn.Module], effort: Effort) -> nn.Module:
    """A network with first weights of the seed; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(effort.seed)
        return make().to(effort.device)


def learn(network: nn.Module, losses: Callable[[torch.Tensor, torch.Generator], torch.Tensor], count: int,
          effort: Effort, step: Step | None = None, counted: nn.Module | None = None) -> Learned:
    """Trains a network.

    Args:
        network: of :func:`build`; everything in it learns.
        losses: positions of a batch's pictures, and a generator on the CPU for its changes -> the loss.
        count: pictures to learn from.
        effort: what is spent.
        step: see ``Step``; an exception from it ends the training.
        counted: the part that is kept; all of ``network`` where None.

    Raises:
        CamouflageError: the loss became no number.
    """
    begin, busy = time.perf_counter(), time.process_time()
    optimizer = torch.optim.AdamW(network.parameters(), lr=effort.rate, weight_decay=_DECAY)
    network.train()
    for number in range(effort.steps):
        for group in optimizer.param_groups:
            rise = min(1.0, (number + 1) / _WARM)
            group["lr"] = effort.rate * rise * (1 + math.cos(math.pi * number / effort.steps)) / 2
        rng = generator(effort.seed, "attack", number)
        loss = losses(torch.randint(count, (effort.batch,), generator=rng), rng)
        if not torch.isfinite(loss):
            raise CamouflageError(f"The attacker's network diverged at step {number + 1}: its loss is no number. Take "
                                  f"a smaller learning rate than {effort.rate:g}.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step:
            step(number + 1, effort.steps)
    kept = (counted or network).eval()
    cost = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - busy,
            "parameters": sum(p.numel() for p in kept.parameters()), "steps": effort.steps, "batch": effort.batch,
            "pictures": count, "device": effort.device}
    return Learned(kept, effort.device, cost)


def crops_of(pictures: np.ndarray, name: str, count: int) -> np.ndarray:
    """Face crops, looked at before they are used: n x 3 x S x S, float32, 0..1, S a multiple of 4, from 16 on.

    Raises:
        CamouflageError: another shape, another number of pictures, or values out of range.
    """
    crops = np.asarray(pictures, np.float32)
    side = crops.shape[-1] if crops.ndim == 4 else 0
    if crops.ndim != 4 or crops.shape[:3] != (count, 3, side) or side < 16 or side % 4:
        raise CamouflageError(f"The {name} must be {count} x 3 x S x S (one for each person's number, S a multiple of "
                              f"4 from 16 on), but are {' x '.join(map(str, crops.shape)) or 'a number'}.")
    if not ((crops >= 0) & (crops <= 1)).all():
        raise CamouflageError(f"The {name} must have values from 0 to 1, but some lie outside.")
    return crops
