"""What looked at a picture: names, versions, licences and digests, for reports and manifests."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tool:
    """A detector or a recogniser.

    Attributes:
        name: for people, unique among its kind.
        version: of the package or file it comes from.
        licence: of its weights.
        sha256: hex digests of its weight files; none where the weights are part of a library.
    """

    name: str
    version: str
    licence: str
    sha256: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """As plain data."""
        return {"name": self.name, "version": self.version, "licence": self.licence, "sha256": list(self.sha256)}


def package_version(package: str) -> str:
    """Version of an installed distribution, with its name."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package}, version unknown"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()
