"""Whether a picture may serve as a fill: nobody may be in it, and it may show nothing of what it is to cover.

What the detectors cannot rule out is refused: it is looked at as it is, mirrored, with its contrast stretched (so that
nobody is hidden in a few levels) and as a negative; each in four orientations, by every detector that is asked. Then
it is laid over the pictures that are to be redacted, and over each head in them, in eight orientations and at many
scales (all of this is our choice).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..errors import CamouflageError
from .detection import Detector, FoundFace, find_faces
from .places import centre, longer_side, upright
from .views import nothing

ALIKE = 0.75
"""Correlation of colours from which on a fill shows a part of a picture. Parts of scikit-image's photos, mirrored,
turned and scaled, have 0.84 to 1; of 370 pairs of other photos, drawings and heads one has 0.88 (a dark suit and a dark
text), the others 0.47 at most."""
_SIDE, _LEAST, _STEP = 96, 24, 1.1  # px: longer side of the whole, least shorter side of a part; between two scales
_OFF = 25.0  # levels, root of the mean square: up to which colours are nearly the same
_LEVELS, _SMALL = 8.0, 32  # levels: spread of what is not flat, mean difference of what is the same; px
_HEAD = 2.4  # side of what is looked at around a face, in its heights


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
        if _same(picture, whole) or max(_copied(picture, whole), _copied(whole, picture)) >= ALIKE:
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


def _copied(part: np.ndarray, whole: np.ndarray) -> float:
    """How well a picture fits any place of another one, 0..1, in eight orientations and at many scales: the best
    correlation of their colours where these are nearly the same."""
    import cv2

    there, side = _small(whole, _SIDE), _LEAST * max(part.shape[:2]) / min(part.shape[:2])
    best = 0.0
    while side <= _SIDE:
        for one in _orientations(_small(part, round(side))):
            if one.shape[0] > there.shape[0] or one.shape[1] > there.shape[1] or one.std(axis=(0, 1)).max() < _LEVELS:
                continue
            off = cv2.matchTemplate(there, one, cv2.TM_SQDIFF) / one.size
            if (near := off <= _OFF ** 2).any():
                fits = cv2.matchTemplate(there, one, cv2.TM_CCOEFF_NORMED)
                best = max(best, float(np.nan_to_num(fits, posinf=0, neginf=0)[near].max()))
        side *= _STEP
    return best


def _small(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture with its longer side at ``side`` px, softened: h x w x 3, float32."""
    import cv2

    factor = side / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0)
