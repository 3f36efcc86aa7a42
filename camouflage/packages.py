"""Optional dependencies: imported where they are used, and named when they are missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from pathlib import Path
from types import ModuleType

from .errors import CamouflageError


def require(module: str, package: str, what: str) -> ModuleType:
    """Imports an optional dependency, or says which package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CamouflageError(_missing(package, what, str(error))) from error


def data_file(module: str, package: str, name: str, what: str) -> Path:
    """Path of a file that a package brings along; the package itself is not imported."""
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, name)
        if path.is_file():
            return path
    raise CamouflageError(_missing(package, what, f"its file {name} is not there"))


def package_version(package: str) -> str:
    """Version of an installed distribution, with its name."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package}, version unknown"


def _missing(package: str, what: str, why: str) -> str:
    return (f"{what} needs the Python package '{package}', which cannot be used ({why}). Install it with ComfyUI's own "
            f"Python: python -m pip install {package}")
