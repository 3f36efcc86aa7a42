"""88 changes of a whole photo that leave people as recognisable to a patient eye, and where each point went.

The pure filters are in ``filters.py``. A point (x, y) is the centre of the pixel in column x and row y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from filters import FILTERS, Apply

Where = Callable[[np.ndarray, int, int], np.ndarray]
Sources = Callable[[np.ndarray, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
COUNT = 88
_BLACK, _SMEARED = cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE


def _stay(points_xy: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(points_xy, float)


@dataclass(frozen=True, slots=True)
class Transform:
    """A change of a whole photo.

    Attributes:
        name: in the table of all.
        apply: H x W x 3 uint8 pixels to the result.
        where: points (n x 2: x, y) of a photo with this height and width to their places in the result; they may be
            outside it, and are nan where the point is nowhere.
        moves: whether ``where`` is more than the identity.
        swaps: whether the result is as wide as the photo is high.
    """

    name: str
    apply: Apply
    where: Where = _stay
    moves: bool = False
    swaps: bool = False


def outline(centre: tuple[float, float], face_height: float, turn: float = 0, count: int = 200) -> np.ndarray:
    """About ``count`` points (n x 2: x, y) on a grid inside the ellipse of a face, three quarters as wide as high.

    ``turn`` is in degrees, counter-clockwise.
    """
    side = round(np.sqrt(count / (np.pi / 4)))
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    unit = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    inside = unit[np.hypot(*unit.T) <= 1] * (0.375 * face_height, 0.5 * face_height)
    return np.asarray(centre, float) + inside @ turn_matrix(turn).T


def turn_matrix(turn: float) -> np.ndarray:
    """2 x 2, turns (x, y) with y downwards by ``turn`` degrees counter-clockwise, as seen."""
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return np.array([[cosine, sine], [-sine, cosine]])


def composed(first: Transform, then: Transform) -> Transform:
    """One after the other."""
    def where(points_xy: np.ndarray, height: int, width: int) -> np.ndarray:
        between = (width, height) if first.swaps else (height, width)
        return then.where(first.where(points_xy, height, width), *between)

    return Transform(f"{first.name}, then {then.name}", lambda pixels: then.apply(first.apply(pixels)), where,
                     first.moves or then.moves, first.swaps != then.swaps)


def pairs(count: int, seed: int) -> list[Transform]:
    """``count`` different pairs of two different transforms, one applied after the other."""
    drawn = np.random.default_rng(seed).choice(COUNT * (COUNT - 1), count, replace=False)
    every = list(TRANSFORMS.values())
    chosen = [divmod(int(number), COUNT - 1) for number in drawn]
    return [composed(every[first], every[then + (then >= first)]) for first, then in chosen]


# Changes of place by a matrix.

def _moved(matrix: np.ndarray, points_xy: np.ndarray) -> np.ndarray:
    """Points through a 3 x 3 matrix."""
    flat = np.column_stack([np.asarray(points_xy, float), np.ones(len(points_xy))]) @ matrix.T
    return flat[:, :2] / flat[:, 2:]


def by_matrix(name: str, matrix: Callable[[int, int], np.ndarray], border: int = _BLACK) -> Transform:
    """``matrix`` of height and width takes (x, y, 1) of the photo to the result; the size stays."""
    def apply(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        return cv2.warpPerspective(pixels, matrix(height, width), (width, height), flags=cv2.INTER_LINEAR,
                                   borderMode=border)
    return Transform(name, apply, lambda points, height, width: _moved(matrix(height, width), points), moves=True)


def about_centre(name: str, linear: np.ndarray) -> Transform:
    """A 2 x 2 matrix about the centre of the photo."""
    def matrix(height: int, width: int) -> np.ndarray:
        centre = np.array([width - 1, height - 1]) / 2
        result = np.eye(3)
        result[:2, :2], result[:2, 2] = linear, centre - linear @ centre
        return result
    return by_matrix(name, matrix)


def _scaled(across: float, down: float) -> np.ndarray:
    return np.diag([across, down])


def _shift(right: float, down: float) -> Callable[[int, int], np.ndarray]:
    """By shares of width and height, whole pixels."""
    return lambda height, width: np.array([[1, 0, round(right * width)], [0, 1, round(down * height)], [0, 0, 1.0]])


def _wrapped(name: str, right: float, down: float) -> Transform:
    """What leaves on one side comes in on the other."""
    def steps(height: int, width: int) -> tuple[int, int]:
        return round(right * width), round(down * height)

    def apply(pixels: np.ndarray) -> np.ndarray:
        across, downwards = steps(*pixels.shape[:2])
        return np.roll(pixels, (downwards, across), axis=(0, 1))

    def where(points_xy: np.ndarray, height: int, width: int) -> np.ndarray:
        size = np.array([width, height])
        return (np.asarray(points_xy, float) + steps(height, width) + 0.5) % size - 0.5
    return Transform(name, apply, where, moves=True)


def _crop(left: float, top: float, right: float, bottom: float) -> Callable[[int, int], np.ndarray]:
    """The part of the photo between these shares of its sides, as large as the photo was."""
    def matrix(height: int, width: int) -> np.ndarray:
        across, down = 1 / (right - left), 1 / (bottom - top)
        return np.array([[across, 0, (0.5 - left * width) * across - 0.5],
                         [0, down, (0.5 - top * height) * down - 0.5], [0, 0, 1.0]])
    return matrix


def _perspective(height: int, width: int) -> np.ndarray:
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    moved = np.array([[0.15, 0.05], [0.95, 0], [0.85, 0.9], [0, 1]], np.float32)
    size = np.array([width - 1, height - 1], np.float32)
    return cv2.getPerspectiveTransform(corners * size, moved * size)


def _turned_over(name: str, apply: Apply, where: Callable[..., tuple], swaps: bool = False) -> Transform:
    """``where`` takes x, y and the last column and row of the photo."""
    def to(points_xy: np.ndarray, height: int, width: int) -> np.ndarray:
        return np.column_stack(where(*np.asarray(points_xy, float).T, width - 1, height - 1))
    return Transform(name, lambda pixels: np.ascontiguousarray(apply(pixels)), to, True, swaps)


def _quarters() -> list[Transform]:
    """Quarter turns counter-clockwise, and mirrors: every pixel keeps its value."""
    return [
        _turned_over("turned 90", np.rot90, lambda x, y, right, low: (y, right - x), True),
        _turned_over("turned 180", lambda pixels: np.rot90(pixels, 2), lambda x, y, right, low: (right - x, low - y)),
        _turned_over("turned 270", lambda pixels: np.rot90(pixels, 3), lambda x, y, right, low: (low - y, x), True),
        _turned_over("mirrored", lambda pixels: pixels[:, ::-1], lambda x, y, right, low: (right - x, y)),
        _turned_over("upside down", lambda pixels: pixels[::-1], lambda x, y, right, low: (x, low - y)),
        _turned_over("transposed", lambda pixels: pixels.swapaxes(0, 1), lambda x, y, right, low: (y, x), True),
    ]


# Changes of place by a map.

def by_map(name: str, sources: Sources) -> Transform:
    """``sources`` of x, y, height and width gives for each point of the result its source in the photo."""
    def apply(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        y, x = np.mgrid[:height, :width].astype(np.float32)
        from_x, from_y = (part.astype(np.float32) for part in sources(x, y, height, width))
        return cv2.remap(pixels, from_x, from_y, cv2.INTER_LINEAR, borderMode=_BLACK)
    return Transform(name, apply, lambda points, height, width: _inverted(sources, points, height, width), moves=True)


def _inverted(sources: Sources, points_xy: np.ndarray, height: int, width: int) -> np.ndarray:
    """The places whose sources are these points: the nearest of a coarse grid, then of finer ones around it."""
    wanted = np.asarray(points_xy, float)
    known = np.isfinite(wanted).all(axis=1)
    step = max(height, width) / 96
    grid = np.mgrid[-0.2 * width:1.2 * width:step, -0.2 * height:1.2 * height:step].reshape(2, -1)
    tree = cKDTree(np.stack(sources(*grid, height, width), axis=-1))
    best = grid.T[tree.query(np.where(known[:, None], wanted, 0))[1]]
    near = np.mgrid[-4:5, -4:5].reshape(2, -1).T / 4
    while step > 0.02:
        around = best[:, None] + near * step
        away = np.stack(sources(around[..., 0], around[..., 1], height, width), axis=-1) - wanted[:, None]
        distance = np.hypot(away[..., 0], away[..., 1])
        row, chosen = np.arange(len(best)), np.where(known, np.nan_to_num(distance).argmin(axis=1), 0)
        best, left, step = around[row, chosen], distance[row, chosen], step / 2
    return np.where((known & (left <= 1))[:, None], best, np.nan)


def _radial(factor: Callable[[np.ndarray], np.ndarray], whole: bool = False) -> Sources:
    """Sources at ``factor(r)`` times the distance from the centre; r is 1 at the nearer side, or at the corners."""
    def sources(x: np.ndarray, y: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        across, down = x - (width - 1) / 2, y - (height - 1) / 2
        unit = np.hypot(height, width) / 2 if whole else min(height, width) / 2
        scale = factor(np.hypot(across, down) / unit)
        return (width - 1) / 2 + scale * across, (height - 1) / 2 + scale * down
    return sources


def _swirl(strength: float) -> Sources:
    """Turned by ``strength`` radians at the centre and less with the distance from it."""
    def sources(x: np.ndarray, y: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        across, down = x - (width - 1) / 2, y - (height - 1) / 2
        angle = strength * np.exp(-2 * (across**2 + down**2) / (min(height, width) / 2) ** 2)
        return ((width - 1) / 2 + np.cos(angle) * across + np.sin(angle) * down,
                (height - 1) / 2 - np.sin(angle) * across + np.cos(angle) * down)
    return sources


def _wave(x: np.ndarray, y: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    side = min(height, width)
    return (x + 0.012 * side * np.sin(2 * np.pi * y / (0.2 * side)),
            y + 0.012 * side * np.sin(2 * np.pi * x / (0.2 * side)))


def _lens(strength: float) -> Callable[[np.ndarray], np.ndarray]:
    """Magnifies the middle where positive, shrinks it where negative; nothing changes outside of the circle."""
    return lambda r: 1 - strength * np.clip(1 - r**2, 0, None)


def _fisheye(r: np.ndarray) -> np.ndarray:
    r = np.clip(r, 1e-6, 1.2)
    return np.tan(1.1 * r) / np.tan(1.1) / r


def _moves() -> list[Transform]:
    return [
        by_matrix("shifted 5 %, smeared", _shift(0.05, 0.05), _SMEARED),
        by_matrix("shifted 15 %, black", _shift(-0.15, 0.1)),
        _wrapped("shifted 25 %, wrapped", 0.25, 0.25),
        _wrapped("shifted 40 %, wrapped", -0.4, 0.4),
        *[about_centre(f"scaled {factor}", _scaled(factor, factor)) for factor in (0.5, 0.75, 1.25, 1.6, 2)],
        about_centre("stretched", _scaled(1.4, 0.8)),
        *[about_centre(f"turned {turn}", turn_matrix(turn)) for turn in (5, 10, 20, 30, 45)],
        *_quarters(),
        about_centre("sheared", np.array([[1, 0.3], [0, 1]])),
        by_matrix("perspective", _perspective),
        *[by_map(f"swirl {strength}", _swirl(strength)) for strength in (0.4, 0.8, 1.4)],
        by_map("wave", _wave),
        by_map("pinch", _radial(_lens(-0.35))),
        by_map("bulge", _radial(_lens(0.5))),
        by_map("barrel", _radial(lambda r: 1 + 0.25 * r**2)),
        by_map("fisheye", _radial(_fisheye, whole=True)),
        by_matrix("cropped", _crop(0.1, 0, 0.9, 0.8)),
        by_matrix("cropped, not evenly", _crop(0.2, 0.05, 0.75, 0.95)),
    ]


TRANSFORMS: dict[str, Transform] = {
    transform.name: transform
    for transform in [*(Transform(name, apply) for name, apply in FILTERS.items()), *_moves()]}
assert len(TRANSFORMS) == COUNT, len(TRANSFORMS)
