"""Results in the format of HiFD's scoring core (package ``hifd``, schema 1.0): predictions on originals and results.

HiFD compares embeddings by their cosine alone, and embeddings identify persons. So no embedding is written: the
original's is the vector (1, 0) and the anonymized face's the one in the plane with the same cosine, which gives the
same score and tells nothing else. Keypoints are in a frame in which the original's eyes lie at (0, 0) and (1, 0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .privacy import Compared
from .seeing import Seen, framed

SCHEMA_VERSION = "1.0"


def envelope(task: str, source: str, estimator: str, predictions: Mapping[str, Any], **more: Any) -> str:
    """A file of HiFD, as text."""
    return json.dumps({"task": task, "source": source, "estimator": estimator, "schema_version": SCHEMA_VERSION,
                       **more, "predictions": dict(predictions)}, indent=1, allow_nan=False) + "\n"


def embeddings(names: Sequence[str], cosines: np.ndarray, estimator: str) -> tuple[str, str]:
    """The files of the task ``face_embedding``, of originals and of anonymized pictures.

    Args:
        names: n keys of samples.
        cosines: n, of the angle between the two embeddings, -1..1.
        estimator: the recogniser's name.
    """
    values = np.clip(np.asarray(cosines, float), -1.0, 1.0)
    before = {name: {"embedding": [1.0, 0.0]} for name in names}
    after = {name: {"embedding": [float(value), float(np.sqrt(1 - value * value))]}
             for name, value in zip(names, values, strict=True)}
    return (envelope("face_embedding", "original", estimator, before),
            envelope("face_embedding", "deid", estimator, after))


def landmarks(names: Sequence[str], before: np.ndarray, after: np.ndarray, estimator: str) -> tuple[str, str]:
    """The files of the task ``landmark``.

    Args:
        names: n keys of samples.
        before, after: n x 5 x 2 keypoints (eyes first) in the same frame.
    """
    frames = [_eye_frame(points) for points in before]
    both = []
    for source, points in (("original", before), ("deid", after)):
        moved = [_moved(one, frame) for one, frame in zip(points, frames, strict=True)]
        both.append(envelope("landmark", source, estimator, {
            name: {"points": one.tolist(), "left_eye_center": one[0].tolist(), "right_eye_center": one[1].tolist()}
            for name, one in zip(names, moved, strict=True)}))
    return both[0], both[1]


def files(compared: Sequence[Compared], originals: Sequence[Seen], anonymized: Sequence[Seen | None]
          ) -> dict[str, bytes]:
    """A folder that ``hifd run-all`` takes: predictions, ``methods.yaml`` and ``estimators.yaml``, by name.

    Samples have numbers for names. Faces that were not compared are no samples there: HiFD knows no lost face, so its
    privacy score says nothing of them.
    """
    found: dict[str, str] = {}
    tasks: dict[str, list[str]] = {}

    def add(task: str, estimator: str, both: tuple[str, str]) -> None:
        name = f"{task}_{re.sub('[^A-Za-z0-9]+', '_', estimator)}.json"
        found[f"original/{name}"], found[f"anonymized/{name}"] = both
        tasks.setdefault(task, []).append(json.dumps({"name": estimator, "orig_json": name, "deid_json": name}))

    for one in compared:
        rows = np.flatnonzero(one.judged)
        a, b = one.originals[rows].astype(float), one.anonymized[rows].astype(float)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        add("face_embedding", one.embedder.info.name,
            embeddings([f"{row:06d}" for row in rows], (a * b).sum(axis=1) / np.maximum(lengths, 1e-12),
                       one.embedder.info.name))
    names, before, after = [], [], []
    for row, subject in enumerate(compared[0].cast.subjects):
        seen, result = originals[subject.picture], anonymized[subject.picture]
        if result is not None and subject.match >= 0:
            points = seen.points[subject.face], framed(seen.size, result.size).points(result.points[subject.match])
            if np.isfinite(points).all():
                names.append(f"{row:06d}")
                before.append(points[0])
                after.append(points[1])
    if names:
        add("landmark", "dlib five points", landmarks(names, np.array(before), np.array(after), "dlib five points"))
    lines = ["tasks:"]
    for task, estimators in tasks.items():
        lines += [f"  {task}:", "    estimators:", *(f"      - {one}" for one in estimators)]
    found["estimators.yaml"] = "\n".join(lines) + "\n"
    found["methods.yaml"] = ("original: {base_path: original}\nmethods:\n"
                             "  - {name: anonymized, base_path: anonymized}\n")
    return {f"hifd/{name}": text.encode() for name, text in found.items()}


def _eye_frame(points: np.ndarray) -> tuple[complex, complex]:
    left, right = (complex(*point) for point in points[:2])
    return left, right - left


def _moved(points: np.ndarray, frame: tuple[complex, complex]) -> np.ndarray:
    origin, unit = frame
    values = ((points[:, 0] + 1j * points[:, 1]) - origin) / unit
    return np.stack([values.real, values.imag], axis=1)


def categories(names: Sequence[str], task: str, classes: Sequence[str], before: np.ndarray, after: np.ndarray,
               estimator: str) -> tuple[str, str]:
    """The files of a task with classes, such as ``gender``.

    Args:
        names: n keys of samples.
        classes: c names.
        before, after: n x c probabilities.
    """
    first, second = (envelope(task, source, estimator,
                              {name: {"probs": list(map(float, row / row.sum()))}
                               for name, row in zip(names, np.asarray(values, float), strict=True)},
                              class_names=list(classes))
                     for source, values in (("original", before), ("deid", after)))
    return first, second
