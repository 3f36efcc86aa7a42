"""Destroying the head of a person: solid, mosaic or blur, with soft edges that lie outside of it (our choice).

A solid fill can be proved by its pixels: :func:`filled` looks whether a region holds the declared fill (:mod:`.fills`)
and nothing else. Rectangles can be destroyed in the same ways, for what is no head: a licence plate.

What remains of a head is at most 6 x 6 mean colours (mosaic), the same smoothed (blur), or nothing (solid). The blur
is made from the mosaic, so that no deconvolution can bring back more than the mosaic holds. Note that a recogniser
*trained on* mosaics can do better than chance even with so little; nothing is left for it by "solid" alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CamouflageError
from ..method.faces import Box
from .fills import GREY_FILL, Fill
from .places import centre

MODES = ("solid", "mosaic", "blur")
CELLS = 6
"""Most cells of a mosaic across a head, its soft edge included. With 8 a bicubic enlargement of the mosaic, or a
deconvolution, came as near to the original as the recogniser's threshold on the tests' photos; with 6 none does."""
_EDGE = 0.12  # width of the soft edge, as a part of the head's radius
NEAR = 3
"""Grey levels by which a file format may change the fill; more, and it is not the fill any more."""
_SMALLEST_CELL = 4.0  # px
_BAND = 1 << 21  # px that are worked on at once
_BLOCK, _CORE, _OFF = 12.0, 0.4, 32  # px and levels that an encoder reaches inwards; part of the radius it never does
_INSIDE = 0.85  # of the head's radius: what must be the fill, whatever a file format does to the outline


@dataclass(frozen=True, slots=True)
class Region:
    """A head to destroy, or a rectangle.

    Attributes:
        box_ltrb: of the face, brow to chin, in pixels, upright about its centre; of a rectangle itself. May leave the
            picture.
        mode: of ``MODES``.
        grow: factor on the size, from 1 on.
        turn: degrees by which it is turned counter-clockwise.
        rectangle: whether it is the box itself that goes, and no head.
    """

    box_ltrb: Box
    mode: str = "solid"
    grow: float = 1.0
    turn: float = 0.0
    rectangle: bool = False

    @property
    def shape(self) -> tuple[float, float, float, float]:
        """Centre x and y, radius x and y of what goes, upright, px; see :func:`head`."""
        if not self.rectangle:
            return head(self.box_ltrb, self.grow)
        left, top, right, bottom = self.box_ltrb
        return (left + right) / 2, (top + bottom) / 2, self.grow * (right - left) / 2, self.grow * (bottom - top) / 2

    def distance(self, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        """How far points are from the centre: 1 on the outline, below inside; px along its own axes."""
        _, _, radius_x, radius_y = self.shape
        if self.rectangle:
            return np.maximum(np.abs(across / radius_x), np.abs(down / radius_y))
        return np.cbrt(np.abs(across / radius_x) ** 3 + np.abs(down / radius_y) ** 3)


def head(box_ltrb: Box, grow: float = 1.0) -> tuple[float, float, float, float]:
    """Superellipse around the head of an upright face (hair, ears, chin): centre x and y, radius x and y in pixels.

    A point (x, y) is inside where |x / radius x|^3 + |y / radius y|^3 <= 1, from the centre: rounder than a box, and
    fuller than an ellipse, for hair is widest at the top.
    """
    left, top, right, bottom = box_ltrb
    width, height = right - left, bottom - top
    return ((left + right) / 2, top + 0.425 * height,
            grow * max(0.85 * width, 0.65 * height), grow * max(0.775 * height, 0.7 * width))


@dataclass(frozen=True, slots=True)
class _Reach:
    """What a region changes: a window of the picture, and how far each of its pixels is from the head's centre.

    Attributes:
        rows, columns: of the picture.
        distance: 1 on the head's outline, below inside.
        across, down: of each pixel from the upper left corner of the head with its soft edge, along its own axes, px.
        width, height: of the head with its soft edge, px.
    """

    rows: slice
    columns: slice
    distance: np.ndarray
    across: np.ndarray
    down: np.ndarray
    width: float
    height: float

    @property
    def weight(self) -> np.ndarray:
        """How much of each pixel is the fill, 0..1: h x w x 1."""
        return np.clip((1 + _EDGE - self.distance) / _EDGE, 0, 1)[..., None].astype(np.float32)


def _bands(region: Region, shape: tuple[int, ...], pixels: int) -> Iterator[_Reach]:
    """A region in bands of about so many pixels, from top to bottom: a face may fill a picture of 100 megapixels."""
    whole = _reach(region, shape, 0, 0)
    if whole is not None:
        height = max(1, pixels // max(1, whole.columns.stop - whole.columns.start))
        for top in range(whole.rows.start, whole.rows.stop, height):
            band = _reach(region, shape, top, min(top + height, whole.rows.stop))
            if band is not None:
                yield band


def _reach(region: Region, shape: tuple[int, ...], first: int | None = None, last: int = 0) -> _Reach | None:
    """See :class:`_Reach`; None where the region does not touch the picture.

    Args:
        region, shape: which, and of the picture.
        first, last: rows to look at, the last one left out; all where ``first`` is None. Without rows between them
            only ``rows`` and ``columns`` are of use, and are the whole region's.
    """
    x, y, radius_x, radius_y = region.shape
    reach_x, reach_y = radius_x * (1 + _EDGE), radius_y * (1 + _EDGE)
    angle = math.radians(region.turn)
    cosine, sine = math.cos(angle), math.sin(angle)
    if region.turn:  # the head's centre lies above the face's, and turns about it
        face_x, face_y = centre(region.box_ltrb)
        x, y = face_x + (y - face_y) * sine, face_y + (y - face_y) * cosine
        half_x = abs(reach_x * cosine) + abs(reach_y * sine)
        half_y = abs(reach_x * sine) + abs(reach_y * cosine)
    else:
        half_x, half_y = reach_x, reach_y
    left, right = _pixels_between(x - half_x, x + half_x, shape[1])
    top, bottom = _pixels_between(y - half_y, y + half_y, shape[0])
    if left >= right or top >= bottom:
        return None
    rows = slice(top, bottom) if first is None or first >= last else slice(first, last)
    begin, end = (top, bottom) if first is None else (first, last)
    across, down = np.meshgrid(np.arange(left, right) + 0.5 - x, np.arange(begin, end) + 0.5 - y)
    if region.turn:
        across, down = across * cosine - down * sine, across * sine + down * cosine
    return _Reach(rows, slice(left, right), region.distance(across, down), across + reach_x, down + reach_y,
                  2 * reach_x, 2 * reach_y)


def redact(pixels: np.ndarray, regions: Sequence[Region], area: np.ndarray | None = None,
           fill: Fill = GREY_FILL) -> np.ndarray:
    """Destroys heads, and rectangles.

    Args:
        pixels: H x W x 3, uint8; never changed.
        regions: what goes; mosaic and blur are made from ``pixels``. Where they overlap the one that leaves less
            counts.
        area: H x W, bool: what else is filled with the fill's colour; hard edges.
        fill: of solid regions; a picture lies over heads alone.

    Returns:
        H x W x 3, uint8. Inside each superellipse of :func:`head` nothing but the fill is left; over the soft edge
        around it the fill fades out; the rest is the same to the last bit.

    Raises:
        CamouflageError: an unknown mode, or an empty box.
    """
    for region in regions:
        if region.mode not in MODES:
            raise CamouflageError(f"A redaction is one of {', '.join(MODES)}, not '{region.mode}'.")
        if not (region.box_ltrb[0] < region.box_ltrb[2] and region.box_ltrb[1] < region.box_ltrb[3]):
            raise CamouflageError(f"A redaction needs a box with left < right and top < bottom, not "
                                  f"{region.box_ltrb}.")
    result = pixels.copy()
    for region in _in_order(regions, fill):
        size = _BAND if region.mode == "solid" else pixels.size  # the cells of a mosaic are made of all of the head
        for reach in _bands(region, pixels.shape, size):
            _paint(result[reach.rows, reach.columns], pixels[reach.rows, reach.columns], region, reach, fill)
    if area is not None:
        result[area] = fill.levels()
    return result


def _in_order(regions: Sequence[Region], fill: Fill) -> list[Region]:
    """What leaves less goes last: a neighbour's mosaic must not bring back what was made solid.

    Solid fills of one colour look the same in any order; where a picture lies over each head the order must be one
    that the regions alone tell, so that whoever proves it gets the same pixels.
    """
    if fill.picture is None:
        return sorted(regions, key=lambda region: -MODES.index(region.mode))
    return sorted(regions, key=lambda region: (-MODES.index(region.mode), region.rectangle, region.box_ltrb,
                                               region.grow, region.turn))


def _paint(window: np.ndarray, pixels: np.ndarray, region: Region, reach: _Reach, fill: Fill) -> None:
    """Lays a region's fill over a window: exactly the fill where its weight is 1, exactly the window where it is 0."""
    weight = reach.weight
    window[...] = np.clip(np.rint((1 - weight) * window + weight * _fill(pixels, region, reach, fill)), 0, 255)


