"""One copy of the library in a test process.

ComfyUI loads the pack under a name made of its path, so its nodes import ``<that name>.camouflage``, while tests and
commands import ``camouflage``. In a user's process there is only one of the two. Here, where both meet, the former is
made another name of the latter, so that a class is the same class everywhere.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType


class _Alias(importlib.abc.Loader):
    """Gives the module of another name, as it is."""

    def __init__(self, name: str) -> None:
        self.module = importlib.import_module(name)
        self.spec = self.module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the machinery has put the alias's there


class _Finder(importlib.abc.MetaPathFinder):
    """Answers ``<pack>.camouflage...`` where ``<pack>`` is a package in our folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(self, fullname: str, path: object = None, target: object = None
                  ) -> importlib.machinery.ModuleSpec | None:
        pack, inside, rest = fullname.partition(".camouflage")
        folders = getattr(sys.modules.get(pack), "__path__", ())
        if not inside or rest[:1] not in ("", ".") or self.root not in (Path(folder).resolve() for folder in folders):
            return None
        name = f"camouflage{rest}"
        package = hasattr(importlib.import_module(name), "__path__")
        return importlib.machinery.ModuleSpec(fullname, _Alias(name), is_package=package)


def install(root: Path) -> None:
    """From now on a pack in ``root`` and ``camouflage`` share one library."""
    sys.meta_path.insert(0, _Finder(root))
