"""Folders of pictures and lists of paths; a picture's record lies beside it, with the ending ``.json``."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..files import to_disk
from ..photos import ENDINGS
from .names import Names
from .photos import RUN, Item, Unit, blocks, file_reader, record_text, stamp

BLOCK = 32  # pictures that are one unit of work
STAGING = "staging"  # beside the accounts: what is not whole yet


def walk(root: Path) -> tuple[list[str], int]:
    """All pictures below a folder, sorted, as paths with "/"; and how many other files there are.

    Links to folders are followed, but no folder is entered twice, so that a circle of links ends.
    """
    found: list[str] = []
    others = 0
    entered: set[str] = set()

    def enter(folder: Path, inside: PurePosixPath) -> None:
        nonlocal others
        real = os.path.realpath(folder)
        if real in entered:
            return
        entered.add(real)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if entry.name == RUN:  # what another run knows
                    continue
                if entry.is_dir():
                    enter(folder / entry.name, inside / entry.name)
                elif not entry.name.startswith(".") and entry.name.lower().endswith(ENDINGS):
                    found.append(_as_text(str(inside / entry.name)))
                else:
                    others += 1

    enter(root, PurePosixPath())
    return sorted(found), others


def _as_text(path: str) -> str:
    """The path; one that is no UTF-8 with its odd bytes written out, which cannot be read, and is listed so."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Folder:
    """Pictures as files.

    Attributes:
        root: what the paths begin at.
        paths: of the pictures, with "/", sorted (a folder) or in the order of their list.
        names: how they are called in the output.
        keep: endings of files beside a picture, with its stem, that go along ("txt" for captions).
        walked: whether it is all that a folder holds, so that an output in it would be a part of it.
    """

    root: Path
    paths: tuple[str, ...]
    names: Names
    keep: tuple[str, ...] = ()
    walked: bool = False
    form = "folder"

    def units(self) -> list[Unit]:
        """Blocks of pictures in order."""
        named = list(zip(self.paths, self._named(), strict=True))
        return [Unit(number, "", len(part), tuple(map(tuple, part)), {path: self._stamp(path) for path, _ in part})
                for number, part in enumerate(blocks(named, BLOCK))]

    def _named(self) -> list[str]:
        """Names without ending; where some system would take two for the same, with the original's ending as well."""
        if self.names.secret:
            return [f"{name[:2]}/{name}" for name in map(self.names.of, self.paths)]
        stems = [str(PurePosixPath(path).with_suffix("")) for path in self.paths]
        count = Counter(map(_folded, stems))
        taken: set[str] = set()
        names = []
        for path, stem in zip(self.paths, stems, strict=True):
            wanted = stem if count[_folded(stem)] == 1 else path
            name = next(name for name in (wanted, path, *(f"{path}-{n}" for n in range(2, len(stems) + 3)))
                        if _folded(name) not in taken)
            taken.add(_folded(name))
            names.append(name)
        return names

    def _stamp(self, path: str) -> tuple[int, int]:
        try:
            return stamp(self.root / path)
        except OSError:
            return (-1, -1)  # a link that leads nowhere, or a line of a list: it is said when it is read

    def photos(self, unit: Unit) -> Iterator[Item]:
        """The pictures of a block."""
        for path, name in unit.entries:
            yield Item(path, name, file_reader(self.root / path, unit.files[path]), self._more(path))

    def _more(self, path: str) -> dict[str, bytes]:
        beside = {ending: (self.root / path).with_suffix(f".{ending}") for ending in self.keep}
        return {ending: file.read_bytes() for ending, file in beside.items() if file.is_file()}

    @contextlib.contextmanager
    def writer(self, unit: Unit, output: Path) -> Iterator[_Files]:
        """Writes to a hidden folder first; the files get their places together, each in one step, the record first."""
        place = output / RUN / STAGING
        for abandoned in place.glob(f"{unit.number:06d}-*"):  # of a run that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        staging = place / f"{unit.number:06d}-{secrets.token_hex(4)}"
        staging.mkdir(parents=True)
        try:
            files = _Files(staging)
            yield files
            for name in files.written:
                target = output / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / name, target)
            for folder in {(output / name).parent for name in files.written}:
                to_disk(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @contextlib.contextmanager
    def read_back(self, unit: Unit, output: Path) -> Iterator[Callable[[str], tuple[bytes, dict[str, Any]]]]:
        """Reads what was written."""
        def read(name: str) -> tuple[bytes, dict[str, Any]]:
            file = output / name
            return file.read_bytes(), json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        yield read


def _folded(name: str) -> str:
    """The same for names that differ in case, or in how an accent is written."""
    return unicodedata.normalize("NFC", name).casefold()


class _Files:
    def __init__(self, folder: Path) -> None:
        self.folder, self.written = folder, []

    def add(self, photo: Item, suffix: str, data: bytes, record: Mapping[str, Any]) -> str:
        name = photo.name + suffix
        self._write(photo.name + ".json", record_text(record).encode())
        for ending, content in photo.more.items():
            self._write(f"{photo.name}.{ending}", content)
        self._write(name, data)
        return name

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.written.append(name)


def listed(file: Path) -> tuple[Path, list[str]]:
    """The pictures of a text file with a path in every line: the folder above all of them, and their paths below it.

    Paths that are not absolute begin at the file's own folder. Empty lines and lines that begin with "#" are passed
    over; a path that stands there twice counts once.
    """
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    paths = [Path(os.path.abspath(file.parent / line)) for line in lines if line and not line.startswith("#")]
    return below(list(dict.fromkeys(paths)))


def below(paths: Sequence[Path]) -> tuple[Path, list[str]]:
    """The folder above all of some files, and their paths below it, with "/"."""
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    return root, [path.relative_to(root).as_posix() for path in paths]
