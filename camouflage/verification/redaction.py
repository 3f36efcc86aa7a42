"""Destroying the head of a person: solid, mosaic or blur, with soft edges that lie outside of it (our choice).

What remains of a head is at most 6 x 6 mean colours (mosaic), the same smoothed (blur), or nothing (solid). The blur
is made from the mosaic, so that no deconvolution can bring back more than the mosaic holds. Note that a recogniser
*trained on* mosaics can do better than chance even with so little; nothing is left for it by "solid" alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CamouflageError
from ..faces import Box

MODES = ("solid", "mosaic", "blur")
CELLS = 6
"""Most cells of a mosaic across a head, its soft edge included. With 8 a bicubic enlargement of the mosaic, or a
deconvolution, came as near to the original as the recogniser's threshold on the tests' photos; with 6 none does."""
_EDGE = 0.12  # width of the soft edge, as a part of the head's radius
_GREY = 128.0
_SMALLEST_CELL = 4.0  # px


@dataclass(frozen=True, slots=True)
class Region:
    """A head to destroy.

    Attributes:
        box_ltrb: of the face, brow to chin, in pixels; may leave the picture.
        mode: of ``MODES``.
        grow: factor on the head's size, from 1 on.
    """

    box_ltrb: Box
    mode: str = "solid"
    grow: float = 1.0


def head(box_ltrb: Box, grow: float = 1.0) -> tuple[float, float, float, float]:
    """Superellipse around the head of a face (hair, ears, chin): centre x, centre y, radius x, radius y in pixels.

    A point (x, y) is inside where |x / radius x|^3 + |y / radius y|^3 <= 1, from the centre: rounder than a box, and
    fuller than an ellipse, for hair is widest at the top.
    """
    left, top, right, bottom = box_ltrb
    width, height = right - left, bottom - top
    return ((left + right) / 2, top + 0.425 * height,
            grow * max(0.85 * width, 0.65 * height), grow * max(0.775 * height, 0.7 * width))


def redact(pixels: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """Destroys heads.

    Args:
        pixels: H x W x 3, uint8; never changed.
        regions: heads; every fill is made from ``pixels``. Where they overlap the one that leaves less counts.

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
            raise CamouflageError(f"A redaction wants a box with left < right and top < bottom, not "
                                  f"{region.box_ltrb}.")
    result = pixels.astype(np.float32)
    # What leaves less goes last: a neighbour's mosaic must not bring back what was made solid.
    for region in sorted(regions, key=lambda region: -MODES.index(region.mode)):
        x, y, radius_x, radius_y = head(region.box_ltrb, region.grow)
        reach_x, reach_y = radius_x * (1 + _EDGE), radius_y * (1 + _EDGE)
        left, right = _pixels_between(x - reach_x, x + reach_x, pixels.shape[1])
        top, bottom = _pixels_between(y - reach_y, y + reach_y, pixels.shape[0])
        if left >= right or top >= bottom:
            continue
        across = (np.arange(left, right) + 0.5 - x) / radius_x
        down = (np.arange(top, bottom) + 0.5 - y) / radius_y
        distance = np.cbrt(np.abs(across[None, :]) ** 3 + np.abs(down[:, None]) ** 3)
        weight = np.clip((1 + _EDGE - distance) / _EDGE, 0, 1)[..., None].astype(np.float32)
        window = result[top:bottom, left:right]
        fill = _fill(pixels[top:bottom, left:right], region.mode, max(reach_x, reach_y) * 2 / CELLS,
                     (left - (x - reach_x), top - (y - reach_y)))
        window[...] = (1 - weight) * window + weight * fill  # exactly the fill where the weight is 1
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _pixels_between(low: float, high: float, size: int) -> tuple[int, int]:
    return max(0, math.floor(low)), min(size, math.ceil(high))


def _fill(pixels: np.ndarray, mode: str, cell: float, offset: tuple[float, float]) -> np.ndarray | float:
    """What a window is filled with; ``offset`` is where the window begins in the grid of cells (x, y; px)."""
    if mode == "solid":
        return _GREY
    cell = max(cell, _SMALLEST_CELL)
    columns, rows = (((np.arange(length) + 0.5 + start) // cell).astype(int)
                     for length, start in ((pixels.shape[1], offset[0]), (pixels.shape[0], offset[1])))
    columns, rows = columns - columns[0], rows - rows[0]
    sums = np.add.reduceat(pixels.astype(np.float64), np.searchsorted(rows, np.arange(rows[-1] + 1)), axis=0)
    sums = np.add.reduceat(sums, np.searchsorted(columns, np.arange(columns[-1] + 1)), axis=1)
    counts = np.bincount(rows)[:, None] * np.bincount(columns)[None, :]
    mosaic = (sums / counts[..., None]).astype(np.float32)[rows][:, columns]
    if mode == "mosaic":
        return mosaic
    import cv2

    return cv2.GaussianBlur(mosaic, (0, 0), cell, borderType=cv2.BORDER_REPLICATE)
