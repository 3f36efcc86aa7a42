"""Where the files of Light's two adapters lie: what the loaders offer, and the path behind a choice."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..errors import CamouflageError
from ..weights import REGISTRY, of_role
from .weights import find as find_role
from .weights import register_folder

LIGHT_ADAPTER, IMAGE_PROMPT = "light adapter", "image prompt"
"""The registry's roles of the two adapters."""


def names(role: str) -> list[str]:
    """Names of the .safetensors files in the folder of a role, the registry's first even when it is not on disk."""
    key, under, published = _place(role)
    listed = (Path(name) for name in folder_paths.get_filename_list(key) if name.endswith(".safetensors"))
    inside = {path.relative_to(under).as_posix() for path in listed if path.is_relative_to(under)}
    return [*published, *sorted(inside - published.keys())]


def find(role: str, name: str) -> Path:
    """Path of the file that ``names`` calls ``name``.

    Raises:
        CamouflageError: it is not there; for the registry's files with URL, folder and licence, and where it is not
            the published one.
    """
    key, under, published = _place(role)
    if name in published:
        return find_role(published[name])[0]
    path = folder_paths.get_full_path(key, os.path.join(under, *name.split("/")))
    if path is None:
        raise CamouflageError(f"'adapter' is '{name}', which is not in {Path('models', key, under).as_posix()}. "
                              f"Found: {', '.join(names(role)[1:]) or 'nothing'}. Put the file there or choose one.")
    return Path(path)


def _place(role: str) -> tuple[str, Path, dict[str, str]]:
    """Key of the host's model folders (made known to the host if need be), folder below it, the registry's files.

    The latter are name -> role: of the role itself and of those that begin with it, as "image prompt (Plus)".
    """
    weight, = of_role(role)
    register_folder(weight.folder, folder_paths.supported_pt_extensions)  # as the host's own folders
    published = {Path(other.file).name: other.role for other in REGISTRY if other.role.startswith(role)}
    return weight.folder, Path(weight.file).parent, published
