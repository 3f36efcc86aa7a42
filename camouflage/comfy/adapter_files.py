"""Where the files of Light's two adapters lie: what the loaders offer, and the path behind a choice."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..errors import CamouflageError
from ..weights import of_role
from .weights import find as find_role
from .weights import register_folder

LIGHT_ADAPTER, IMAGE_PROMPT = "light adapter", "image prompt"
"""The registry's roles of the two adapters."""


def names(role: str) -> list[str]:
    """Names of the .safetensors files in the folder of a role, the registry's first even when it is not on disk."""
    key, under, default = _place(role)
    listed = (Path(name) for name in folder_paths.get_filename_list(key) if name.endswith(".safetensors"))
    inside = {path.relative_to(under).as_posix() for path in listed if path.is_relative_to(under)}
    return [default, *sorted(inside - {default})]


def find(role: str, name: str) -> Path:
    """Path of the file that ``names`` calls ``name``.

    Raises:
        CamouflageError: it is not there; for the registry's file with URL, folder and licence, and where it is not
            the published one.
    """
    key, under, default = _place(role)
    if name == default:
        return find_role(role)[0]
    path = folder_paths.get_full_path(key, os.path.join(under, *name.split("/")))
    if path is None:
        raise CamouflageError(f"'adapter' is '{name}', which is not in {Path('models', key, under).as_posix()}. "
                              f"Found: {', '.join(names(role)[1:]) or 'nothing'}. Put the file there or choose one.")
    return Path(path)


def _place(role: str) -> tuple[str, Path, str]:
    """Key of the host's model folders (made known to the host if need be), folder below it, the registry's file."""
    weight, = of_role(role)
    register_folder(weight.folder, folder_paths.supported_pt_extensions)  # as the host's own folders
    file = Path(weight.file)
    return weight.folder, file.parent, file.name
