"""Finding photos in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import CamouflageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP")


def find(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """All JPEG, PNG and WebP files (by suffix) below the folders, hidden files and folders left out.

    Links to folders are followed, but not into a folder that they lie in.

    Returns:
        (key, path), sorted by folder and path. The key is the folder's position and the path in it, such as
        "0/holiday/1.jpg": the same on every machine that sees the folders, wherever they are mounted.

    Raises:
        CamouflageError: a folder does not exist or cannot be read.
    """
    found = []
    for position, folder in enumerate(folders):
        if not folder.is_dir():
            raise CamouflageError(f"There is no folder {folder}. Name a folder with photos.")
        paths = sorted(path.relative_to(folder).as_posix() for path in _below(folder, ()))
        found += [(f"{position}/{path}", folder / path) for path in paths]
    return found


def _below(folder: Path, parents: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in parents:
        return
    try:
        entries = [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise CamouflageError(f"The folder {folder} cannot be read ({error.strerror}). Give the right to read it, or "
                              "leave it out.") from error
    for path in entries:
        if path.is_dir():
            yield from _below(path, (*parents, real))
        elif path.suffix.lower() in SUFFIXES and path.is_file():  # neither a dead link nor a pipe
            yield path
