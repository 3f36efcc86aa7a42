"""What a ComfyUI says of the nodes, as it is and to be spoiled."""

from __future__ import annotations

import copy
from typing import Any

import pytest


@pytest.fixture(scope="module")
def object_info(server: Any) -> dict[str, Any]:
    return server.object_info()


@pytest.fixture
def spoiled(object_info: dict[str, Any]) -> dict[str, Any]:
    """What the server says of our nodes, to be changed."""
    return copy.deepcopy({name: node for name, node in object_info.items() if name.startswith("Camouflage")})
