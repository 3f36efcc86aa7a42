"""Saving files: never over another one, whole or not at all, never outside of a folder (beyond the paper; our choice).

A picture gets a name with a number, ``<prefix>_00001.png``, and its manifest the same one, ``<prefix>_00001.json``.
Everything is first written to a hidden file of the same folder, ``.camouflage-….tmp``, and brought to the disk; only
then does it get its name. Who saves reserves the number by creating such a hidden file exclusively, and holds a lock on
it, so that any number of processes can save at once, and no number ever belongs to two pictures.

**What a killed process leaves behind.** Hidden files, which the next saving removes once they are an hour old; and, if
it was killed between the two, a manifest without its picture. Its reservation tells: where one is not locked any more
(or, on file systems without locks, is an hour old), the next saving removes it, and before it the manifest under its
number; but only what is a manifest of ours, younger than the reservation, for a picture of this number, of which there
is none. Without such a reservation no manifest is ever removed, also where somebody took its picture away.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import CamouflageError
from ..files import try_lock
from . import manifests
from .encoding import SUFFIXES

_LONGEST_PART = 100
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$", *(f"{device}{number}" for device in ("com", "lpt")
                                                                for number in "123456789¹²³")}
_HIDDEN, _TEMPORARY = ".camouflage-", ".tmp"
_ENDINGS = (*SUFFIXES.values(), ".json")
_LEFTOVER = 3600.0  # seconds
_GRACE = 10.0  # seconds that a reservation is left alone, locked or not: some disks' locks end at the machine


def checked_prefix(text: object) -> PurePosixPath:
    """What names begin with: a path inside the output folder, subfolders separated by "/".

    "%" is refused rather than taken literally: other save nodes fill in sizes, times or other nodes' values there,
    and what the person expects to be filled in would end up in the name, or say something of the source.

    Raises:
        CamouflageError: empty; absolute or with a drive; "." and ".."; a backslash, a control or unprintable
            character or one of ``<>:"|?*%``; a part that begins with a dot or a space, ends with one, is longer than
            100 characters (or 200 bytes), or is a device of Windows (CON, NUL, COM1, …).
    """
    wanted = ("'filename_prefix' must be a name such as 'camouflage', with subfolders if you like: "
              "'holiday/camouflage'. It stays inside the output folder.")
    if not isinstance(text, str) or not text:
        raise CamouflageError(f"{wanted} It is empty.")
    shown = repr(text if len(text) <= 60 else text[:60] + "…")
    for character in text:
        if not character.isprintable() or character in '<>:"|?*%\\':
            raise CamouflageError(f"{wanted} {shown} has {character!r} in it, which is not allowed.")
    for part in text.split("/"):
        if not part:
            why = "begins or ends with '/', or has two of them in a row"
        elif part != part.strip(". "):
            why = f"has the part '{part}', which begins or ends with a dot or a space"
        elif len(part) > _LONGEST_PART or len(part.encode()) > 2 * _LONGEST_PART:
            why = f"has a part of {len(part)} characters; {_LONGEST_PART} are the most (200 bytes)"
        elif part.split(".")[0].rstrip(" ").lower() in _RESERVED:
            why = f"has the part '{part}', which Windows keeps for a device"
        else:
            continue
        raise CamouflageError(f"{wanted} {shown} {why}.")
    return PurePosixPath(text)


def save(folder: Path | str, prefix: str, suffix: str, data: bytes,
         manifest: Callable[[str], Mapping[str, Any]] | None = None) -> Path:
    """Saves a file under the next free number, and its manifest, if there is one, under the same.

    The manifest gets its name first, so every picture that asked for one has one. A number is taken if a picture of
    any format or a manifest has it.

    Args:
        folder: nothing is written outside of it; made if it is missing.
        prefix: see :func:`checked_prefix`; subfolders are made.
        suffix: of ``SUFFIXES``.
        data: the whole file.
        manifest: the file's name -> what its manifest says.

    Returns:
        The file's path, without symbolic links.

    Raises:
        CamouflageError: a bad prefix, a subfolder that leads out of ``folder``, or a disk that is full, read-only or
            away; then neither picture nor manifest is there.
    """
    inside = checked_prefix(prefix)
    try:
        home = _subfolder(Path(folder), inside.parent)
        with _temporary(home, data) as picture:
            _remove_leftovers(home, now=picture.stat().st_mtime)
            number = _next_number(home, inside.name)
            while True:
                stem = f"{inside.name}_{number:05d}"
                with _reserved(home, stem) as ours, contextlib.suppress(FileExistsError):
                    if ours and not any(os.path.lexists(home / (stem + end)) for end in _ENDINGS):
                        path = home / (stem + suffix)
                        _publish_with(manifest, picture, path)
                        return path
                number += 1
    except OSError as error:
        raise CamouflageError(f"A picture with the prefix '{prefix}' could not be saved in the output folder "
                              f"({error.strerror or type(error).__name__}); nothing of it was left there. See whether "
                              "the disk is full or write-protected, then run again.") from error


def _subfolder(folder: Path, inside: PurePosixPath) -> Path:
    """The real path of a subfolder, made if it is missing; looked at before and after, as links may lead away."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.resolve()
    _real(root, inside).mkdir(parents=True, exist_ok=True)
    return _real(root, inside)


