"""Which pictures are in which batch, and every random number: functions of the seed and a number alone.

A training draws nothing from a generator that goes on from step to step. So there is no state to save or to lose: a
run that was killed and resumed, and one that is spread over more processes, see the same pictures with the same
noise. (Our choice.)
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import torch

from ..errors import CamouflageError

TIMESTEPS = 1000  # of SD 1.5's noise schedule


def generator(*what: object) -> torch.Generator:
    """A generator on the CPU seeded with a hash of ``what`` (numbers and words)."""
    digest = hashlib.sha256("\0".join(map(str, what)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextlib.contextmanager
def deterministic(on: bool = True) -> Iterator[None]:
    """Restricts torch to algorithms that give the same bits each time; with ``on=False`` any. Restored afterwards.

    On a GPU others add in a varying order, so that a resumed run would end with other bits.
    """
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
              torch.backends.cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory)
    torch.utils.deterministic.fill_uninitialized_memory = False  # helps debugging and costs time
    if on:
        torch.backends.cudnn.benchmark = False  # it chooses by the clock
    torch.use_deterministic_algorithms(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory = before[2:]


class BatchSampler:
    """The batches of an endless training, by number: micro-batch 0, 1, 2, ...

    Every epoch shuffles the pictures of each size anew, cuts them into batches of one size, and shuffles the batches.
    Where the last batch of a size is not full, pictures of that size are repeated in it.

    Args:
        sizes: of every picture's latent; a batch holds one size only.
        batch_size: pictures of a micro-batch.
        seed: of the order.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], batch_size: int, seed: int):
        if not sizes:
            raise CamouflageError("There is no picture to train on.")
        self._seed, self._batch_size = seed, batch_size
        self._buckets: dict[tuple[int, int], list[int]] = {}
        for index, size in enumerate(sizes):
            self._buckets.setdefault(size, []).append(index)
        self.length = sum(-(-len(bucket) // batch_size) for bucket in self._buckets.values())
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def batch(self, number: int) -> list[int]:
        """Positions in ``sizes`` of the pictures of a micro-batch."""
        epoch, place = divmod(number, self.length)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._order(epoch)
        return self._epoch[1][place]

    def _order(self, epoch: int) -> list[list[int]]:
        rng = generator(self._seed, "order", epoch)
        batches = []
        for _, bucket in sorted(self._buckets.items()):
            shuffled = [bucket[i] for i in torch.randperm(len(bucket), generator=rng)]
            missing = -len(shuffled) % self._batch_size
            shuffled += [shuffled[i % len(bucket)] for i in range(missing)]
            batches += [shuffled[i:i + self._batch_size] for i in range(0, len(shuffled), self._batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=rng)]


def timestep(u: float, sampling: str) -> int:
    """The time step 0..999 of a number u in [0, 1).

    "uniform": u * 1000. "cubic": (1 - u^3) * 1000, which favours early, noisy steps, where a picture's layout is
    decided (T2I-Adapter, arXiv 2302.08453, section 3.4).
    """
    part = u if sampling == "uniform" else 1.0 - u**3
    return min(int(part * TIMESTEPS), TIMESTEPS - 1)


def hold_out(sources: Sequence[str], count: int) -> tuple[list[int], list[int]]:
    """Positions to train on and positions to validate with, which are never trained on.

    The pictures whose source sorts first are held out, at most a tenth of them (our choice); a source is a hash.
    """
    order = sorted(range(len(sources)), key=lambda i: sources[i])
    count = min(count, len(order) // 10)
    return sorted(order[count:]), order[:count]
