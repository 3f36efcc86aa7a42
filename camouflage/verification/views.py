"""Looking at a picture in several scales, in four orientations and, where it is large, in tiles (our choice).

Face detectors know upright faces of a few dozen px. What is turned further than about 45 degrees, or is much smaller
or larger, they miss. So a picture is shown to them as a list of views, and what they find is brought back.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..method.faces import Box
from .places import box_around

T = TypeVar("T")
QUARTERS, UPRIGHT = (0, 1, 2, 3), (0,)
TILE, SHARED = 1600, 192  # px: longest side of a view, and what neighbouring tiles of one sweep share
_LONGEST, _FACTOR = 1600, 3  # px up to which a picture is looked at whole; by how much the sweeps beyond it shrink
_WAIT = 0.1  # seconds between two looks whether to stop


@dataclass(frozen=True, slots=True)
class Sweep:
    """One scale at which the whole picture is looked at.

    Attributes:
        side: px of the picture's longer side.
        quarters: orientations: by how many quarters of a turn it is turned clockwise.
    """

    side: int
    quarters: tuple[int, ...] = QUARTERS


@dataclass(frozen=True, slots=True)
class View:
    """A part of a picture as a detector sees it.

    Attributes:
        sweep: the longer side of the whole picture at this scale, px.
        pixels: h x w x 3, uint8: the part before it is turned.
        left, top: where it begins at this scale, px.
        factor: by how much the picture was scaled.
        quarters: by how many quarters of a turn it is turned clockwise before it is looked at.
    """

    sweep: int
    pixels: np.ndarray
    left: int
    top: int
    factor: float
    quarters: int

    def turned(self) -> np.ndarray:
        """What the detector sees; contiguous."""
        return np.ascontiguousarray(np.rot90(self.pixels, -self.quarters))

    def back(self, box_ltrb: Box) -> Box:
        """A box of :meth:`turned` in the picture: the upright one, about the face's centre, see :mod:`.places`."""
        x, y = (box_ltrb[0] + box_ltrb[2]) / 2, (box_ltrb[1] + box_ltrb[3]) / 2
        height, width = self.pixels.shape[:2]
        x, y = ((x, y), (y, height - x), (width - x, height - y), (width - y, x))[self.quarters]
        return box_around((x + self.left) / self.factor, (y + self.top) / self.factor,
                          (box_ltrb[2] - box_ltrb[0]) / self.factor, (box_ltrb[3] - box_ltrb[1]) / self.factor)

    @property
    def turn(self) -> float:
        """Degrees counter-clockwise of a head that stands upright in :meth:`turned`, -180 < turn <= 180."""
        return (0.0, 90.0, 180.0, -90.0)[self.quarters]


def views(pixels: np.ndarray, sweeps: Sequence[Sweep]) -> Iterator[View]:
    """All views of a picture, H x W x 3, uint8: every sweep, in tiles where it is large, in its orientations."""
    longer = max(pixels.shape[:2])
    for sweep in sweeps:
        seen, factor = (pixels, 1.0) if sweep.side == longer else resized(pixels, sweep.side)
        for top, bottom in _tiles(seen.shape[0]):
            for left, right in _tiles(seen.shape[1]):
                for quarters in sweep.quarters:
                    yield View(sweep.side, seen[top:bottom, left:right], left, top, factor, quarters)


def beyond(longer: int) -> list[Sweep]:
    """The sweeps that a picture takes beyond those that see it whole: at full size, then at a third, a ninth, …"""
    sides, side = [], float(longer)
    while side > _LONGEST:
        sides.append(round(side))
        side /= _FACTOR
    return [Sweep(side) for side in sides]


def _tiles(length: int) -> list[tuple[int, int]]:
    """Begin and end of the tiles along one side: as few as possible, equally long, each sharing with the next."""
    if length <= TILE:
        return [(0, length)]
    count = -(-(length - SHARED) // (TILE - SHARED))
    size = -(-(length + (count - 1) * SHARED) // count)
    starts = [round(i * (length - size) / (count - 1)) for i in range(count)]
    return [(start, start + size) for start in starts]


def resized(pixels: np.ndarray, longer_side: int) -> tuple[np.ndarray, float]:
    """The picture with its longer side at ``longer_side`` px, and the factor by which it grew."""
    import cv2

    height, width = pixels.shape[:2]
    factor = longer_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), factor


def nothing() -> None:
    """What is called between steps where nobody wants to stop."""


def in_parallel(jobs: Sequence[Callable[[], T]], pause: Callable[[], None] = nothing) -> list[T]:
    """Runs short jobs on the cores there are; their results in the jobs' order.

    Args:
        jobs: each of a second or less, so that stopping does not take long; they must not call this.
        pause: called about ten times a second in the calling thread; may raise to stop. What has begun then ends,
            nothing else begins.
    """
    if len(jobs) < 2:
        pause()
        return [job() for job in jobs]
    waiting: set[Future[T]]
    started = [_pool().submit(job) for job in jobs]
    try:
        waiting = set(started)
        while waiting:
            pause()
            done, waiting = wait(waiting, _WAIT, FIRST_EXCEPTION)
            for future in done:
                future.result()  # raises what the job raised
    except BaseException:
        for future in started:
            future.cancel()
        with contextlib.suppress(Exception):
            wait(started, 10)
        raise
    return [future.result() for future in started]


def watched(job: Callable[[], T], pause: Callable[[], None]) -> T:
    """Runs one long job beside ``pause``, which may raise: then the job ends by itself, and its result is lost."""
    future = _pool().submit(job)
    while not wait([future], _WAIT).done:
        pause()
    return future.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(2, cores()), thread_name_prefix="camouflage")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
