"""A head of two dots, and a network that sees it as face detectors see heads: only when it is about upright."""

from __future__ import annotations

import math

import cv2
import numpy as np

Seen = tuple[tuple[float, float, float, float], tuple[tuple[float, float], ...], float]  # box, five points, score
MOST_ROLL = 60  # degrees up to which the network knows a head


def picture(height: int, width: int, centre: tuple[float, float], distance: float, turn: float) -> np.ndarray:
    """Grey, with a red and a green eye (the viewer's left and right one) this far from each other.

    Args:
        height, width: px.
        centre: of the head (x, y), px; the centre of the first pixel is 0.5, 0.5.
        distance: px.
        turn: of the head, degrees counter-clockwise.
    """
    pixels = np.full((height, width, 3), 90, np.uint8)
    across, down = distance / 2 * math.cos(math.radians(turn)), -distance / 2 * math.sin(math.radians(turn))
    for side, colour in ((-1, (255, 0, 0)), (1, (0, 255, 0))):
        place = (round(256 * (centre[0] + side * across - 0.5)), round(256 * (centre[1] + side * down - 0.5)))
        cv2.circle(pixels, place, round(256 * 0.3 * distance), colour, -1, cv2.LINE_AA, shift=8)
    return pixels


def see(pixels: np.ndarray, score: float = 0.9) -> list[Seen]:
    """The head, if both eyes are there and it is turned by 60 degrees or less; twice as wide as its eyes are apart."""
    red, green = pixels[..., 0].astype(int), pixels[..., 1].astype(int)
    places = [np.nonzero(eye > 60) for eye in (red - green, green - red)]
    if not all(len(rows) for rows, _ in places):
        return []
    (x0, y0), (x1, y1) = ((columns.mean() + 0.5, rows.mean() + 0.5) for rows, columns in places)
    if abs(math.degrees(math.atan2(y1 - y0, x1 - x0))) > MOST_ROLL:
        return []
    x, y, size = (x0 + x1) / 2, (y0 + y1) / 2, math.hypot(x1 - x0, y1 - y0)
    box = (x - size, y - 1.25 * size, x + size, y + 1.25 * size)
    return [(box, ((x0, y0), (x1, y1), (x, y), (x, y), (x, y)), score)]
