"""Loading in the host: the photos of its input folder, whether they have changed, and their pixels."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import comfy.model_management as mm
import comfy.utils
import folder_paths
import numpy as np
import torch

from ..errors import CamouflageError
from ..photos import ENDINGS, Unreadable, decode, picture_formats
from .annotators.common import from_uint8

_NAMED = 20  # files, in a text for people
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and bytes of a name that are no UTF-8
_WANTED = ("'photos' must name a folder, or files one per line, as they are called inside ComfyUI's input folder: "
           "'holiday' or 'holiday/1.jpg'.")


class Photos(NamedTuple):
    """What was loaded.

    Attributes:
        batches: B x H x W x 3, 0..1, float32; every batch has a size of its own.
        names: of each batch the paths of its pictures, one a line.
        left_out: the files that cannot be read, each with the reason.
    """

    batches: list[torch.Tensor]
    names: list[str]
    left_out: list[str]


def load_photos(listed: str, batch_size: int, skip: bool = False) -> Photos:
    """Reads photos, upright, opaque and in sRGB; shows progress and obeys Cancel between them.

    Pictures of one size are collected in their order. A batch that is full is followed by another one of this size.
    The batches stand in the order of their first pictures.

    Args:
        listed: see :func:`find`.
        batch_size: most pictures of a batch.
        skip: leave out what cannot be read, as long as anything is left.

    Raises:
        CamouflageError: what :func:`find` refuses, or files that cannot be read.
    """
    found = find(listed)
    formats = picture_formats()
    progress = comfy.utils.ProgressBar(len(found))
    pictures: dict[str, np.ndarray] = {}
    broken: list[str] = []
    for name, path in found.items():
        mm.throw_exception_if_processing_interrupted()
        try:
            pictures[name] = _pixels(path, formats)
        except Unreadable as error:
            broken.append(f"{_shown(name)} ({error})")
        progress.update(1)
    if broken and not (skip and pictures):
        hint = "Take them away" if skip else "Take them away, or set 'unreadable' to 'skip'"
        raise CamouflageError(f"{len(broken)} of {len(found)} photos cannot be read: {in_words(broken)}. {hint}.")
    batches = _of_one_size(pictures, batch_size)
    return Photos([_batch([pictures.pop(name) for name in names]) for names in batches],  # no photo is held twice
                  ["\n".join(map(_shown, names)) for names in batches], broken)


def find(listed: str) -> dict[str, Path]:
    """The photos that a text names, each once, in the order of its lines.

    Of a folder these are all files with one of the ``ENDINGS``, those in sub-folders too, sorted by path as
    text; what is hidden (its name begins with a dot) is left out. Links are followed inside the input folder. A folder
    that links make appear in several places is read once.

    Args:
        listed: folders and files inside the host's input folder, one a line, with "/".

    Returns:
        Real path of each photo by its path in the input folder, with "/". A file may be none that can be read.

    Raises:
        CamouflageError: nothing is named; a line or a link leads out of the input folder; what is named is not there,
            is no photo, or has none in it; a folder that cannot be read.
    """
    root = Path(os.path.realpath(folder_paths.get_input_directory()))
    lines = [line.strip() for line in listed.split("\n") if line.strip()]
    if not lines:
        raise CamouflageError(f"{_WANTED} It is empty.")
    found: dict[str, Path] = {}
    for line in lines:
        for path, real in _named(line, root):
            found.setdefault(path.relative_to(root).as_posix(), real)
    return found


def fingerprint(listed: object) -> str | float:
    """Another value once a photo has come, gone, or been written anew. Never raises.

    Returns:
        SHA-256 of path, size and time of change of every photo. "" where :func:`find` refuses the text, for the node
        will say why. NaN, which equals nothing, where it is not known yet: it comes over a wire.
    """
    if not isinstance(listed, str):
        return float("nan")
    digest = hashlib.sha256()
    try:
        for name, path in find(listed).items():
            there = path.stat() if os.path.isfile(path) else None
            digest.update(repr((name, there and (there.st_size, there.st_mtime_ns))).encode())
    except (CamouflageError, OSError):
        return ""
    return digest.hexdigest()


def in_words(files: Sequence[str]) -> str:
    """Files for people: all of them, or the first ones and how many more there are."""
    more = len(files) - _NAMED
    return ", ".join(files[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _named(line: str, root: Path) -> list[tuple[Path, Path]]:
    """Path and real path of every photo that a line names. Raises CamouflageError where there are none."""
    path = root / _checked(line)
    real = _real(path, root)
    endings = ", ".join(ENDINGS)
    if os.path.isdir(real):
        photos = sorted(_below(path, root), key=lambda photo: photo[0].relative_to(root).as_posix())
        if not photos:
            raise CamouflageError(f"The folder '{_shown(line)}' of 'photos' has no photos in it: no file that ends "
                                  f"with {endings}. Put photos into it, or name another one.")
        return photos
    if not os.path.lexists(path):
        raise CamouflageError(f"{_WANTED} There is no '{_shown(line)}' in it.")
    if path.suffix.lower() not in ENDINGS:
        raise CamouflageError(f"'{_shown(line)}' of 'photos' is no photo: its name does not end with one of {endings}. "
                              "Remove the line.")
    return [(path, real)]


def _checked(line: str) -> PurePosixPath:
    """A line as a path below the input folder. Raises CamouflageError where it is none."""
    path = PurePosixPath(line)
    if PureWindowsPath(line).anchor:
        why = "begins with '/', '\\' or a drive"
    elif ".." in path.parts:
        why = "has '..' in it"
    elif "\\" in line:
        why = "has a backslash in it; separate folders by '/'"
    elif _NO_TEXT.search(line):
        why = "has a control character in it"
    else:
        return path
    raise CamouflageError(f"{_WANTED} '{_shown(line[:100])}' {why}.")


def _real(path: Path, root: Path) -> Path:
    """Where a path ends when all links are followed. Raises CamouflageError where that is outside of ``root``."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise CamouflageError(f"'{_shown(path.relative_to(root).as_posix())}' of 'photos' is a link that leads out of "
                              "ComfyUI's input folder. Put the photos themselves into the input folder, or take the "
                              "link away.")
    return real


