"""Photos of a folder inside the host's input folder, as batches of one size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import comfy.model_management as mm
import comfy.utils
import folder_paths
import numpy as np
import torch

from ..errors import CamouflageError
from ..photos import ENDINGS, Unreadable, decode

UNREADABLE = ("stop", "skip")
_NAMED = 20  # files in an error


@dataclass
class Loaded:
    """What was read.

    Attributes:
        batches: B x H x W x 3, float32, 0..1 each.
        names: of the photos of each batch, relative to the input folder.
        skipped: "name: why" of files that could not be read.
    """

    batches: list[torch.Tensor] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def load_photos(text: str, batch_size: int, unreadable: str) -> Loaded:
    """Reads photos; those of one size wait for each other, a batch is complete with ``batch_size``.

    Args:
        text: a folder or files inside the input folder, one a line.
        batch_size: from 1 on.
        unreadable: of :data:`UNREADABLE`.

    Raises:
        CamouflageError: nothing there, a path that leads out of the input folder, or, with "stop", files that cannot
            be read, named.
    """
    files = list(_files(text))
    if not files:
        raise CamouflageError("'photos' names no picture. Name a folder inside ComfyUI's input folder that has some, "
                              "or files, one a line.")
    loaded, waiting = Loaded(), dict[tuple[int, int], list[tuple[str, np.ndarray]]]()
    complete: list[list[tuple[str, np.ndarray]]] = []
    progress = comfy.utils.ProgressBar(len(files))
    for name, path in files:
        mm.throw_exception_if_processing_interrupted()
        try:
            image = decode(path, profile=True)
        except Unreadable as error:
            loaded.skipped.append(f"{name}: {error}")
        else:
            together = waiting.setdefault(image.size, [])
            if not together:
                complete.append(together)  # batches stand in the order of their first photos
            together.append((name, np.asarray(image)))
            if len(together) == batch_size:
                del waiting[image.size]
        progress.update(1)
    if loaded.skipped and unreadable == "stop":
        more = f" and {len(loaded.skipped) - _NAMED} more" if len(loaded.skipped) > _NAMED else ""
        raise CamouflageError(f"{len(loaded.skipped)} of {len(files)} files cannot be read: "
                              f"{'; '.join(loaded.skipped[:_NAMED])}{more}. Remove them, or set 'unreadable' to "
                              "'skip'.")
    if not complete:
        raise CamouflageError(f"None of the {len(files)} files can be read: {'; '.join(loaded.skipped[:_NAMED])}.")
    for batch in complete:
        loaded.names.append([name for name, _ in batch])
        loaded.batches.append(torch.from_numpy(np.stack([pixels for _, pixels in batch])).float() / 255)
        batch.clear()
    return loaded


def fingerprint(text: object) -> str:
    """Changes when a file does: digest of names, sizes and times. What is wrong is said when the node runs."""
    known = []
    try:
        for name, path in _files(str(text)):
            found = path.stat()
            known.append((name, found.st_size, found.st_mtime_ns))
    except (CamouflageError, OSError) as error:
        known.append((str(error), 0, 0))
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _files(text: str) -> Iterator[tuple[str, Path]]:
    """Names, relative to the input folder, and paths of all photos. Raises CamouflageError."""
    root = Path(folder_paths.get_input_directory()).resolve()
    seen: set[str] = set()
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name = line.replace("\\", "/")
        place = _inside(root, name)
        if place.is_dir():
            found = _below(place, PurePosixPath(name), root, frozenset())
        elif place.is_file():
            found = [(str(PurePosixPath(name)), place)]
        else:
            raise CamouflageError(f"'photos' names '{line}', which is not in ComfyUI's input folder. Put it there, or "
                                  "correct the name.")
        for one, path in sorted(found):
            if one not in seen:
                seen.add(one)
                yield one, path


def _inside(root: Path, name: str) -> Path:
    """The real path of something in the input folder."""
    try:
        if PurePosixPath(name).is_absolute() or Path(name).drive:
            raise ValueError
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ValueError
    except (OSError, ValueError, RuntimeError):  # a null character; links in a circle, before Python 3.13
        raise CamouflageError(f"'photos' names '{name[:100]}', which leads out of ComfyUI's input folder. Name what is "
                              "inside of it.") from None
    return path


def _below(folder: Path, name: PurePosixPath, root: Path, above: frozenset[Path]) -> Iterator[tuple[str, Path]]:
    """All pictures below a folder. Links that lead out, or in a circle, are not followed."""
    real = folder.resolve()
    if real in above or not real.is_relative_to(root):
        return
    for entry in folder.iterdir():
        inside = name / entry.name
        if entry.is_dir():
            yield from _below(entry, inside, root, above | {real})
        elif (not entry.name.startswith(".") and entry.name.lower().endswith(ENDINGS)
              and entry.resolve().is_relative_to(root)):
            yield str(inside), entry
