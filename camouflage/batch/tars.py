"""Tar shards as the WebDataset library reads and writes them: files with the same stem are one sample."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import CamouflageError
from ..files import remove_leftovers, whole
from ..photos import ENDINGS, Unreadable
from .names import Names
from .photos import Changed, Item, Unit, demand_unchanged, record_text, stamp

SHARDS = (".tar", ".tar.gz", ".tgz")


def stem_and_ending(name: str) -> tuple[str, str]:
    """A member's sample and what it is of it: the name is cut at the first dot after the last "/"."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending


@dataclass(frozen=True)
class Tars:
    """Tar shards.

    Attributes:
        root: what the paths of the shards begin at.
        paths: of the shards, with "/", in order.
        names: how samples and shards are called in the output.
        keep: endings of a sample's other files that go along ("txt", "cls").
    """

    root: Path
    paths: tuple[str, ...]
    names: Names
    keep: tuple[str, ...] = ()
    form = "tar"

    def units(self) -> list[Unit]:
        """The shards in order."""
        return [self._unit(number, path) for number, path in enumerate(self.paths)]

    def _unit(self, number: int, path: str) -> Unit:
        file = self.root / path
        try:
            with tarfile.open(file) as shard:
                count = len({stem_and_ending(member.name)[0] for member in shard if _is_picture(member)})
            return Unit(number, path, count, (), {path: stamp(file)})
        except (OSError, tarfile.TarError, EOFError) as error:
            raise CamouflageError(f"The shard {file} cannot be read as a tar file ({error}). Repair it, or leave it "
                                  "out.") from error

    def photos(self, unit: Unit) -> Iterator[Item]:
        """The samples of a shard that have a picture, in the order of their first files."""
        file, before = self.root / unit.name, unit.files[unit.name]
        demand_unchanged(file, before)
        try:
            with tarfile.open(file) as shard:
                samples: dict[str, list[tarfile.TarInfo]] = {}
                for member in shard:
                    if member.isfile():
                        samples.setdefault(stem_and_ending(member.name)[0], []).append(member)
                for key, members in samples.items():
                    if any(map(_is_picture, members)):
                        yield self._photo(shard, key, members)
        except (tarfile.TarError, EOFError) as error:
            raise Changed(f"The shard {file} is damaged ({error}). Nothing of it was written.") from error
        demand_unchanged(file, before)

    def _photo(self, shard: tarfile.TarFile, key: str, members: list[tarfile.TarInfo]) -> Item:
        pictures = [member for member in members if _is_picture(member)]
        problem = f"{len(pictures)} pictures under one key" if len(pictures) > 1 else None
        if not key or key.endswith("/") or key.startswith("/") or ".." in PurePosixPath(key).parts:
            problem = "its name is no key: it begins with a dot, or leads out of a folder"
        more = {}
        try:
            more = {ending: _content(shard, member) for member in members
                    if (ending := stem_and_ending(member.name)[1]) in self.keep}
        except Unreadable as error:
            problem = str(error)
        return Item(key, self.names.of(key), lambda: _content(shard, pictures[0]), more, problem)

    @contextlib.contextmanager
    def writer(self, unit: Unit, output: Path) -> Iterator[_Samples]:
        """A shard of the same name, which appears when it is complete."""
        target = output / self._written(unit)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        with whole(target) as temporary, tarfile.open(temporary, "w") as shard:
            yield _Samples(shard)

    def _written(self, unit: Unit) -> str:
        if self.names.secret:
            return f"shard-{unit.number:06d}.tar"
        suffix = next(end for end in sorted(SHARDS, key=len, reverse=True) if unit.name.lower().endswith(end))
        return unit.name[:-len(suffix)] + ".tar"

    @contextlib.contextmanager
    def read_back(self, unit: Unit, output: Path) -> Iterator[Callable[[str], tuple[bytes, dict[str, Any]]]]:
        """Reads what was written."""
        with tarfile.open(output / self._written(unit)) as shard:
            def read(name: str) -> tuple[bytes, dict[str, Any]]:
                record = shard.getmember(stem_and_ending(name)[0] + ".json")
                return _content(shard, shard.getmember(name)), json.loads(_content(shard, record))
            yield read


def _is_picture(member: tarfile.TarInfo) -> bool:
    return member.isfile() and f".{stem_and_ending(member.name)[1].lower()}" in ENDINGS


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = shard.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise Unreadable("the shard ends before it")
    return data


class _Samples:
    def __init__(self, shard: tarfile.TarFile) -> None:
        self.shard = shard

    def add(self, photo: Item, suffix: str, data: bytes, record: Mapping[str, Any]) -> str:
        for ending, content in {suffix[1:]: data, "json": record_text(record).encode(), **photo.more}.items():
            member = tarfile.TarInfo(f"{photo.name}.{ending}")  # time 0, nobody's: nothing of the source's
            member.size = len(content)
            self.shard.addfile(member, io.BytesIO(content))
        return photo.name + suffix
