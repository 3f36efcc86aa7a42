"""From what a person names to a source: photos, a folder, a list of paths, tar shards, or parquet files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CamouflageError
from ..photos import ENDINGS
from .folders import Folder, below, listed, walk
from .names import Names
from .photos import Source
from .tables import Tables
from .tars import SHARDS, Tars

LIST = ".txt"
TABLES = (".parquet",)


@dataclass(frozen=True)
class Wanted:
    """What is said of a source on the command line.

    Attributes:
        paths: what was named.
        names: for the output.
        keep: endings or columns that go along.
        image, key: columns of parquet files; "".
    """

    paths: tuple[Path, ...]
    names: Names
    keep: tuple[str, ...] = ()
    image: str = ""
    key: str = ""


def open_source(wanted: Wanted) -> tuple[Source, str]:
    """The source, and what was left aside in it, for people ("" if nothing).

    Raises:
        CamouflageError: nothing there, nothing in it, or several kinds at once.
    """
    for path in wanted.paths:
        if not os.path.lexists(path):
            raise CamouflageError(f"There is no {path}. Name photos, a folder, a list of paths (.txt), tar shards or "
                                  "parquet files.")
    try:
        return _opened(wanted)
    except OSError as error:
        raise CamouflageError(f"{error.filename or wanted.paths[0]} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise CamouflageError(f"The list of paths must be text in UTF-8 ({error}).") from error


def _opened(wanted: Wanted) -> tuple[Source, str]:
    paths, told = list(wanted.paths), ""
    if len(paths) == 1 and paths[0].is_dir():
        root = paths[0]
        shards = sorted(entry.path for entry in os.scandir(root) if _ends(entry.name, (*SHARDS, *TABLES)))
        found, others = walk(root)
        if found and shards:
            raise CamouflageError(f"{root} holds both pictures and shards. Name the shards themselves, or put the "
                                  "pictures into a folder of their own.")
        if not shards:
            if not found:
                raise CamouflageError(f"There is no picture in {root}. Pictures are files that end in "
                                      f"{', '.join(ENDINGS)}.")
            _demand(wanted, "a folder", column=False, json=True)
            told = f"{others} other files in the folder were left aside." if others else ""
            return Folder(root, tuple(found), wanted.names, wanted.keep, walked=True), told
        paths = [Path(shard) for shard in shards]
    if any(path.is_dir() for path in paths):
        raise CamouflageError("Name one folder, or files; not several folders. Their pictures can be named in a list "
                              "of paths (.txt).")
    if len(paths) == 1 and _ends(paths[0].name, (LIST,)):
        _demand(wanted, "a list of paths", column=False, json=True)
        root, inside = listed(paths[0])
        if not inside:
            raise CamouflageError(f"There is no path in {paths[0]}.")
        return Folder(root, tuple(inside), wanted.names, wanted.keep), told
    root, inside = below(list(dict.fromkeys(paths)))
    if all(_ends(path, SHARDS) for path in inside):
        _demand(wanted, "tar shards", column=False, json=True)
        return Tars(root, tuple(inside), wanted.names, wanted.keep), told
    if all(_ends(path, TABLES) for path in inside):
        _demand(wanted, "parquet files", column=True, json=False)
        return Tables(root, tuple(inside), wanted.names, wanted.keep, wanted.image, wanted.key), told
    if any(_ends(path, (*SHARDS, *TABLES, LIST)) for path in inside):
        raise CamouflageError("Name sources of one kind: photos, one list of paths, tar shards or parquet files.")
    _demand(wanted, "photos", column=False, json=True)
    return Folder(root, tuple(inside), wanted.names, wanted.keep), told


def _ends(name: str, endings: Sequence[str]) -> bool:
    return name.lower().endswith(tuple(endings))


def _demand(wanted: Wanted, what: str, column: bool, json: bool) -> None:
    """Raises CamouflageError for options that mean nothing here."""
    if (wanted.image or wanted.key) and not column:
        raise CamouflageError(f"--column and --key are for parquet files; the source is {what}.")
    if json and (taken := [ending for ending in wanted.keep if ending == "json" or f".{ending}" in ENDINGS]):
        raise CamouflageError(f"--keep cannot take '{taken[0]}' along: the output has files of its own that end so.")
