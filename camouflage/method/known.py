"""What a workflow knows of persons beside what a detector finds: boxes around faces, and masks of persons.

Both come from people who draw and from other packs' detectors and segmenters. They only ever add: places to look at,
faces that no detector found, persons of whom no face is known. Everything here is our choice, no part of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import CamouflageError
from ..images import ASPECT_TOLERANCE
from ..validation import number, show
from .faces import MAX_FACES, Box, Faces, clip_box

Pixels = tuple[int, int, int, int]  # left, top, right, bottom; whole pixels, right and bottom not included

LEAST_SIDE = 16
"""px; a part of a person whose longer side is shorter is left out: a speck of the mask, or nobody to be told by."""
_FARTHEST = 1e6  # px
_SIDE, _ABOVE = 4.0, 2.5  # how far a body reaches, in widths and heights of its face
_SHARE = 0.25  # of a face's box that must lie in an area of which it is a part
_BOX = ('A box is {"x": 10, "y": 20, "width": 30, "height": 40} in pixels of its picture, x and y of its upper left '
        "corner. Connect an output of the type BOUNDING_BOX, or draw the box again.")
_MASK = ("Connect a MASK of the persons in these very pictures: 0 (nobody) to 1 (a person), one for each picture or "
         "one for all.")


# --- boxes --------------------------------------------------------------------------------------------------------


def boxes_of(value: object, count: int, socket: str) -> list[tuple[Box, ...]]:
    """Reads boxes as ComfyUI's type BOUNDING_BOX has them.

    Args:
        value: an object with the numbers ``x``, ``y``, ``width`` and ``height`` in pixels of its picture (further keys
            do not count); a list of them is of one picture; a list of such lists has one for each picture. What is
            of one picture counts for every picture of a batch. None: no box.
        count: pictures, from 1 on.
        socket: name of the input, for the error text.

    Returns:
        For each picture its boxes (left, top, right, bottom; pixels) in the order given. They may leave the picture.
        A negative width or height (a box that was drawn backwards) is turned round.

    Raises:
        CamouflageError: another form; lists for another number of pictures; NaN, infinity, a text or more than 1e6 px
            in the place of a number; a box without a size; more than 1000 boxes in one picture.
    """
    if value is None:
        return [()] * count
    if isinstance(value, Mapping):
        return [(_box(value, f"'{socket}'"),)] * count
    entries = _list(value, f"'{socket}'")
    if not entries or not for_each_picture(entries):
        return [_picture(entries, f"'{socket}'")] * count
    if len(entries) not in (1, count):
        raise CamouflageError(f"'{socket}' has boxes for {len(entries)} pictures, but there are {count}. Connect boxes "
                              "that were found in these very pictures, or one list of boxes for all.")
    pictures = [_picture(entry, f"'{socket}'[{i}]") for i, entry in enumerate(entries)]
    return pictures * count if len(pictures) == 1 else pictures


def for_each_picture(value: object) -> TypeGuard[Sequence[Sequence[object]]]:
    """Whether boxes are lists, one a picture, and not boxes for every picture."""
    return isinstance(value, (list, tuple)) and all(isinstance(one, (list, tuple)) for one in value)


def exempt_boxes_of(value: object, count: int, socket: str) -> list[tuple[Box, ...]]:
    """Reads boxes of persons who stay as they are by consent, in the forms of :func:`boxes_of`.

    Raises:
        CamouflageError: as :func:`boxes_of`; or several pictures, and not a list of boxes for each: whoever stands at
            the same place in another picture has not agreed to anything.
    """
    boxes = boxes_of(value, count, socket)
    if count > 1 and any(boxes) and not (for_each_picture(value) and len(value) == count):
        raise CamouflageError(f"'{socket}' has boxes without a picture of their own, but there are {count} pictures: "
                              "in another one somebody else may stand there. Connect a list of boxes for each picture "
                              "(an empty one where nobody is exempt), or one picture at a time.")
    return boxes


def _list(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, (list, tuple)):
        raise CamouflageError(f"{where} must be a box or a list of boxes, but got {show(value)}. {_BOX}")
    return value


def _picture(value: object, where: str) -> tuple[Box, ...]:
    entries = _list(value, where)
    if len(entries) > MAX_FACES:
        raise CamouflageError(f"{where} has {len(entries)} boxes; at most {MAX_FACES} in one picture are accepted. "
                              "Keep those of persons.")
    return tuple(_box(entry, f"{where}[{i}]") for i, entry in enumerate(entries))


def _box(value: object, where: str) -> Box:
    if not isinstance(value, Mapping):
        raise CamouflageError(f"{where} must be a box, but got {show(value)}. {_BOX}")
    if missing := [key for key in ("x", "y", "width", "height") if key not in value]:
        raise CamouflageError(f"{where} has no {', '.join(missing)}. {_BOX}")
    x, y, width, height = (_number(value[key], f"{where} {key}") for key in ("x", "y", "width", "height"))
    left, right = sorted((x, x + width))
    top, bottom = sorted((y, y + height))
    if not (left < right and top < bottom):
        raise CamouflageError(f"{where} is a box of {width:g} x {height:g} px: nothing is in it. {_BOX}")
    return left, top, right, bottom


def _number(value: Any, where: str) -> float:
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) and math.prod(value.shape) == 1:
        value = value.item()
    try:
        return number(value, -_FARTHEST, _FARTHEST, where)
    except CamouflageError as error:
        raise CamouflageError(f"{error} {_BOX}") from None


# --- masks --------------------------------------------------------------------------------------------------------


def person_areas(mask: object, count: int, sizes: Sequence[tuple[int, int]], socket: str) -> list[np.ndarray | None]:
    """A host's MASK of persons as areas of pictures.

    Args:
        mask: B x h x w or h x w, 0 (nobody) to 1 (a person); B is 1, for every picture, or ``count``. None: not known.
        count: pictures.
        sizes: height and width of each picture in pixels.
        socket: name of the input, for the error text.

    Returns:
        For each picture H x W, bool, at its own size: more than half a person; None where ``mask`` is None.

    Raises:
        CamouflageError: no mask, another number of masks, another shape than the picture's (by more than 3 % and one
            pixel), NaN or infinity, values outside 0..1.
    """
    if mask is None:
        return [None] * count
    masks = _masks(mask, count, socket)
    areas: list[np.ndarray | None] = []
    for i, (height, width) in enumerate(sizes):
        _check_shape(masks.shape[1], masks.shape[2], height, width, i, socket)
        areas.append(resized_area(masks[i if len(masks) > 1 else 0], height, width))
    return areas


def _masks(mask: object, count: int, socket: str) -> torch.Tensor:
    """B x h x w, float32, checked."""
    if not isinstance(mask, torch.Tensor) or mask.ndim not in (2, 3) or mask.is_complex() or not mask.numel():
        got = f"a tensor of shape {tuple(mask.shape)}" if isinstance(mask, torch.Tensor) else show(mask)
        raise CamouflageError(f"'{socket}' must be a mask (batch x height x width), but got {got}. {_MASK}")
    masks = (mask[None] if mask.ndim == 2 else mask).detach().float().cpu()
    if len(masks) not in (1, count):
        raise CamouflageError(f"'{socket}' has {len(masks)} masks, but there are {count} pictures. {_MASK}")
    if not torch.isfinite(masks).all():
        raise CamouflageError(f"'{socket}' has NaN or infinite values. An earlier node failed; look at its output. "
                              f"{_MASK}")
    low, high = float(masks.min()), float(masks.max())
    if low < -0.01 or high > 1.01:  # resizing overshoots by a little
        raise CamouflageError(f"'{socket}' runs from {low:g} to {high:g}, but a mask runs from 0 to 1. {_MASK}")
    return masks


def _check_shape(h: int, w: int, height: int, width: int, index: int, socket: str) -> None:
    """Refuses a mask (h x w) whose shape is not that of the picture; a small one may be off by a pixel."""
    if (abs(w / h * height / width - 1) > ASPECT_TOLERANCE
            and min(abs(w - h * width / height), abs(h - w * height / width)) > 1):
        raise CamouflageError(f"'{socket}' is {w} x {h} px, but picture {index} (counted from 0) is {width} x {height} "
                              "px: another shape, so it would not lie where the persons are. (The mask of Load Image "
                              f"is an empty one of 64 x 64 px where the picture has no transparency.) {_MASK}")


def resized_area(mask: torch.Tensor, height: int, width: int) -> np.ndarray:
    """h x w, 0..1 or bool, to height x width, bool: more than half a person."""
    if mask.shape != (height, width):
        shrinks = mask.shape[0] > height or mask.shape[1] > width
        mode = "area" if shrinks else "nearest-exact"
        mask = F.interpolate(mask[None, None].float(), (height, width), mode=mode)[0, 0]
    return (mask > 0.5).numpy()


def faceless(area: np.ndarray, faces: Sequence[Box], least_side: int = LEAST_SIDE) -> np.ndarray:
    """The part of an area of persons that belongs to no found face.

    The area falls apart into what hangs together (corners count). A face belongs to every part in which the centre
    of its box lies, or a quarter of its box. A part without a face has none; of a part with faces, everything that
    the bodies of these faces cannot reach: what is more than 4 widths of the face to the side of its centre, or more
    than 2.5 of its heights above its top, for each of them.

    The reach is our choice: wide enough for stretched arms and hats, so that it takes two persons whom the mask has
    merged apart only where the other one is farther away. It cannot tell a second person within the reach, or below:
    a child in front, somebody behind, a couple arm in arm. And it takes for a person without a face what a person
    keeps away from the head: a hand or a leg that something cuts off, a body that lies on its side.

    Args:
        area: H x W, bool; never changed.
        faces: boxes (left, top, right, bottom; pixels); may leave the picture.
        least_side: px; parts whose longer side is shorter are left out. 0 or 1 keeps everything.

    Returns:
        H x W, bool.

    Raises:
        CamouflageError: ``area`` is no H x W of bool.
    """
    labels, bounds = _parts(area, least_side)
    rest = labels > 0
    for box in faces:
        for part in _parts_of(labels, box):
            rows, columns = _within(_reach(box), bounds[part - 1])
            rest[rows, columns] &= labels[rows, columns] != part
    return _parts(rest, least_side)[0] > 0


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Something that hangs together in an area.

    Attributes:
        bounds_ltrb: left, top, right, bottom in whole pixels; right and bottom are not included.
        area: within these bounds, h x w, bool.
    """

    bounds_ltrb: Pixels
    area: np.ndarray

    def holds(self, box_ltrb: Box) -> bool:
        """Whether a face (box within the picture, pixels) belongs to it: its centre, or a quarter of it, is there."""
        x, y = self.bounds_ltrb[:2]
        left, top, right, bottom = box_ltrb
        moved = left - x, top - y, right - x, bottom - y
        window, centre = _look(self.area, moved)
        size = (math.ceil(right) - math.floor(left)) * (math.ceil(bottom) - math.floor(top))
        return bool(centre) or (window is not None and int(window.sum()) >= _SHARE * size)


