"""What was seen in pictures, kept while an evaluation runs, so that one that was stopped goes on where it was.

Embeddings identify persons. So the folder is for this user alone, its files have names that say nothing, and it is
removed in the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..files import write_whole
from ..verification.detection import FoundFace
from .seeing import Seen

FOLDER = ".evaluation"


class SeenCache:
    """The cache, in the output's folder; a context manager that removes it, unless the evaluation was stopped.

    Args:
        output: the folder of the results.
        settings: what looks, as text: what was seen by others does not count.
    """

    def __init__(self, output: Path, settings: str) -> None:
        self.folder, self._settings = output / FOLDER, settings

    def __enter__(self) -> SeenCache:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self.folder, 0o700)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, CamouflageError):  # the same command would say the same again
            shutil.rmtree(self.folder, ignore_errors=True)

    def seen(self, path: Path, look: Callable[[], Seen]) -> Seen:
        """What was seen in a picture that has not changed since; else what ``look`` sees now."""
        file = self._file([path], ".npz")
        with contextlib.suppress(OSError, ValueError, KeyError):  # none, or half of one
            return from_bytes(file.read_bytes())
        found = look()
        write_whole(file, to_bytes(found))
        return found

    def numbers(self, paths: Sequence[Path], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What was measured of pictures that have not changed since; else what ``measure`` measures now."""
        file = self._file(paths, ".json")
        with contextlib.suppress(OSError, ValueError):
            return json.loads(file.read_text(encoding="utf-8"))
        found = measure()
        write_whole(file, json.dumps(found).encode())
        return found

    def array(self, paths: Sequence[Path], make: Callable[[], np.ndarray], key: str = "") -> np.ndarray:
        """An array made of pictures that have not changed since; else what ``make`` makes now.

        Args:
            key: what was made, and by what, where there are several arrays of the same pictures.
        """
        file = self._file(paths, ".npy", key)
        with contextlib.suppress(OSError, ValueError):
            return np.load(io.BytesIO(file.read_bytes()), allow_pickle=False)
        found, data = make(), io.BytesIO()
        np.save(data, found)
        write_whole(file, data.getvalue())
        return found

    def _file(self, paths: Sequence[Path], ending: str, key: str = "") -> Path:
        stamps = [(os.fspath(path), there.st_size, there.st_mtime_ns) for path in paths for there in [path.stat()]]
        digest = hashlib.sha256(json.dumps([stamps, self._settings, key]).encode()).hexdigest()
        return self.folder / (digest[:32] + ending)


def to_bytes(seen: Seen) -> bytes:
    """As an npz file."""
    faces = [[*face.box_ltrb, face.turn] for face in seen.faces]
    names = [[face.detectors, face.confident] for face in seen.faces]
    arrays: dict[str, Any] = {"size": np.array(seen.size), "points": seen.points,
                              "faces": np.array(faces, float).reshape(-1, 5), "names": json.dumps(names),
                              "recognisers": json.dumps(list(seen.embeddings))}
    arrays |= {f"embeddings{i}": rows for i, rows in enumerate(seen.embeddings.values())}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def from_bytes(data: bytes) -> Seen:
    """What :func:`to_bytes` was given. Raises ValueError or KeyError for anything else."""
    with np.load(io.BytesIO(data), allow_pickle=False) as of:
        faces = tuple(FoundFace((float(row[0]), float(row[1]), float(row[2]), float(row[3])), tuple(by), tuple(sure),
                                float(row[4]))
                      for row, (by, sure) in zip(of["faces"], json.loads(str(of["names"])), strict=True))
        names = json.loads(str(of["recognisers"]))
        width, height = map(int, of["size"])
        return Seen((width, height), faces, {name: of[f"embeddings{i}"] for i, name in enumerate(names)},
                    of["points"])
