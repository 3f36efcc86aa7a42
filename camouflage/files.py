"""Files: written whole or not at all, known by their digests, locked against other processes. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The pack's own folder: the one with ``nodes/``, ``workflows/`` and ``run.py``."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, which takes its place when the block ends well, and goes when it does not.

    Whenever the process or the power ends, ``path`` is the old file or the new one, complete.

        with whole(path) as temporary:
            save_file(state, temporary)
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all, see :func:`whole`."""
    with whole(path) as temporary:
        temporary.write_bytes(content)


def to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk, where the system can tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    except OSError:  # Windows opens no folders
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Locks an open file for this process; False if another one holds it. The lock ends with its holder."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