def parts(area: np.ndarray) -> list[Part]:
    """The connected parts of an area, H x W, bool; from top to bottom, then from left to right."""
    labels, bounds = _parts(area, 1)
    found = [Part((columns.start, rows.start, columns.stop, rows.stop), labels[rows, columns] == number)
             for number, (rows, columns) in enumerate(bounds, 1)]
    return sorted(found, key=lambda part: (part.bounds_ltrb[1], part.bounds_ltrb[0], part.bounds_ltrb))


def without_face(faces: Faces, mask: object, socket: str) -> list[int]:
    """How many parts of each picture's persons are :func:`faceless`; 0 for each where ``mask`` is None.

    Args:
        faces: of the pictures.
        mask, socket: as for :func:`person_areas`, which see for errors, too.
    """
    sizes = [(picture.height, picture.width) for picture in faces.pictures]
    areas = person_areas(mask, len(sizes), sizes, socket)
    return [0 if area is None else len(parts(faceless(area, [face.box_ltrb for face in picture.faces])))
            for area, picture in zip(areas, faces.pictures, strict=True)]


def _parts(area: np.ndarray, least_side: int) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    """Numbers what hangs together from 1 on (0: nobody, or too small), and gives its rows and columns."""
    from scipy import ndimage

    if area.ndim != 2 or area.dtype != bool:
        raise CamouflageError(f"An area of persons is height x width of bool, but this is {area.shape} of "
                              f"{area.dtype}. Take it from person_areas.")
    labels = np.zeros(area.shape, np.int32)
    count = ndimage.label(area, structure=np.ones((3, 3)), output=labels)
    if not count:
        return labels, []
    # What hangs together by corners is no longer than it has pixels: most specks go before they are measured.
    keep = np.bincount(labels.ravel(), minlength=1) >= max(least_side, 1)
    labels = _renumbered(labels, keep)
    bounds = ndimage.find_objects(labels)
    large = [max(rows.stop - rows.start, columns.stop - columns.start) >= least_side for rows, columns in bounds]
    if all(large):
        return labels, bounds
    return (_renumbered(labels, np.array([False, *large])),
            [each for each, kept in zip(bounds, large, strict=True) if kept])


