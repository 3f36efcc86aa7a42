"""What takes seconds to start and GB to keep, such as a served ComfyUI: tests of one folder share it, and it ends with
the last of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

T = TypeVar("T")

_stack = ExitStack()
_open: dict[Hashable, Any] = {}


def kept(name: Hashable, make: Callable[[], AbstractContextManager[T]]) -> T:
    """What ``make`` gives when it is entered; the same one for the same name, until the folder is done."""
    if name not in _open:
        _open[name] = _stack.enter_context(make())
    return _open[name]


def end() -> None:
    """Ends all of it. ``tests/conftest.py`` calls this after the last test of a folder."""
    _open.clear()
    _stack.close()
