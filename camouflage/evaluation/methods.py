"""Ways to change faces that need no weights: the baselines beside which a method is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..verification.detection import FoundFace
from ..verification.redaction import Region, head, redact

Method = Callable[[np.ndarray, Sequence[FoundFace]], np.ndarray]
"""H x W x 3 uint8 pixels and the faces in them -> pixels of the same shape."""
CELLS = 16
"""Of the mosaic that many tools make, across a face."""
WEAK = 0.04
"""Sigma of the weak blur, in heights of the face."""


def _ours(mode: str) -> Method:
    def method(pixels: np.ndarray, faces: Sequence[FoundFace]) -> np.ndarray:
        where = regions(faces, mode)
        return redact(pixels, where) if where else pixels
    return method


def regions(faces: Sequence[FoundFace], mode: str) -> list[Region]:
    """What our own redactions replace."""
    return [Region(face.box_ltrb, mode, turn=face.turn) for face in faces]


def _inside(change: Callable[[np.ndarray, float], np.ndarray]) -> Method:
    """Changes the square around every head, given with the face's height."""
    def method(pixels: np.ndarray, faces: Sequence[FoundFace]) -> np.ndarray:
        result = pixels.copy()
        for face in faces:
            upright = replace(face, box_ltrb=face.bounds, turn=0.0)
            x, y, across, down = head(upright.box_ltrb)
            rows = slice(max(0, round(y - down)), max(0, round(y + down)))
            columns = slice(max(0, round(x - across)), max(0, round(x + across)))
            if result[rows, columns].size:
                height = upright.box_ltrb[3] - upright.box_ltrb[1]
                result[rows, columns] = change(np.ascontiguousarray(pixels[rows, columns]), height)
        return result
    return method


def _mosaic(part: np.ndarray, height: float) -> np.ndarray:
    import cv2

    cell = max(1.0, height / CELLS)
    size = tuple(max(1, round(length / cell)) for length in (part.shape[1], part.shape[0]))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_NEAREST)


def _blurred(part: np.ndarray, height: float) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(part, (0, 0), max(0.3, WEAK * height))


BASELINES: dict[str, Method] = {
    "original": lambda pixels, faces: pixels,
    "weak blur": _inside(_blurred),
    "mosaic, 16 cells": _inside(_mosaic),
    "mosaic": _ours("mosaic"),
    "blur": _ours("blur"),
    "solid": _ours("solid"),
}
"""By name: nothing, what many tools do, and our own three redactions."""
OCCLUDER = 128
"""Grey level of what is put before a face."""


def occluded(pixels: np.ndarray, faces: Sequence[FoundFace], share: float) -> np.ndarray:
    """A grey bar before each face, from the chin upwards.

    Args:
        pixels: H x W x 3, uint8.
        faces: in them.
        share: of the face's height that is covered, 0..1.
    """
    result = pixels.copy()
    for face in faces:
        left, top, right, bottom = (round(value) for value in face.bounds)
        edge = round(bottom - share * (bottom - top))
        result[max(0, edge):max(0, bottom), max(0, left):max(0, right)] = OCCLUDER
    return result
