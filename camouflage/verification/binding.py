"""What binds a result to its original: one shape, and a view that was not moved (our choice).

A result is compared with its original place by place. Where the whole picture was turned, mirrored, shifted or scaled
in between, the places are wrong, and a head can stand where nobody looks: that is found here, from small outlines of
both pictures, whatever was done to colours, sharpness and light.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ASPECT = 0.01
"""By how much the aspect of a result may differ from its original's, as a part of it; 1 px is always allowed."""
_SIDE, _LARGEST = 64, 128  # px of the longer side as pictures are compared, and of one that was turned and scaled
_TURNS, _SCALES = range(0, 360, 15), (0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0)
_LEAST = 0.3  # share of the smaller picture that must lie in the other one
_MOVED, _LOST, _CLEARER = 0.6, 0.45, 0.1
"""Fit from which on a moved picture is believed; the same where a face is lost, so that it may be anywhere; and by how
much the fit must beat that of the unmoved picture. Photos of other scenes come to 0.55 at most."""
_EDGE, _TEXTURED = 0.5, 0.1  # strength of an edge; share of a picture that must be edges, so that it can be told
_EVEN, _SMALLER = 0.05, 0.85  # strength of an edge that a frame has not; part of the view that is left in a frame
_STEP = 3  # px of shift, degrees of turn or parts of scale that do not count as moved


def same_shape(original: tuple[int, int], result: tuple[int, int]) -> bool:
    """Whether a result has its original's aspect: within one part in 100, or 1 px. Sizes (height, width) may differ."""
    (h, w), (height, width) = original, result
    wanted = width * h / w, height * w / h  # the height for this width, the width for this height
    return (abs(height - wanted[0]) <= max(1.0, ASPECT * wanted[0])
            or abs(width - wanted[1]) <= max(1.0, ASPECT * wanted[1]))


def outline(pixels: np.ndarray) -> np.ndarray:
    """Where a picture (H x W x 3, uint8) has edges, evenly strong: h x w, float32, longer side 64 px."""
    import cv2

    height, width = pixels.shape[:2]
    factor = _SIDE / max(height, width)
    size = max(8, round(width * factor)), max(8, round(height * factor))
    grey = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    around = cv2.GaussianBlur(strength, (0, 0), 4.0)
    return cv2.GaussianBlur(strength / (around + 0.02 * float(strength.max()) + 1e-6), (0, 0), 0.7)


@dataclass(frozen=True, slots=True)
class Moved:
    """How a result shows its original.

    Attributes:
        turn: degrees counter-clockwise.
        scale: factor.
        mirrored: left and right changed, before the turn.
        right, down: shift, as a part of the longer side.
        fit: 0..1; 1 is the same picture.
    """

    turn: int
    scale: float
    mirrored: bool
    right: float
    down: float
    fit: float

    def __str__(self) -> str:
        what = [*(["mirrored"] if self.mirrored else []), *([f"turned by {self.turn} degrees"] if self.turn else []),
                *([f"scaled by {self.scale:g}"] if self.scale != 1 else [])]
        return " and ".join(what) or "shifted"


def moved(original: np.ndarray, result: np.ndarray, lost: bool = False) -> Moved | None:
    """Whether a result is its original moved as a whole, from the :func:`outline` of both; None where it is not.

    Args:
        original, result: h x w, float32.
        lost: whether a face of the original is not found any more; then less is enough.
    """
    if min(float((picture > _EDGE).mean()) for picture in (original, result)) < _TEXTURED:
        return None
    pictures = (False, original), (True, np.ascontiguousarray(original[:, ::-1]))
    fixed = functools.cache(lambda field: _spectra(result, np.ones_like(result), field))
    still, best = 0.0, None
    for turn, scale in itertools.product(_TURNS, _SCALES):
        warped, there, offset = _way(original.shape, turn, scale)
        field = _field(result.shape, there.shape)
        fits = _fits(fixed(field), there, min(result.size, float(there.sum())), field)
        for mirrored, picture in pictures:
            fit = fits(warped(picture))
            at = int(fit.argmax())
            down, right = map(_signed, divmod(at, field[1]), field, result.shape)
            value = float(fit.flat[at])
            shift = right + offset[0], down + offset[1]
            if not mirrored and turn == 0 and scale == 1:
                near = range(-_STEP, _STEP + 1)
                still = float(fit[np.ix_(near, near)].max())
                if max(map(abs, shift)) <= _STEP:
                    continue
            if best is None or value > best.fit:
                best = Moved(turn, scale, mirrored, shift[0] / _SIDE, shift[1] / _SIDE, value)
    framed = _framed(original, result) if lost else None
    if framed is not None:
        return framed
    wrapped = _wrapped(original, result)
    if wrapped is not None and wrapped.fit >= still + _CLEARER:
        return wrapped
    return best if best is not None and best.fit >= max(_LOST if lost else _MOVED, still + _CLEARER) else None