def _below(start: Path, root: Path) -> Iterator[tuple[Path, Path]]:
    """Path and real path of every photo below a folder. Links come last, so that a folder keeps its own name."""
    seen: set[Path] = set()
    folders, links = [start], []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        real = _real(folder, root)
        if real in seen:
            continue
        seen.add(real)
        for path in _entries(folder, root):
            if os.path.isdir(path):
                (links if path.is_symlink() else folders).append(path)
            elif path.suffix.lower() in ENDINGS:
                yield path, _real(path, root)


def _entries(folder: Path, root: Path) -> list[Path]:
    """What is in a folder and not hidden, sorted."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise CamouflageError(f"The folder '{_shown(folder.relative_to(root).as_posix())}' of 'photos' cannot be read "
                              f"({error.strerror}). Give the right to read it, or name another one.") from error


def _pixels(path: Path, formats: tuple[str, ...]) -> np.ndarray:
    """H x W x 3, uint8. Raises Unreadable."""
    if not os.path.isfile(path):  # a link to nowhere; or a pipe, at which one would wait
        raise Unreadable("no file")
    return np.asarray(decode(path, formats, profile=True))


def _of_one_size(pictures: Mapping[str, np.ndarray], most: int) -> list[list[str]]:
    """The names of pictures in batches of at most ``most``, ordered by the first picture of each."""
    batches: list[list[str]] = []
    filling: dict[tuple[int, ...], list[str]] = {}
    for name, pixels in pictures.items():
        if pixels.shape not in filling or len(filling[pixels.shape]) == most:
            batches.append([])
            filling[pixels.shape] = batches[-1]
        filling[pixels.shape].append(name)
    return batches


def _batch(pictures: list[np.ndarray]) -> torch.Tensor:
    """B x H x W x 3, 0..1, on the host's intermediate device."""
    return torch.cat([from_uint8(pixels) for pixels in pictures]).to(mm.intermediate_device())


def _shown(name: str) -> str:
    """A name for people and for JSON, in one line."""
    return _NO_TEXT.sub("\ufffd", name)
