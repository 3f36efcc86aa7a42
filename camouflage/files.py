"""Files: written whole or not at all, known by their digests, locked against other processes. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The pack's own folder: the one with ``nodes/``, ``workflows/`` and ``run.py``."""


def cache_folder() -> Path:
    """The folder for environments, the fetched ComfyUI and miniature weights. It can be deleted at any time."""
    chosen = os.environ.get("CAMOUFLAGE_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "camouflage"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "camouflage"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "camouflage"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path``; gone afterwards, unless the block has moved it away."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, which takes its place when the block ends well, and goes when it does not.

    Whenever the process or the power ends, ``path`` is the old file or the new one, complete.

        with whole(path) as temporary:
            save_file(state, temporary)
    """
    with _beside(path) as temporary:
        yield temporary
        os.chmod(temporary, 0o644)
        to_disk(temporary)
        os.replace(temporary, path)


def remove_leftovers(path: Path) -> None:
    """Removes what processes that were killed left of :func:`whole` for ``path``. Nobody else may be writing it."""
    for abandoned in path.parent.glob(f".{glob.escape(path.name)}-*"):
        abandoned.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all, see :func:`whole`."""
    with whole(path) as temporary:
        temporary.write_bytes(content)


def first_free(wanted: Path, make: Callable[[Path], object]) -> Path:
    """Makes ``wanted``, or else ``wanted-2``, ``wanted-3``, …: the first where ``make`` raises no FileExistsError."""
    for number in itertools.count(1):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        with contextlib.suppress(FileExistsError):
            make(path)
            return path
    raise AssertionError  # itertools.count has no end


def write_new(wanted: Path, content: bytes) -> Path:
    """Writes a file in one piece under the first free name, see :func:`first_free`: nothing is overwritten."""
    def publish(path: Path) -> None:
        try:
            os.link(temporary, path)  # fails where there is one; the file is whole from the first moment on
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            path.touch(exist_ok=False)
            os.replace(temporary, path)

    with _beside(wanted) as temporary:
        temporary.write_bytes(content)
        os.chmod(temporary, 0o644)
        return first_free(wanted, publish)


class OwnedFolder:
    """A temporary folder that goes with its process: one whose owner was killed is removed by the next owner.

    A locked file in it says that the owner lives. The system drops the lock with the process, however that ends.

    Args:
        prefix: of its name.
        place: the folder that it lies in; the system's for temporary files if None.

    Attributes:
        path: the folder; nobody but this user can read it.
    """

    MARK = "owner.lock"

    def __init__(self, prefix: str, place: Path | None = None) -> None:
        place = place or Path(tempfile.gettempdir())
        for abandoned in place.glob(f"{prefix}*/{self.MARK}"):
            with contextlib.suppress(OSError):
                with open(abandoned, "r+b") as mark:
                    free = try_lock(mark.fileno())
                    if free:
                        shutil.rmtree(abandoned.parent, ignore_errors=True)
                if free:  # Windows removes no open file
                    shutil.rmtree(abandoned.parent, ignore_errors=True)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            self._mark = open(self.path / self.MARK, "wb")  # noqa: SIM115 - as long as the folder
            if try_lock(self._mark.fileno()) and (self.path / self.MARK).exists():
                return
            self._mark.close()  # a sweep was faster than we

    def close(self) -> None:
        """Removes the folder. May be called twice."""
        self._mark.close()
        for _ in range(20):
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                return
            time.sleep(0.1)  # a process that is about to end has written into it


def to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk, where the system can tell. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:  # a network file system says here that it is full
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP) and not path.is_dir():
            raise
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
