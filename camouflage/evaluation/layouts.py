"""Who is in which picture of a published data set, by how its folders are laid out. Standard library only.

Nothing is downloaded: the folders are the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import CamouflageError

IDENTITIES, MAPPING = "identity_CelebA.txt", "CelebA-HQ-to-CelebA-mapping.txt"
"""Files of CelebA ("000001.jpg 2880" a line) and of CelebA-HQ (a head, then number, number and file of the CelebA
original)."""


@dataclass(frozen=True)
class Known:
    """What a layout says.

    Attributes:
        identities: who is in a picture, by its path; a picture that is not in it is a person of its own.
        protocol: the only one that fits, "" where any does.
        said: sentences for the person at the screen.
    """

    identities: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    said: tuple[str, ...] = ()


def known(layout: str, root: Path, keys: Sequence[str]) -> Known:
    """Who is in which picture.

    Args:
        layout: of ``LAYOUTS``.
        root: folder of the pictures.
        keys: their paths below it, with "/".

    Raises:
        CamouflageError: the folder is laid out in another way, or a file of the data set cannot be read.
    """
    return LAYOUTS[layout](root, keys)


def _plain(root: Path, keys: Sequence[str]) -> Known:
    return Known()


def _lfw(root: Path, keys: Sequence[str]) -> Known:
    """A folder for each person."""
    parents = {key: PurePosixPath(key).parent.name for key in keys}
    if loose := [key for key, name in parents.items() if not name]:
        raise CamouflageError(f"The layout lfw has a folder for each person, but {len(loose)} pictures lie in {root} "
                              f"itself, such as {loose[0]!r}. Name the folder above those of the persons, or another "
                              "--layout.")
    return Known(parents, said=(f"{len(set(parents.values()))} persons, by their folders.",))


def _celeba_hq(root: Path, keys: Sequence[str]) -> Known:
    """Numbered pictures; who is in them stands in CelebA's list, by way of the mapping to CelebA."""
    files = {name: next((folder / name for folder in (root, root.parent) if (folder / name).is_file()), None)
             for name in (IDENTITIES, MAPPING)}
    if absent := [name for name, file in files.items() if file is None]:
        return Known(said=(f"{' and '.join(absent)} {'lie' if len(absent) > 1 else 'lies'} neither in {root} nor above "
                           "it, so every picture counts as another person.",))
    who = {row[0]: row[1] for row in _rows(files[IDENTITIES], 2)}
    originals = {row[0]: row[2] for row in _rows(files[MAPPING], 3)}
    numbers = {key: PurePosixPath(key).stem for key in keys}
    found = {key: who[originals[str(int(number))]] for key, number in numbers.items()
             if number.isdecimal() and originals.get(str(int(number))) in who}
    left = len(keys) - len(found)
    return Known(found, said=(f"{len(set(found.values()))} persons, by CelebA's list"
                              + (f"; {left} pictures are not in it, and count as other persons." if left else "."),))


def _rows(file: Path | None, columns: int) -> list[list[str]]:
    """The lines of a table with spaces between its columns. Raises CamouflageError."""
    assert file is not None
    try:
        rows = [line.split() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CamouflageError(f"{file} cannot be read ({error}). Copy it again from the data set.") from error
    if bad := next((number for number, row in enumerate(rows, 1) if len(row) != columns), 0):
        raise CamouflageError(f"{file}: line {bad} must have {columns} columns with spaces between them. Copy the file "
                              "again from the data set.")
    return rows


def _ffhq(root: Path, keys: Sequence[str]) -> Known:
    return Known(said=("FFHQ names nobody, so every picture counts as another person.",))


def _wider(root: Path, keys: Sequence[str]) -> Known:
    return Known(protocol="folder", said=("WIDER names nobody, so every face counts as another person.",))


LAYOUTS: dict[str, Callable[[Path, Sequence[str]], Known]] = {
    "plain": _plain, "lfw": _lfw, "celeba-hq": _celeba_hq, "ffhq": _ffhq, "wider": _wider}
"""By name: no layout at all; Labeled Faces in the Wild; CelebA-HQ; FFHQ; WIDER FACE."""
