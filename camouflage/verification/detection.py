"""Finding faces: the interface of a detector, dlib's own, and several looking as one.

Whoever is missed in the original is never checked, so the detectors lean to recall: a picture is looked at in
several sizes and orientations (:mod:`.views`), everything above a low score counts, and what any detector finds counts
for all. That a face *is* there is claimed more strictly: only from the detector's ``confident`` score on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..method.faces import Box
from ..packages import require
from .model_info import ModelInfo
from .places import bounds, box_around, overlap, same_face
from .views import in_parallel, nothing, resized

NEARLY_UPRIGHT = 25.0
"""Degrees up to which a head counts as upright: the networks see it as it is."""
TURNED = 0.1
"""What a detection weighs less in a turned picture, where things look like faces more often."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What one detector found.

    Attributes:
        box_ltrb: brow to chin, ear to ear, in pixels; may leave the picture where the face does. Of a turned head the
            upright box about the same centre, see :mod:`.places`.
        score: of the detector, on its own scale; higher is more confident.
        turn: degrees by which the head is turned counter-clockwise, -180 to 180.
    """

    box_ltrb: Box
    score: float
    turn: float = 0.0


class Detector(Protocol):
    """Finds faces in a picture.

    Attributes:
        info: what it is, for reports.
        confident: score from which a detection is claimed to be a face.
    """

    @property
    def info(self) -> ModelInfo: ...

    @property
    def confident(self) -> float: ...

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """All faces of H x W x 3 uint8 pixels, those of a low score included."""
        ...


@runtime_checkable
class Stepwise(Protocol):
    """A detector whose work can be cut into short steps, which may run at the same time."""

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        """The steps of ``detect``, each of a second or less."""
        ...

    def joined(self, pixels: np.ndarray, found: Sequence[list[Detection]],
               pause: Callable[[], None] = nothing) -> list[Detection]:
        """The result of ``detect`` from what the steps found, in their order; ``pause`` may raise to stop."""
        ...


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face that one or more detectors found.

    Attributes:
        box_ltrb: of the first of them, in pixels; upright about the face's centre, see :mod:`.places`.
        detectors: names of all that found it.
        confident: names of those that are confident that it is one.
        turn: degrees by which the head is turned counter-clockwise, -180 to 180.
    """

    box_ltrb: Box
    detectors: tuple[str, ...]
    confident: tuple[str, ...]
    turn: float = 0.0

    @property
    def bounds(self) -> Box:
        """The upright box that holds the face as it is in the picture."""
        return bounds(self.box_ltrb, self.turn)


def find_faces(detectors: Sequence[Detector], pixels: np.ndarray,
               pause: Callable[[], None] = nothing) -> tuple[FoundFace, ...]:
    """What the detectors find together, each face once; from left to right, then from top to bottom.

    Args:
        detectors: asked in this order; the first that finds a face gives its box.
        pixels: H x W x 3, uint8.
        pause: called about ten times a second; may raise to stop.
    """
    height, width = pixels.shape[:2]
    pixels = np.ascontiguousarray(pixels)  # dlib is silently wrong on other strides
    found: list[dict[str, Any]] = []
    for detector, detections in zip(detectors, _detections(detectors, pixels, pause), strict=True):
        name = detector.info.name
        for detection in sorted(detections, key=lambda detection: -detection.score):
            left, top, right, bottom = detection.box_ltrb
            if not (left < right and top < bottom):
                continue
            x0, y0, x1, y1 = bounds(detection.box_ltrb, detection.turn)
            if not (x0 < width and y0 < height and x1 > 0 and y1 > 0):
                continue
            face = max(found, key=lambda face: overlap(face["box"], detection.box_ltrb), default=None)
            if face is None or not same_face(face["box"], detection.box_ltrb):
                face = {"box": detection.box_ltrb, "turn": detection.turn, "by": [], "confident": []}
                found.append(face)
            if name not in face["by"]:
                face["by"].append(name)
            if detection.score >= detector.confident and name not in face["confident"]:
                face["confident"].append(name)
    found.sort(key=lambda face: (face["box"][0] + face["box"][2], face["box"][1] + face["box"][3], face["box"]))
    return tuple(FoundFace(face["box"], tuple(face["by"]), tuple(face["confident"]), face["turn"]) for face in found)


def _detections(detectors: Sequence[Detector], pixels: np.ndarray,
                pause: Callable[[], None]) -> list[list[Detection]]:
    """What each detector finds; the steps of all that have steps run together."""
    stepwise = [detector for detector in detectors if isinstance(detector, Stepwise)]
    cut = [detector.steps(pixels) for detector in stepwise]
    done = iter(in_parallel([step for steps in cut for step in steps], pause))
    joined = {id(detector): detector.joined(pixels, [next(done) for _ in steps], pause)
              for detector, steps in zip(stepwise, cut, strict=True)}
    results = []
    for detector in detectors:
        pause()
        results.append(joined[id(detector)] if id(detector) in joined else detector.detect(pixels))
    return results


class DlibHog:
    """dlib's frontal face detector (Boost licence); its weights are a part of the library.

    Finds upright faces from about 40 px on in a picture of 1280 px or less, and next to nothing that is none.
    """

    confident = 0.2

    def __init__(self) -> None:
        dlib = require("dlib", "dlib-bin", "The face detector of dlib")
        self._detector = dlib.get_frontal_face_detector()
        self.info = ModelInfo("dlib HOG", str(dlib.__version__), "Boost", ())

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`Detector`; scores are distances from the decision plane, from 0.2 on (our choice)."""
        factor = 1.0
        if max(pixels.shape[:2]) > 1280:
            pixels, factor = resized(pixels, 1280)
        squares, scores, _ = self._detector.run(pixels, 1, self.confident)
        return [Detection(_face_box(square, factor), score) for square, score in zip(squares, scores, strict=True)]

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        """See :class:`Stepwise`; a single one."""
        return [lambda: self.detect(pixels)]

    def joined(self, pixels: np.ndarray, found: Sequence[list[Detection]],
               pause: Callable[[], None] = nothing) -> list[Detection]:
        """See :class:`Stepwise`."""
        return found[0]


def _face_box(square: Any, factor: float) -> Box:
    """The box whose :func:`dlib_square` is ``square``, for a face three quarters as wide as high."""
    height = (square.right() + 1 - square.left()) / 0.92 / factor
    x = (square.left() + square.right() + 1) / 2 / factor
    y = (square.top() + square.bottom() + 1) / 2 / factor - 0.06 * height
    return box_around(x, y, 0.75 * height, height)
