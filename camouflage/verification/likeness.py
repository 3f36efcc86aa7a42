"""A second test beside the recogniser, without a network: does a place still look like the original (our choice)?

A recogniser knows faces; a face behind a filter is none to it, and any person to a human. So the place of every face is
also compared as a picture. The original's face is laid over the result, a little moved, turned, scaled and mirrored,
and compared in five ways, each of which some filters do not touch:

* as grey levels, so that a negative is the same, too;
* as details: grey levels without what is coarse, so that light and contrast do not count;
* as outlines: the strength of the gradient, so that it does not matter what is brighter;
* as a drawing: the original's outlines against the result's grey levels;
* as a colouring: how much of the original's grey the result's colours tell, so that any colour map is seen through.

Each way has a limit that faces of strangers, laid over each other as well as they can be, do not reach on the photos of
the tests (one of 162 pairs does); the likeness is the largest share of such a limit, and from 1 on it is the original.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..method.faces import Box
from .places import box_around, centre, longer_side, upright

FINE = 64
"""px of a face's height at which its sharpness is measured."""
_SIDE = 32  # px of a face's height as it is compared
_COLOURED, _LEAST_COLOUR = 8.0, 0.3  # chroma; share
_DARKER, _LIGHTER, _NEAR_BLACK = 1.8, 2.0, 1.0  # factors on a face's lightness; grey levels
_AROUND = 2.4  # side of what is kept of an original, in heights of the face
LIMITS = {"grey": 0.78, "details": 0.75, "outlines": 0.68, "drawing": 0.72, "colouring": 0.60}
"""From which value on each way says "the original"."""


@dataclass(frozen=True, slots=True)
class Search:
    """How a face is laid over the result.

    Attributes:
        reach: how far its centre may move, in heights of the face.
        turns: degrees.
        scales: factors on its size.
    """

    reach: float
    turns: tuple[float, ...]
    scales: tuple[float, ...]


NEARBY = Search(0.25, (-10.0, 0.0, 10.0), (0.88, 1.0, 1.14))
AROUND = Search(1.0, (-40.0, -30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 40.0), (0.7, 0.84, 1.0, 1.2, 1.43))


@dataclass(frozen=True, slots=True)
class Found:
    """Where a face was found again.

    Attributes:
        likeness: from 0; 1 and more is the original.
        box_ltrb, turn: the place in the result, see :mod:`.places`.
        faded: whether the place has lost the original's colours, or is far darker or brighter, see :func:`faded`.
    """

    likeness: float
    box_ltrb: Box
    turn: float
    faded: bool = False


def template(pixels: np.ndarray, box_ltrb: Box, turn: float) -> np.ndarray:
    """What is kept of an original face for :func:`compare`: upright, with some room; 77 x 77 x 3, uint8."""
    x, y = centre(box_ltrb)
    return upright(pixels, x, y, turn, _AROUND * longer_side(box_ltrb), round(_AROUND * _SIDE))


def compare(kept: np.ndarray, pixels: np.ndarray, box_ltrb: Box, turn: float, search: Search = NEARBY) -> Found:
    """How much a place of a result looks like an original face, and where exactly.

    Args:
        kept: of :func:`template`.
        pixels: the result, H x W x 3, uint8.
        box_ltrb, turn: the place.
        search: how far to look.
    """
    import cv2

    (x, y), height = centre(box_ltrb), longer_side(box_ltrb)
    side = 1 + 2 * search.reach
    size = round(side * _SIDE)
    window = upright(pixels, x, y, turn, side * height, size)
    seen = _ways(_grey(window).astype(np.float32), drawn=True)
    colours = window.astype(np.float32)
    paled = faded(_inner(kept), _inner(window))
    kept = _grey(kept)
    best, where = 0.0, (0.0, 0.0, 0.0, 1.0)
    for angle, scale, mirror in itertools.product(search.turns, search.scales, (False, True)):
        face = upright(kept, kept.shape[1] / 2, kept.shape[0] / 2, -angle, 1.5 * _SIDE / scale, round(1.5 * _SIDE),
                       mirror)
        known = _ways(face.astype(np.float32), drawn=False)
        for way, values in known.items():
            part = _inner(values)
            if part.std() < 1e-3:
                continue
            fits = np.nan_to_num(cv2.matchTemplate(seen[way], part, cv2.TM_CCOEFF_NORMED), posinf=0, neginf=0)
            fits[~_textured(seen[way], part.shape)] = 0  # a flat place correlates with anything
            values_there = fits if way == "outlines" else np.abs(fits)
            at = int(values_there.argmax())
            share = min(float(values_there.flat[at]), 1.0) / LIMITS[way]
            if share > best:
                row, column = divmod(at, values_there.shape[1])
                best = share
                where = (column + part.shape[1] / 2 - size / 2, row + part.shape[0] / 2 - size / 2, angle, scale)
    part = _inner(_ways(upright(kept, kept.shape[1] / 2, kept.shape[0] / 2, 0.0, 1.5 * _SIDE,
                                round(1.5 * _SIDE)).astype(np.float32), drawn=False)["grey"])
    if (told := _colouring(part, colours) / LIMITS["colouring"]) > best:
        best, where = told, (0.0, 0.0, 0.0, 1.0)  # colours are compared at the place itself
    return _found(float(best), where, box_ltrb, turn, paled)


