"""Long tables of cases: all of them with ``--all``, a seeded part of them otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

T = TypeVar("T")
everything = False
"""Whether pytest runs with ``--all``; ``tests/conftest.py`` says so before any test is collected."""


def sampled(items: Iterable[T], count: int, seed: int = 0) -> list[T]:
    """``count`` of the items, in their order, the same ones in every run; all where there are fewer, or with ``--all``.
    """
    every = list(items)
    if everything or count >= len(every):
        return every
    return [every[number] for number in sorted(np.random.default_rng(seed).choice(len(every), count, replace=False))]