def _renumbered(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def _parts_of(labels: np.ndarray, box: Box) -> set[int]:
    """Numbers of the parts to which a face belongs."""
    window, centre = _look(labels, box)
    if window is None:
        return set()
    found = np.bincount(window.ravel())
    inside = set(np.flatnonzero(found >= _SHARE * window.size).tolist())
    return (inside | {int(centre)}) - {0}


def _look(values: np.ndarray, box: Box) -> tuple[np.ndarray | None, Any]:
    """What lies in a box (None: nothing), and in its centre (0: outside)."""
    height, width = values.shape
    seen = clip_box(box, height, width)
    if seen is None:
        return None, 0
    left, top, right, bottom = seen
    x, y = math.floor((box[0] + box[2]) / 2), math.floor((box[1] + box[3]) / 2)
    return (values[math.floor(top):math.ceil(bottom), math.floor(left):math.ceil(right)],
            values[y, x] if 0 <= x < width and 0 <= y < height else 0)


def _reach(box: Box) -> Box:
    """Where the body of a face can be; without a limit below."""
    left, top, right, bottom = box
    side = _SIDE * (right - left)
    return (left + right) / 2 - side, top - _ABOVE * (bottom - top), (left + right) / 2 + side, math.inf


def _within(reach: Box, bounds: tuple[slice, slice]) -> tuple[slice, slice]:
    """Rows and columns of the pixels within bounds whose centres lie in a reach."""
    rows, columns = bounds
    left, right = math.ceil(reach[0] - 0.5), math.floor(reach[2] - 0.5) + 1
    top = math.ceil(reach[1] - 0.5)
    return slice(max(top, rows.start), rows.stop), slice(max(left, columns.start), min(right, columns.stop))
