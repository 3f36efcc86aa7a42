"""What a source is made of: units of work, and the pictures in them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import CamouflageError
from ..photos import Unreadable

RUN = "_camouflage"
"""The folder of an output that holds what is known of the run; it names the originals, so it is not for others."""


@dataclass(frozen=True)
class Item:
    """A picture of a source.

    Attributes:
        key: what stands for it in the source; unique there.
        name: in the output, without ending: a path with "/" (folder), a sample's key (tar) or the key (parquet).
        read: gives the bytes of its file. Raises Unreadable, in words.
        more: what was asked to be kept of it besides the picture, by ending or column.
        problem: why it cannot be used, known without reading it.
    """

    key: str
    name: str
    read: Callable[[], bytes]
    more: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Unit:
    """A unit of work: a shard, or a block of files. Its output appears whole or not at all.

    Attributes:
        number: from 0 on, in the sorted order of the source.
        name: of the shard, a path with "/"; "" for a block of files.
        count: how many pictures it has.
        entries: what the source needs to find its pictures again; plain data.
        files: size in bytes and change time in ns of every file, as they were when the source was listed.
    """

    number: int
    name: str
    count: int
    entries: tuple[Any, ...]
    files: Mapping[str, tuple[int, int]]

    @property
    def digest(self) -> str:
        """SHA-256 of what is in it, by names and sizes; a copy of a source has the same."""
        known = [self.name, self.entries, {name: size for name, (size, _) in sorted(self.files.items())}]
        return hashlib.sha256(json.dumps(known, ensure_ascii=False).encode()).hexdigest()


    def to_text(self) -> str:
        """As JSON, for another process."""
        return json.dumps([self.number, self.name, self.count, self.entries, self.files], ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> Unit:
        """What :meth:`to_text` gave."""
        number, name, count, entries, files = json.loads(text)
        return cls(number, name, count, tuple(map(tuple, entries)),
                   {file: (size, changed) for file, (size, changed) in files.items()})


class Writer(Protocol):
    """Takes the pictures of a unit in their order."""

    def add(self, photo: Item, suffix: str, data: bytes, record: Mapping[str, Any]) -> str:
        """Writes a picture and the record of its verdict. Gives the picture's name in the output."""
        ...


class Source(Protocol):
    """A form of datasets. Plain data, so that it can be sent to another machine."""

    @property
    def form(self) -> str:
        """"folder", "tar" or "parquet"."""
        ...

    @property
    def root(self) -> Path:
        """The folder that its paths begin at."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Of its files, with "/"."""
        ...

    @property
    def keep(self) -> tuple[str, ...]:
        """What else goes along, by ending or column."""
        ...

    def units(self) -> list[Unit]:
        """All units in order. Raises CamouflageError where the source cannot be listed."""
        ...

    def photos(self, unit: Unit) -> Iterator[Item]:
        """The pictures of a unit in order. Raises Changed, OSError."""
        ...

    def writer(self, unit: Unit, output: Path) -> contextlib.AbstractContextManager[Writer]:
        """Writes the unit's part of the output; it appears when the block ends well. Raises OSError."""
        ...

    def read_back(self, unit: Unit, output: Path) -> contextlib.AbstractContextManager[
            Callable[[str], tuple[bytes, dict[str, Any]]]]:
        """Inside, a function: the name of a written picture -> its bytes and its record. Raises OSError, KeyError."""
        ...


class Changed(CamouflageError):
    """A shard is not the one that was listed."""


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and change time in ns. Raises OSError, also for what is no file: a pipe would never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return found.st_size, found.st_mtime_ns


def demand_unchanged(path: Path, before: tuple[int, int]) -> None:
    """Raises Changed unless a shard is what it was when the source was listed."""
    try:
        now = stamp(path)
    except OSError as error:
        raise Changed(f"The shard {path} cannot be read any more ({error.strerror}). Nothing of it was written. Put it "
                      "back, then run the same command again.") from error
    if now != before:
        raise Changed(f"The shard {path} was changed while the run went on. Nothing of it was written. Put the former "
                      "one back, or begin a new --output with the new one.")


def file_reader(path: Path, before: tuple[int, int]) -> Callable[[], bytes]:
    """Reads a file that must be the one that was listed."""
    def read() -> bytes:
        try:
            if stamp(path) != before:
                raise Unreadable("it was changed after the run had listed it")
            data = path.read_bytes()
            if stamp(path) != before:
                raise Unreadable("it was changed while it was read")
        except FileNotFoundError:
            raise Unreadable("it is not there any more, or its name is no text in UTF-8") from None
        except OSError as error:
            raise Unreadable(f"cannot be opened: {error.strerror}") from None
        return data
    return read


def blocks(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Successive parts of at most ``size`` entries."""
    for first in range(0, len(entries), size):
        yield entries[first:first + size]


def record_text(record: Mapping[str, Any]) -> str:
    """A record as it lies beside its picture."""
    return json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