def _framed(original: np.ndarray, result: np.ndarray) -> Moved | None:
    """Whether the result has an even frame that the original has not: then its view is smaller."""
    (top, bottom, left, right), now = _content(original), _content(result)
    high, wide = (now[1] - now[0]) / max(bottom - top, 1), (now[3] - now[2]) / max(right - left, 1)
    if not 0 < max(high, wide) <= _SMALLER:
        return None
    return Moved(0, round(max(high, wide), 2), False, 0.0, 0.0, 1.0)


def _content(picture: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row and column (the last ones left out) with an edge in them."""
    rows, columns = (np.flatnonzero(picture.max(axis=axis) > _EVEN) for axis in (1, 0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _wrapped(original: np.ndarray, result: np.ndarray) -> Moved | None:
    """Whether the picture was shifted and what left it at one border came back at the other one."""
    if original.shape != result.shape:
        return None
    a, b = (picture - picture.mean() for picture in (original, result))
    fit = _correlated(_spectrum(b, a.shape), _spectrum(a, a.shape), a.shape)
    fit = fit / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6)
    down, right = (int(index) for index in np.unravel_index(int(fit.argmax()), fit.shape))
    down, right = (_signed(index, length, length // 2 + 1)
                   for index, length in zip((down, right), fit.shape, strict=True))
    if float(fit.max()) < _MOVED or max(abs(down), abs(right)) <= _STEP:
        return None
    return Moved(0, 1.0, False, right / _SIDE, down / _SIDE, float(fit.max()))


def _field(*sizes: tuple[int, ...]) -> tuple[int, int]:
    """Height and width in which pictures of these sizes can be shifted past each other, in steps that FFTs like."""
    high, wide = (-(-sum(sides) // 16) * 16 for sides in zip(*sizes, strict=True))
    return high, wide


def _signed(index: int, length: int, most: int) -> int:
    """A shift, 0 to ``most`` - 1 or negative, from its index in a field of this length, where negative ones come last.
    """
    return index if index < most else index - length


def _way(shape: tuple[int, ...], turn: int, scale: float) -> tuple[
        Callable[[np.ndarray], np.ndarray], np.ndarray, tuple[float, float]]:
    """What moves a picture of this shape, where it is then, and what of it was cut off at left and top."""
    import cv2

    height, width = shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, scale)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = min(_LARGEST, int(np.ceil(width * cosine + height * sine))), min(
        _LARGEST, int(np.ceil(height * cosine + width * sine)))
    shift = (size[0] - width) / 2, (size[1] - height) / 2
    matrix[:, 2] += shift
    there = cv2.warpAffine(np.ones(shape, np.float32), matrix, size) > 0.99
    return lambda picture: cv2.warpAffine(picture, matrix, size), there.astype(np.float32), shift


def _spectrum(part: np.ndarray, field: tuple[int, ...]) -> np.ndarray:
    from scipy import fft

    return np.asarray(fft.rfft2(part.astype(np.float32), field))


def _correlated(a: np.ndarray, b: np.ndarray, field: tuple[int, ...]) -> np.ndarray:
    """Correlation at every shift of two parts, from their spectra."""
    from scipy import fft

    return np.asarray(fft.irfft2(a * np.conj(b), field))


def _spectra(picture: np.ndarray, there: np.ndarray, field: tuple[int, int]) -> list[np.ndarray]:
    """Fourier transforms of the picture without its mean, of its squares, and of where it is."""
    values = _valued(picture, there)
    return [_spectrum(part, field) for part in (values, values * values, there)]


def _valued(picture: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The picture without its mean, 0 where it is not."""
    return (picture - float((picture * there).sum() / max(there.sum(), 1))) * there


def _fits(fixed: list[np.ndarray], there: np.ndarray, area: float,
          field: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
    """What gives the fit of a picture at every shift, all of them being in the same place.

    The fit is the correlation where the pictures overlap, times the root of the share that does.
    """
    values, squares, place = fixed
    moving = _spectrum(there, field)
    count, energy = _correlated(place, moving, field), _correlated(squares, moving, field)
    share = np.where(count >= _LEAST * area, np.sqrt(np.clip(count / area, 0, 1)), 0.0)

    def fits(picture: np.ndarray) -> np.ndarray:
        seen = _valued(picture, there)
        product = _correlated(values, _spectrum(seen, field), field)
        other = _correlated(place, _spectrum(seen * seen, field), field)
        return product / np.sqrt(np.maximum(energy * other, 1e-2)) * share

    return fits
