"""Digests of large files, remembered, because reading gigabytes takes a while. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..files import file_sha256, write_whole


@dataclass(frozen=True)
class KnownDigests:
    """What is remembered of files; any of it can be deleted at any time and is computed again.

    Attributes:
        folder: of the cache; it is made when something is written. What cannot be written is not remembered.
    """

    folder: Path

    def remembered(self, file: Path) -> str | None:
        """SHA-256 of a file, hex, if it was computed for this path, size and time of change. Raises OSError."""
        return self._read(_key_of(file))

    def of(self, file: Path) -> str:
        """SHA-256 of a file, hex; computed where it is not remembered. Raises OSError."""
        return self.remembered(file) or self.compute(file)

    def compute(self, file: Path) -> str:
        """SHA-256 of a file, hex, computed and remembered. Raises OSError."""
        key, digest = _key_of(file), file_sha256(file)
        self._write(key, digest)
        return digest

    def keep(self, file: Path, digest: str) -> None:
        """Remembers a digest that was computed before the file got its name. Raises OSError."""
        self._write(_key_of(file), digest)

    def published(self, file: Path, url: str) -> str | None:
        """SHA-256 that the hub named when this file was downloaded to this place; None if it named none."""
        return self._read(_key_of_download(file, url))

    def keep_published(self, file: Path, url: str, digest: str) -> None:
        """Remembers what :meth:`published` gives."""
        self._write(_key_of_download(file, url), digest)

    def _read(self, key: str) -> str | None:
        with contextlib.suppress(OSError):
            return (self.folder / key).read_text(encoding="ascii")
        return None

    def _write(self, key: str, digest: str) -> None:
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / key, digest.encode())


def _key_of(file: Path) -> str:
    found = file.stat()
    return hashlib.sha256(f"{file.resolve()}\0{found.st_size}\0{found.st_mtime_ns}".encode()).hexdigest()


def _key_of_download(file: Path, url: str) -> str:
    return "published-" + hashlib.sha256(f"{file.resolve()}\0{url}".encode()).hexdigest()
