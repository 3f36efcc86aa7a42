"""Modules that share all weights with another one, and differ from it in some of their parts."""

from __future__ import annotations

import copy
from typing import Any

import torch


def view(module: torch.nn.Module, **parts: torch.nn.Module) -> Any:
    """A module of the same class and attributes, with ``parts`` in the place of those of the same names."""
    result = copy.copy(module)
    result._modules = {**module._modules, **parts}
    return result
