"""Which anonymized picture belongs to which original, and who is in it."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..batch.accounts import SAVED, Accounts
from ..batch.folders import walk
from ..errors import CamouflageError
from ..photos import ENDINGS

MISSING = "missing"
"""The state of an original of which there is no anonymized picture, and no account says why."""
THERE = "there"
_NAMED = 5  # files that a sentence names


@dataclass(frozen=True)
class Pair:
    """An original and what became of it.

    Attributes:
        key: path of the original below its folder, with "/".
        original: the file.
        anonymized: the file; None where there is none.
        state: ``THERE``, ``MISSING``, or what a run of ``anonymize`` says of one that may not leave.
        identity: who is in it; "" where nobody says so.
    """

    key: str
    original: Path
    anonymized: Path | None
    state: str = THERE
    identity: str = ""


@dataclass(frozen=True)
class Pairing:
    """All pictures of an evaluation.

    Attributes:
        pairs: in the order of their keys.
        strangers: anonymized pictures that belong to no original.
    """

    pairs: tuple[Pair, ...]
    strangers: tuple[str, ...] = ()

    @property
    def states(self) -> Counter[str]:
        """How many originals are in which state."""
        return Counter(pair.state for pair in self.pairs)


def open_pairs(original: Path, anonymized: Path, identities: Path | None = None) -> Pairing:
    """Pairs of two folders.

    The output of ``anonymize`` says itself what belongs together. In other folders the anonymized picture has the
    original's path, with any ending of a picture, or with one more.

    Args:
        original, anonymized: folders of pictures, with sub-folders.
        identities: CSV with the columns file (path below ``original``) and identity.

    Raises:
        CamouflageError: no folder, no pictures, no pair, or two files that could belong to one original.
    """
    keys, names = _pictures(original, "originals"), _pictures(anonymized, "anonymized pictures")
    if original.resolve() == anonymized.resolve():
        raise CamouflageError("--original and --anonymized are the same folder. Name two.")
    who = read_identities(identities, keys) if identities else {}
    known = _accounts(anonymized)
    found = known if known is not None else _by_name(keys, names)
    pairs = []
    for key in keys:
        name, state = found.get(key, ("", MISSING))
        pairs.append(Pair(key, original / key, anonymized / name if name else None, state, who.get(key, "")))
    if not any(pair.anonymized for pair in pairs):
        raise CamouflageError(f"No picture in {anonymized} has the name of one in {original}. An anonymized picture "
                              "belongs to the original with the same path; the ending may be another one.")
    taken = {name for name, _ in found.values()}
    return Pairing(tuple(pairs), tuple(name for name in names if name not in taken))


def _pictures(folder: Path, what: str) -> list[str]:
    if not folder.is_dir():
        raise CamouflageError(f"There is no folder {folder}. Name the folder of the {what}.")
    try:
        found, _ = walk(folder)
    except OSError as error:
        raise CamouflageError(f"{error.filename or folder} cannot be read ({error.strerror}).") from error
    if not found:
        raise CamouflageError(f"There is no picture in {folder}. Pictures are files that end in {', '.join(ENDINGS)}.")
    return found


def _accounts(anonymized: Path) -> dict[str, tuple[str, str]] | None:
    """Key -> name and state, from the accounts of a run over a folder; None where there are none."""
    accounts = Accounts(anonymized)
    if not accounts.folder.is_dir():
        return None
    numbers = sorted(int(path.stem) for path in accounts.folder.glob("*.jsonl") if path.stem.isdigit())
    return {line.key: (line.name, THERE) if line.state in SAVED else ("", line.state)
            for _, line in accounts.lines(numbers)}


def _by_name(keys: Sequence[str], names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Key -> name and state. The nearest name counts: the same, with an ending more, with another one."""
    same, stems = set(names), defaultdict(list)
    for name in names:
        stems[PurePosixPath(name).with_suffix("").as_posix()].append(name)
    twins = Counter(PurePosixPath(key).with_suffix("").as_posix() for key in keys)
    found = {}
    for key in keys:
        stem = PurePosixPath(key).with_suffix("").as_posix()
        near = [key] if key in same else stems.get(key) or (stems.get(stem, []) if twins[stem] == 1 else [])
        if len(near) > 1:
            raise CamouflageError(f"{' and '.join(near[:_NAMED])} could all belong to the original {key}. Leave one "
                                  "of them.")
        if near:
            found[key] = (near[0], THERE)
    return found


def read_identities(file: Path, keys: Sequence[str]) -> dict[str, str]:
    """Who is in which original.

    Args:
        file: CSV in UTF-8 with a header that has the columns file and identity.
        keys: paths of the originals.

    Raises:
        CamouflageError: no such file or columns, a file that is not among the originals, or twice with two identities.
    """
    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CamouflageError(f"--identities {file} cannot be read as CSV in UTF-8 ({error}).") from error
    if not rows or not {"file", "identity"} <= rows[0].keys():
        raise CamouflageError(f"--identities {file} must be a CSV with a header that has the columns file and "
                              "identity, and a line for every picture.")
    there, found = set(keys), {}
    unknown = [row["file"] or "" for row in rows if row["file"] not in there]
    if unknown:
        raise CamouflageError(f"{len(unknown)} files of --identities {file} are not among the originals, such as "
                              f"{', '.join(map(repr, unknown[:_NAMED]))}. Paths begin at the folder of the originals.")
    for number, row in enumerate(rows, 2):
        name, who = row["file"], (row["identity"] or "").strip()
        if not who:
            raise CamouflageError(f"--identities {file}: line {number} says nobody for {name!r}. Leave the line out.")
        if found.setdefault(name, who) != who:
            raise CamouflageError(f"--identities {file}: {name!r} is said to be both {found[name]!r} and {who!r}.")
    return found
