"""A server on this machine that does everything wrong that servers do, and what is remembered of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bad_server import BadServer, running
from camouflage.provision.digests import KnownDigests


@pytest.fixture
def server() -> Iterator[BadServer]:
    """The server, with no files yet."""
    with running() as bad:
        yield bad


@pytest.fixture
def known(tmp_path: Path) -> KnownDigests:
    return KnownDigests(tmp_path / "digests")


@pytest.fixture(scope="session")
def content() -> Callable[[int, int], bytes]:
    """Bytes by length and seed."""
    return lambda length, seed=0: np.random.default_rng(seed).bytes(length)
