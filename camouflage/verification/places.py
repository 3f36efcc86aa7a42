"""Where a head is: boxes, turned or not, how much two of them share, and the picture of a head turned upright.

A place is a box and a turn. The box is the one that the face would have if it stood upright, about the same centre;
the turn says by how many degrees the head is turned counter-clockwise from there, -180 to 180. So a place whose turn
is 0 is a plain box.
"""

from __future__ import annotations

import math

import numpy as np

from ..method.faces import Box

Place = tuple[Box, float]
"""A box and its turn."""
_SAME_FACE = 0.3  # least overlap (intersection over union) of two boxes of one face


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


def centre(box_ltrb: Box) -> tuple[float, float]:
    """Centre of a box (x, y)."""
    return (box_ltrb[0] + box_ltrb[2]) / 2, (box_ltrb[1] + box_ltrb[3]) / 2


def longer_side(box_ltrb: Box) -> float:
    """The longer side of a box, px."""
    return max(box_ltrb[2] - box_ltrb[0], box_ltrb[3] - box_ltrb[1])


def box_around(x: float, y: float, width: float, height: float) -> Box:
    """The box of this size about a centre."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def bounds(box_ltrb: Box, turn: float) -> Box:
    """The smallest upright box that holds a turned one; the box itself where the turn is 0."""
    if not turn:
        return box_ltrb
    (x, y), (left, top, right, bottom) = centre(box_ltrb), box_ltrb
    cosine, sine = abs(math.cos(math.radians(turn))), abs(math.sin(math.radians(turn)))
    width, height = right - left, bottom - top
    return box_around(x, y, width * cosine + height * sine, width * sine + height * cosine)


def half_turn(degrees: float) -> float:
    """The same angle between -180 (left out) and 180."""
    return 180.0 - (180.0 - degrees) % 360.0


def scaled(box_ltrb: Box, across: float, down: float) -> Box:
    """The box in a picture that is ``across`` times as wide and ``down`` times as high."""
    left, top, right, bottom = box_ltrb
    return left * across, top * down, right * across, bottom * down


def upright(pixels: np.ndarray, x: float, y: float, turn: float, side: float, size: int,
            mirror: bool = False) -> np.ndarray:
    """The square around a point, turned so that what is turned there stands upright.

    Args:
        pixels: H x W x C or H x W, uint8 or float32.
        x, y: centre, px.
        turn: degrees counter-clockwise.
        side: of the square in the picture, px.
        size: of the result, px.
        mirror: left and right of the result changed.

    Returns:
        size x size (x C), antialiased where it is smaller than the picture's part; the border's pixels go on outside.
    """
    import cv2

    factor = size / side
    reach = math.ceil(side * 0.75) + 2  # half the diagonal
    height, width = pixels.shape[:2]
    # At least one pixel of the picture, whose border goes on outside.
    left, top = (max(0, min(math.floor(value) - reach, length - 1)) for value, length in ((x, width), (y, height)))
    right, bottom = max(left + 1, math.ceil(x) + reach), max(top + 1, math.ceil(y) + reach)
    part = pixels[top:bottom, left:right]
    across = down = 1.0
    if factor < 0.5:  # in two steps, for warping alone would alias
        before = part.shape
        shrunk = [max(1, round(length * 2 * factor)) for length in before[:2]]
        part = cv2.resize(part, (shrunk[1], shrunk[0]), interpolation=cv2.INTER_AREA)
        across, down = part.shape[1] / before[1], part.shape[0] / before[0]
    angle = math.radians(turn)
    cosine, sine = math.cos(angle) / factor, math.sin(angle) / factor
    flip = -1.0 if mirror else 1.0
    # From the result to the part: about the centre, turned and scaled.
    matrix = np.array([[flip * cosine * across, sine * across, 0.0], [-flip * sine * down, cosine * down, 0.0]])
    middle = (size - 1) / 2
    matrix[:, 2] = [(x - left) * across - 0.5, (y - top) * down - 0.5] - matrix[:, :2] @ [middle, middle]
    return cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)