def certain(shape: tuple[int, ...], rows: slice, regions: Sequence[Region], area: np.ndarray | None,
            fill: Fill) -> tuple[np.ndarray, np.ndarray]:
    """What solid regions show whatever was there before.

    Args:
        shape: of the picture.
        rows: of the picture that are looked at.
        regions, area, fill: as for :func:`redact`; those that are not solid show nothing for certain.

    Returns:
        rows x W x 3, uint8: the pixels; and rows x W, bool: where they are certain.
    """
    dark, light = (np.full((rows.stop - rows.start, shape[1], 3), level, np.uint8) for level in (0, 255))
    for region in _in_order([region for region in regions if region.mode == "solid"], fill):
        whole = _reach(region, shape, 0, 0)
        if whole is None:
            continue
        first, last = max(whole.rows.start, rows.start), min(whole.rows.stop, rows.stop)
        reach = _reach(region, shape, first, last) if first < last else None
        if reach is not None:
            for canvas in (dark, light):
                window = canvas[first - rows.start:last - rows.start, reach.columns]
                _paint(window, window, region, reach, fill)
    if area is not None:
        for canvas in (dark, light):
            canvas[area[rows]] = fill.levels()
    return dark, (dark == light).all(axis=2)


def changed(shape: tuple[int, ...], regions: Sequence[Region], area: np.ndarray | None = None) -> np.ndarray:
    """Where :func:`redact` may have changed a picture of this shape: H x W, bool; heads and their soft edges."""
    found = np.zeros(shape[:2], bool) if area is None else area.copy()
    for region in regions:
        for reach in _bands(region, shape, _BAND):
            found[reach.rows, reach.columns] |= reach.distance < 1 + _EDGE
    return found


