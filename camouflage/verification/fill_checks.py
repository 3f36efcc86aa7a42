"""Whether a picture may serve as a fill: nobody may be in it, and it may show nothing of what it is to cover.

What the detectors cannot rule out is refused: it is looked at as it is, mirrored, with its contrast stretched (so that
nobody is hidden in a few levels) and as a negative; each in four orientations, by every detector that is asked. Then
it is laid over the pictures that are to be redacted, and over each head in them, in eight orientations and at many
scales, as outlines, so that colours and light do not matter (all of this is our choice).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..errors import CamouflageError
from .detection import Detector, FoundFace, find_faces
from .places import centre, longer_side, upright
from .views import nothing

ALIKE = 0.6
"""Correlation of outlines from which on a fill shows a part of a picture. Parts of the tests' photos, mirrored, turned,
scaled, brightened or as a negative, have 0.72 to 1; other photos, drawings and patterns at most 0.52."""
_SIDE, _LEAST, _STEP = 96, 24, 1.1  # px: longer side of the whole; least longer side of a part; factor between scales
_HEAD = 2.4  # side of what is looked at around a face, in its heights
_OFF = 25.0  # levels, root of the mean square: up to which colours are nearly the same
_EDGE, _TEXTURED = 0.5, 0.06  # strength of an edge; share of edges that it takes to tell a picture
_SMALL, _LEVELS = 32, 8.0  # px; grey levels: mean difference up to which two small pictures are one


def demand_nobody(picture: np.ndarray, detectors: Sequence[Detector], socket: str,
                  pause: Callable[[], None] = nothing) -> None:
    """Refuses a fill in which a detector sees a face, however unsure it is.

    Args:
        picture: h x w x 3, uint8, as it will be painted.
        detectors: that look.
        socket: name of the input, for the error text.
        pause: called about ten times a second; may raise to stop.

    Raises:
        CamouflageError: a face was found.
    """
    for how, look in _looks(picture):
        if found := find_faces(detectors, look, pause):
            left, top, right, bottom = found[0].bounds
            raise CamouflageError(f"'{socket}' shows a face, or something that looks like one, {how}"
                                  f"({right - left:.0f} x {bottom - top:.0f} px at {left:.0f}, {top:.0f}; found by "
                                  f"{', '.join(found[0].detectors)}). It would stand for everybody who is covered. "
                                  "Choose a picture without a face, or disconnect it and set 'fill_colour'.")


def demand_unlike(picture: np.ndarray, pixels: np.ndarray, faces: Sequence[FoundFace], index: int, socket: str,
                  pause: Callable[[], None] = nothing) -> None:
    """Refuses a fill that is, holds or is a part of a picture that it is to cover.

    Args:
        picture: the fill, h x w x 3, uint8.
        pixels: the picture, H x W x 3, uint8.
        faces: in it.
        index: of the picture in its batch, for the error text.
        socket, pause: as for :func:`demand_nobody`.

    Raises:
        CamouflageError: it does.
    """
    heads = (upright(pixels, *centre(face.box_ltrb), face.turn, _HEAD * longer_side(face.box_ltrb), _SIDE)
             for face in faces)
    for whole in (pixels, *heads):
        pause()
        if _same(picture, whole) or max(_fit(picture, whole), _fit(whole, picture)) >= ALIKE:
            raise CamouflageError(f"'{socket}' looks like a part of picture {index} (counted from 0) that it is to "
                                  "cover, so it would show what it hides. Choose a picture of something else, or "
                                  "disconnect it and set 'fill_colour'.")


def _looks(picture: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """How a fill is looked at, in words with a space behind them."""
    low, high = picture.min(axis=(0, 1)).astype(np.float32), picture.max(axis=(0, 1)).astype(np.float32)
    stretched = np.rint((picture - low) * (255 / np.maximum(high - low, 1))).clip(0, 255).astype(np.uint8)
    yield "", picture
    yield "mirrored ", np.ascontiguousarray(picture[:, ::-1])
    yield "with more contrast ", stretched
    yield "as a negative ", 255 - stretched


def _orientations(picture: np.ndarray) -> Iterator[np.ndarray]:
    for one in (picture, picture[:, ::-1]):
        for quarters in range(4):
            yield np.ascontiguousarray(np.rot90(one, quarters))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two pictures are one, stretched to the same square, in any of eight orientations."""
    import cv2

    a, b = (cv2.resize(np.ascontiguousarray(one), (_SMALL, _SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)
            for one in (a, b))
    return any(float(np.abs(one - b).mean()) <= _LEVELS for one in _orientations(a)) and float(b.std()) > _LEVELS


def _shows(part: np.ndarray, whole: np.ndarray, how: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """The best of what ``how`` says of a picture laid over another one, in eight orientations and at many scales."""
    there, side = _small(whole, _SIDE), _LEAST * max(part.shape[:2]) / min(part.shape[:2])
    best = 0.0
    while side <= _SIDE:
        for one in _orientations(_small(part, round(side))):
            if one.shape[0] <= there.shape[0] and one.shape[1] <= there.shape[1]:
                best = max(best, how(one, there))
        side *= _STEP
    return best


def _copied(part: np.ndarray, whole: np.ndarray) -> float:
    """The best correlation of colours at a place where they are nearly the same."""
    import cv2

    fits, size = _correlated(part, whole), part.size
    values, one = (cv2.GaussianBlur(each, (0, 0), 1.0) for each in (whole, part))
    off = np.sqrt(np.maximum(cv2.matchTemplate(values, one, cv2.TM_SQDIFF), 0) / size)
    return float(np.where(off <= _OFF, fits, 0.0).max())


def _recoloured(part: np.ndarray, whole: np.ndarray) -> float:
    """The best correlation of grey levels, be they brighter, paler or the other way round."""
    grey = (np.ascontiguousarray(each.mean(axis=2)) for each in (part, whole))
    return float(np.abs(_correlated(*grey)).max())


def _correlated(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Correlation at every place, 0 where one of both is flat: H - h + 1 x W - w + 1."""
    import cv2

    values, one = (cv2.GaussianBlur(each, (0, 0), 1.0) for each in (whole, part))
    fits = cv2.matchTemplate(values, one, cv2.TM_CCOEFF_NORMED)
    if float(one.std(axis=(0, 1)).max()) < _LEVELS:
        return np.zeros_like(fits)
    return np.nan_to_num(fits, posinf=0, neginf=0).clip(-1, 1) * _uneven(np.atleast_3d(values).mean(axis=2), one.shape)


def _small(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture with its longer side at ``side`` px: h x w x 3, float32."""
    import cv2

    factor = side / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    return cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _uneven(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where a window of this shape is not flat: H - h + 1 x W - w + 1, bool."""
    import cv2

    high, wide = shape[:2]
    mean, square = (cv2.boxFilter(one, cv2.CV_32F, (wide, high), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
                    for one in (values, values * values))
    spread = (square - mean * mean)[:values.shape[0] - high + 1, :values.shape[1] - wide + 1]
    return spread > 0.04 * float(values.var())