def _real(root: Path, inside: PurePosixPath) -> Path:
    """The path without symbolic links, if it stays below ``root``."""
    try:
        path = (root / inside).resolve()
    except RuntimeError:  # links in a circle, before Python 3.13
        path = None
    if path is None or not path.is_relative_to(root):
        raise CamouflageError(f"The subfolder '{inside}' is a link that leads out of the output folder. Choose another "
                              "'filename_prefix', or remove the link.")
    return path


@contextlib.contextmanager
def _temporary(folder: Path, data: bytes) -> Iterator[Path]:
    """A hidden file with this content, on the disk; gone afterwards."""
    path = folder / f"{_HIDDEN}{secrets.token_hex(8)}{_TEMPORARY}"
    try:
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        _remove(path)


@contextlib.contextmanager
def _reserved(folder: Path, stem: str) -> Iterator[bool]:
    """Whether nobody else saves under this stem as long as this is entered."""
    path = folder / f"{_HIDDEN}{stem}{_TEMPORARY}"
    with contextlib.ExitStack() as closing:
        try:
            file = closing.enter_context(open(path, "xb"))
        except FileExistsError:
            yield False
            return
        with contextlib.suppress(OSError):  # a file system without locks
            try_lock(file.fileno())
        try:
            yield True
        finally:
            if not _remove(path):  # Windows removes no open file
                file.close()
                _remove(path)


def _publish_with(manifest: Callable[[str], Mapping[str, Any]] | None, picture: Path, path: Path) -> None:
    """Gives the picture its name, and its manifest before it; both or none."""
    if manifest is None:
        _publish(picture, path)
        return
    text = json.dumps(manifest(path.name), indent=2, allow_nan=False) + "\n"
    beside = path.with_name(path.stem + ".json")
    with _temporary(path.parent, text.encode()) as temporary:
        _publish(temporary, beside)
    try:
        _publish(picture, path)
    except BaseException:
        _remove(beside)
        raise


def _publish(temporary: Path, path: Path) -> None:
    """Gives a complete file its name; a name that is there stays what it is (FileExistsError).

    A hard link appears whole, and only where the name is free. Where the file system has no hard links the file is
    renamed, which appears whole too. Windows then refuses a name that exists; elsewhere it is looked up first, and
    the reservation keeps every other saver of ours away in between.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(temporary, path)


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _remove_leftovers(folder: Path, now: float) -> None:
    """Removes what killed processes left behind; ``now`` is the file system's own time, in seconds."""
    for path in folder.glob(f"{_HIDDEN}*{_TEMPORARY}"):
        with contextlib.suppress(OSError):  # also where somebody else was quicker
            found = path.lstat()
            age = now - found.st_mtime
            stem = path.name.removeprefix(_HIDDEN).removesuffix(_TEMPORARY)
            if re.search("_[0-9]{5,}$", stem):
                if age > _GRACE and stat.S_ISREG(found.st_mode):
                    _end_if_abandoned(path, age)
            elif age > _LEFTOVER:
                path.unlink()


def _end_if_abandoned(reservation: Path, age: float) -> None:
    """Where who reserved a number was killed, removes the manifest without its picture, then the reservation."""
    descriptor = os.open(reservation, os.O_RDWR)
    try:
        try:
            free = try_lock(descriptor)
        except OSError:  # a file system without locks
            free = age > _LEFTOVER
        held = os.fstat(descriptor)
        if not free or not os.path.samestat(held, reservation.lstat()):
            return
        beside = reservation.with_name(reservation.name.removeprefix(_HIDDEN).removesuffix(_TEMPORARY) + ".json")
        if _lacks_its_picture(beside, held.st_mtime):
            beside.unlink()
        if os.name != "nt":
            reservation.unlink()
    finally:
        os.close(descriptor)
    if os.name == "nt":  # which removes no open file
        reservation.unlink()


def _lacks_its_picture(path: Path, since: float) -> bool:
    """Whether a file is a manifest of ours, not older than ``since``, whose picture should lie beside it but does not.

    Raises:
        OSError: that cannot be found out.
    """
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_mtime < since or found.st_size > 4 * manifests.MAX_JSON:
            return False
        name = manifests.read(path.read_text(encoding="utf-8"))["file"]["name"]
    except (FileNotFoundError, UnicodeDecodeError, CamouflageError):
        return False
    pictures = [path.with_suffix(end) for end in SUFFIXES.values()]
    return name in [picture.name for picture in pictures] and not any(map(os.path.lexists, pictures))


def _next_number(folder: Path, name: str) -> int:
    """One more than the highest number there; upper and lower case count as the same, as on some file systems."""
    ends = "|".join(re.escape(end) for end in _ENDINGS)
    numbered = re.compile(rf"{re.escape(name)}_([0-9]{{5,}})(?:{ends})", re.IGNORECASE)
    found = (numbered.fullmatch(entry) for entry in os.listdir(folder))
    return 1 + max((int(match[1]) for match in found if match), default=0)
