"""Long tables of cases, and tests of several minutes: all of them with ``--all``, a seeded part of them otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import pytest

T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., Any])
everything = False
"""Whether pytest runs with ``--all``; ``tests/conftest.py`` says so before any test is collected."""


def sampled(items: Iterable[T], count: int, seed: int = 0) -> list[T]:
    """``count`` of the items, in their order, the same ones in every run; all where there are fewer, or with ``--all``.
    """
    every = list(items)
    if everything or count >= len(every):
        return every
    return [every[number] for number in sorted(np.random.default_rng(seed).choice(len(every), count, replace=False))]


def long(test: Test) -> Test:
    """Runs the test with ``--all`` only."""
    return pytest.mark.skipif(not everything, reason="takes minutes: `run.py test --all` runs it")(test)