def faded(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a face has less than 0.3 of its colours left, or is more than 1.8 times as dark or twice as light.

    Colours are the mean chroma (CIE Lab) of a face that has some; the lightness is the median grey level. On the photos
    of the tests strangers laid over each other keep 0.51 of the colours at least, and differ by 1.76 in lightness at
    most; OpenCV's pencil sketch darkens faces by 1.7 to 3.9 (all numbers are our choice).

    Args:
        before, after: h x w x 3, uint8, of the original's face and of its place in the result.
    """
    (light, colour), (light_now, colour_now) = _tone(before), _tone(after)
    return (colour >= _COLOURED and colour_now < _LEAST_COLOUR * colour) or not (
        light / _DARKER - _NEAR_BLACK <= light_now <= light * _LIGHTER + _NEAR_BLACK)


def _tone(pixels: np.ndarray) -> tuple[float, float]:
    """Median grey level, 0..255, and mean chroma."""
    import cv2

    lab = cv2.cvtColor(np.ascontiguousarray(pixels).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return float(np.median(_grey(pixels))), float(np.hypot(lab[..., 1], lab[..., 2]).mean())


def sharpness(pixels: np.ndarray, box_ltrb: Box, turn: float) -> float:
    """Share of a face's contrast that is fine detail, from 0 (smooth); about 0.1 and more for a sharp photo.

    Args:
        pixels: H x W x 3, uint8.
        box_ltrb, turn: the place.
    """
    import cv2

    x, y = centre(box_ltrb)
    face = _grey(upright(pixels, x, y, turn, longer_side(box_ltrb), FINE)).astype(np.float32)
    return float((face - cv2.GaussianBlur(face, (0, 0), 2.0)).std() / max(float(face.std()), 1.0))


def _found(likeness: float, where: tuple[float, float, float, float], box_ltrb: Box, turn: float,
           paled: bool) -> Found:
    """The place that was found, from its offset (px of the compared size, along the face's axes), turn and scale."""
    across, down, angle, scale = where
    (x, y), unit = centre(box_ltrb), longer_side(box_ltrb) / _SIDE
    radians = np.radians(turn)
    x += unit * (across * np.cos(radians) + down * np.sin(radians))
    y += unit * (down * np.cos(radians) - across * np.sin(radians))
    width, height = (box_ltrb[2] - box_ltrb[0]) * scale, (box_ltrb[3] - box_ltrb[1]) * scale
    return Found(likeness, box_around(float(x), float(y), width, height), turn + angle, paled)


def _grey(pixels: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


def _inner(values: np.ndarray) -> np.ndarray:
    """The face in the middle of a square of 1.5 heights: less hair and background than its box."""
    middle = values.shape[0] // 2
    half_y, half_x = round(0.42 * _SIDE), round(0.34 * _SIDE)
    return np.ascontiguousarray(values[middle - half_y:middle + half_y, middle - half_x:middle + half_x])


def _ways(grey: np.ndarray, drawn: bool) -> dict[str, np.ndarray]:
    """The ways in which a face is compared, but for the colouring; ``drawn`` for the result, which may be a drawing."""
    import cv2

    soft = cv2.GaussianBlur(grey, (0, 0), 1.0)
    strength = cv2.magnitude(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
    return {"grey": grey, "details": soft - cv2.GaussianBlur(grey, (0, 0), 4.0), "outlines": strength,
            "drawing": cv2.GaussianBlur(grey if drawn else strength, (0, 0), 1.0 if drawn else 0.7)}


def _textured(values: np.ndarray, shape: tuple[int, ...]) -> Any:
    """Where a window of this shape is not flat: H - h + 1 x W - w + 1, bool."""
    import cv2

    high, wide = shape
    mean = cv2.boxFilter(values, cv2.CV_32F, (wide, high), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    square = cv2.sqrBoxFilter(values, cv2.CV_32F, (wide, high), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    spread = np.sqrt(np.maximum(square - mean * mean, 0))[:values.shape[0] - high + 1, :values.shape[1] - wide + 1]
    return spread > max(1.0, 0.15 * float(values.std()))


def _colouring(grey: np.ndarray, colours: np.ndarray) -> float:
    """The correlation ratio: the share of the grey's spread that the colours tell, 0..1, less what chance tells.

    The colours are those at the same place or one step (3 px) beside it, in 4 levels a channel.
    """
    high, wide = grey.shape
    top, left = (colours.shape[0] - high) // 2, (colours.shape[1] - wide) // 2
    best = 0.0
    for down, across in itertools.product((-3, 0, 3), repeat=2):
        part = colours[top + down:top + down + high, left + across:left + across + wide]
        if part.shape[:2] != grey.shape:
            continue
        ranks = np.stack([_quarters(part[..., channel]) for channel in range(3)])
        cells = (ranks * np.array([16, 4, 1])[:, None, None]).sum(axis=0).ravel()
        counts = np.bincount(cells, minlength=64)
        used = counts > 0
        means = np.bincount(cells, grey.ravel(), 64)[used] / counts[used]
        told = float((counts[used] * (means - grey.mean()) ** 2).sum() / max(float(grey.var()) * grey.size, 1e-6))
        chance = (used.sum() - 1) / grey.size
        best = max(best, (told - chance) / (1 - chance))
    return best


def _quarters(values: np.ndarray) -> np.ndarray:
    """Four levels with about as many pixels each."""
    return np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values, side="right").reshape(values.shape)
