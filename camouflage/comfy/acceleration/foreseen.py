"""What a network would give at a noise level, foreseen from the last two calls that computed it (fast mode).

Taken as it is, the result of the call before lags behind, and with it the guidance away from the identity: results then
come nearer to the original (docs/performance.md). Our choice; DeepCache, for one, takes what it has.
"""

from __future__ import annotations

import math

import torch

from .together import lines


class Line:
    """The results of the last two calls, and the line through them over the logarithm of the noise level."""

    def __init__(self) -> None:
        self._known: list[tuple[float | None, list[torch.Tensor]]] = []  # the last first

    def add(self, level: float | None, tensors: list[torch.Tensor]) -> None:
        """Another result. The tensors are kept as they are, so nobody may change them.

        Args:
            level: the noise level, above 0; None if it is not known.
            tensors: as many of the same shapes each time.
        """
        self._known = [(level, tensors), *self._known[:1]]

    def at(self, level: float | None) -> list[torch.Tensor]:
        """The result at a level: no farther ahead of the last one than the two lie apart, and the last one itself where
        there is no line."""
        (last_level, last), *others = self._known
        for earlier_level, earlier in others:
            if level and last_level and earlier_level and last_level != earlier_level:
                ahead = math.log(level / last_level) / math.log(last_level / earlier_level)
                return lines(earlier, last, 1.0 + min(max(ahead, 0.0), 1.0))
        return last