def reached(region: Region, shape: Sequence[int]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of what :func:`redact` may change for a region in a picture of this shape: whole px,
    right and bottom not included; None where it does not touch it."""
    rows, columns = np.zeros(shape[0], bool), np.zeros(shape[1], bool)
    for reach in _bands(region, tuple(shape), _BAND):
        within = reach.distance < 1 + _EDGE
        rows[reach.rows] |= within.any(axis=1)
        columns[reach.columns] |= within.any(axis=0)
    if not rows.any():
        return None
    (top, bottom), (left, right) = (np.flatnonzero(one)[[0, -1]].tolist() for one in (rows, columns))
    return left, top, right + 1, bottom + 1


def inside(region: Region, x: float, y: float) -> bool:
    """Whether a point (px) lies in a head to destroy, or on its soft edge."""
    (face_x, face_y), angle = centre(region.box_ltrb), math.radians(region.turn)
    head_x, head_y, _, _ = region.shape
    across = (x - face_x) * math.cos(angle) - (y - face_y) * math.sin(angle) + face_x - head_x
    down = (x - face_x) * math.sin(angle) + (y - face_y) * math.cos(angle) + face_y - head_y
    return bool(region.distance(np.array(across), np.array(down)) < 1 + _EDGE)


@dataclass(frozen=True, slots=True, eq=False)
class Covering:
    """What was filled solid, as far as a proof needs it.

    Attributes:
        fill: that was declared.
        regions, area: that were filled with it; needed only where the fill is a picture.
        encoded: whether the pixels went through a lossy file.
    """

    fill: Fill = GREY_FILL
    regions: Sequence[Region] = ()
    area: np.ndarray | None = None
    encoded: bool = False

    def off(self, pixels: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """By how many levels pixels of a window differ from the fill: rows x columns; 255 where it is not certain.

        A file format changes the pixels of a picture more than those of a colour, but hardly the mean of a few: there
        the means of 8 x 8 px are compared (the format's own blocks), which tell a face from noise.
        """
        window = pixels[rows, columns].astype(np.int16)
        if self.fill.picture is None:
            return np.abs(window - np.array(self.fill.colour, np.int16)).max(axis=2)
        wanted, sure = (part[:, columns] for part in certain(pixels.shape, rows, self.regions, self.area, self.fill))
        off = np.abs(window - wanted).max(axis=2)
        if self.encoded and off.size:
            import cv2

            means = np.abs(cv2.blur((window - wanted).astype(np.float32), (8, 8))).max(axis=2)
            off = np.where(off <= _OFF, np.ceil(means).astype(np.int16), off)
        return np.where(sure, off, np.int16(255))


def filled(pixels: np.ndarray, box_ltrb: Box, turn: float = 0.0, encoded: bool = False,
           covering: Covering | None = None) -> bool:
    """Whether the face in a box was replaced by the solid fill: all of it lies within ``NEAR`` levels of it.

    Args:
        pixels: H x W x 3, uint8.
        box_ltrb, turn: of the face; what lies outside the picture does not count.
        encoded: whether the pixels went through a lossy file, whose blocks carry the colours of the head's outline
            some px inwards: there the fill may be off by up to 32 levels, which no face is.
        covering: what fills; our grey where it is left out.

    Returns:
        Also True where nothing of the face lies in the picture.
    """
    region, covering = Region(box_ltrb, turn=turn), covering or Covering()
    core = min(_INSIDE, max(_CORE, 1 - _BLOCK / min(head(box_ltrb)[2:]))) if encoded else _INSIDE
    for band in _bands(region, pixels.shape, _BAND):
        off = covering.off(pixels, band.rows, band.columns)
        if (off[band.distance <= core] > NEAR).any() or (off[band.distance <= _INSIDE] > _OFF).any():
            return False
    return True


def _pixels_between(low: float, high: float, size: int) -> tuple[int, int]:
    return max(0, math.floor(low)), min(size, math.ceil(high))


def _fill(pixels: np.ndarray, region: Region, reach: _Reach, fill: Fill) -> np.ndarray:
    """What a window is filled with; the grid of cells lies along the head's own axes."""
    if region.mode == "solid":
        if fill.picture is None or region.rectangle:
            return fill.levels().astype(np.float32)
        return fill.over(reach.across, reach.down, reach.width, reach.height)
    cell = max(max(reach.width, reach.height) / CELLS, _SMALLEST_CELL)
    columns, rows = (reach.across // cell).astype(int), (reach.down // cell).astype(int)
    columns, rows = columns - columns.min(), rows - rows.min()
    cells = rows * (columns.max() + 1) + columns
    counts = np.maximum(np.bincount(cells.ravel()), 1)
    means = [np.bincount(cells.ravel(), pixels[..., i].ravel()) / counts for i in range(3)]
    mosaic = np.stack(means, axis=-1).astype(np.float32)[cells]
    if region.mode == "mosaic":
        return mosaic
    import cv2

    return cv2.GaussianBlur(mosaic, (0, 0), cell, borderType=cv2.BORDER_REPLICATE)
