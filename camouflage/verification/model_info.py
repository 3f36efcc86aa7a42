"""What looked at a picture: names, versions, licences and digests, for reports and manifests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelInfo:
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
