"""What is known of every weight file on this machine: the one answer that the command and ComfyUI's panel show.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..weights import INSTEAD, REGISTRY, SUMS, Weight, first_file, listed_digests, mistaken_for, needed_by
from .digests import KnownDigests

PRESENT, UNVERIFIED, DAMAGED = "present", "unverified", "damaged"
PARTLY, MISSING, UNTRAINED = "partly", "missing", "to be trained"
PIPELINES = tuple(dict.fromkeys(name for weight in REGISTRY for name in weight.pipelines))
"""Every pipeline that needs weights, by the name of its workflow."""
NOT_COMPUTED = "Its SHA-256 has not been computed yet."
COMMERCIAL = {True: "allowed", False: "not allowed", None: "not stated"}
Folders = Callable[[str], Sequence[Path]]
"""The folders in which ComfyUI looks for models of a kind, the one where new files go first."""


@dataclass(frozen=True)
class FileState:
    """What is known of one weight file.

    Attributes:
        weight: its row of the registry.
        state: "present" (its digest is right), "unverified" (there, not compared with a digest), "damaged" (another
            digest or size, or no such file at all), "partly" (a download was broken off), "missing", or "to be
            trained" (missing, and there is no download).
        path: where it is; where it belongs if it is not there.
        size: bytes on the disk, also of a part; None if there is nothing.
        why: a sentence that explains the state, for people.
        published: SHA-256 that the hub named when the file was downloaded; None where it did not.
    """

    weight: Weight
    state: str
    path: Path
    size: int | None
    why: str
    published: str | None = None

    @property
    def there(self) -> bool:
        """Whether the loaders find a file."""
        return self.state in (PRESENT, UNVERIFIED, DAMAGED)

    def document(self) -> dict[str, Any]:
        """The facts as JSON knows them."""
        weight = self.weight
        return {"role": weight.role, "file": weight.path, "path": str(self.path), "state": self.state, "why": self.why,
                "size": weight.size, "size_on_disk": self.size, "sha256": weight.sha256,
                "published_sha256": self.published, "licence": weight.licence, "commercial": weight.commercial,
                "pipelines": list(weight.pipelines), "url": weight.url}


def chosen(pipelines: Sequence[str] = (), commercial_safe: bool = False) -> tuple[Weight, ...]:
    """The files of some pipelines, in the registry's order; all there are without a name.

    Args:
        commercial_safe: leave out what a company may not use, and that of which nobody says so; with what can do the
            work of it.
    """
    values = [value for _, value in INSTEAD.values()] if commercial_safe else []
    wanted = {weight for name in pipelines for weight in needed_by(name, values)} if pipelines else set(REGISTRY)
    return tuple(weight for weight in REGISTRY if weight in wanted and (weight.commercial or not commercial_safe))


def states(weights: Iterable[Weight], folders: Folders, known: KnownDigests, compute: bool = False
           ) -> tuple[FileState, ...]:
    """The state of every file, see :func:`each_state`."""
    return tuple(each_state(weights, folders, known, compute))


def each_state(weights: Iterable[Weight], folders: Folders, known: KnownDigests, compute: bool = False
               ) -> Iterator[FileState]:
    """The state of every file, one after the other.

    Args:
        weights: of the registry.
        folders: where models are.
        known: remembered digests.
        compute: read every file; otherwise remembered digests are used, and sizes alone where there are none.
    """
    trusted = trusted_digests(folders)
    for weight in weights:
        yield _state(weight, folders(weight.folder), known, trusted, compute)


def trusted_digests(folders: Folders) -> set[str]:
    """Digests that the administrator vouches for, in ``models/camouflage/SHA256SUMS``."""
    return listed_digests(folders("camouflage"))


def part_of(target: Path) -> Path:
    """Where a download lies until it is complete and checked."""
    return target.with_name(target.name + ".part")


def judge(weight: Weight, name: str, size: int, digest: str, trusted: set[str], published: str | None = None
          ) -> tuple[str, str]:
    """Whether content is what the registry says: "present", "unverified" or "damaged", and why.

    Args:
        weight: what it should be.
        name: of the file; a safetensors file in a pickle's place has neither a known digest nor a known size.
        size: bytes.
        digest: SHA-256, hex.
        trusted: digests that the administrator vouches for.
        published: the digest that the hub named.
    """
    if digest in trusted:
        return PRESENT, f"Its SHA-256 stands in {SUMS}."
    ours = weight.has_name(PurePath(name))
    expected = weight.sha256 if ours and weight.sha256 else None
    if expected is None and ours and weight.size not in (None, size):
        return DAMAGED, _other_size(size, weight)
    if expected := expected or published:
        return (PRESENT, "Its SHA-256 is the published one.") if digest == expected else (
            DAMAGED, f"Its SHA-256 is {digest}, not {expected}.")
    return UNVERIFIED, "Nobody has published a SHA-256 to compare it with" + (
        f"; its size is right, {size:,} bytes." if ours and weight.size else ".")


def wrong_content(path: Path, name: str) -> str | None:
    """What can be seen in a file that is not a model at all: a sentence, or None.

    Args:
        path: of the file.
        name: that it shall get.
    """
    if mistake := mistaken_for(path):
        return mistake
    if name.endswith(".json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return "It is not JSON, though its name says so."
    return None


def _state(weight: Weight, folders: Sequence[Path], known: KnownDigests, trusted: set[str], compute: bool) -> FileState:
    path = first_file(folders, weight)
    if path is None:
        return _absent(weight, Path(folders[0], *weight.file.split("/")))
    published = known.published(path, weight.url) if weight.url else None
    try:
        size = path.stat().st_size
        mistake = wrong_content(path, path.name)
        digest = None if mistake else known.compute(path) if compute else known.remembered(path)
    except OSError as error:
        return FileState(weight, DAMAGED, path, None, f"It cannot be read: {error.strerror or error}.", published)
    if mistake:
        state, why = DAMAGED, mistake
    elif digest is not None:
        state, why = judge(weight, path.name, size, digest, trusted, published)
    elif weight.has_name(path) and weight.size not in (None, size) and not trusted:
        state, why = DAMAGED, _other_size(size, weight)
    else:
        state, why = UNVERIFIED, NOT_COMPUTED
    return FileState(weight, state, path, size, why, published)


def _absent(weight: Weight, target: Path) -> FileState:
    part = part_of(target)
    if weight.url is None:
        return FileState(weight, UNTRAINED, target, None, "There is no download of it.")
    if part.is_file():
        size = part.stat().st_size
        return FileState(weight, PARTLY, target, size, f"{size:,} bytes are there.")
    return FileState(weight, MISSING, target, None, "It is not there.")


def _other_size(size: int, weight: Weight) -> str:
    return f"It has {size:,} bytes, not {weight.size:,}."
