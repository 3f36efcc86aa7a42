"""Heads of the tests' photos at known places: of any size, turned, covered, damaged, cut by the border.

A point (x, y) is the centre of the pixel in column x and row y; turns are in degrees, counter-clockwise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

import photos
from filters import Apply, blur, curve, encoded, gamma, motion_blur, noise
from transforms import turn_matrix

Canvas = tuple[np.ndarray, dict[str, "Head"]]  # pixels, and where each person's head is
SMALL, LARGE = (1024, 640), (4096, 2560)  # width and height of canvases, px
SOLID, NEAR = 128, 3  # grey level of a solid redaction, and how far a file format may take it
_REACH = 1.1  # half the side of a head's square, hair and chin included, in heights of the face
_ROOM = 2.4  # px of a canvas that a head needs for each px of its face's height


@dataclass(frozen=True, slots=True)
class Head:
    """Where a head is.

    Attributes:
        centre: of the face, x and y in px.
        face_height: brow to chin in px; a face is three quarters as wide.
        turn: degrees, counter-clockwise.
    """

    centre: tuple[float, float]
    face_height: float
    turn: float = 0


@dataclass(frozen=True, slots=True)
class Person:
    """A face in one of the tests' photos, upright.

    Attributes:
        photo: its name for ``photos.load``.
        centre: of the face, x and y in px.
        face_height: in px.
    """

    photo: str
    centre: tuple[int, int]
    face_height: int


# What CenterFace says of the photos, the middle of its looks, in px.
PEOPLE: dict[str, Person] = {
    "astronaut": Person("astronaut", (225, 120), 117), "hopper": Person("hopper", (262, 225), 230),
    "biden": Person("biden", (573, 367), 416), "obama": Person("obama", (493, 259), 329),
    "obama2": Person("obama2", (338, 431), 436), "obama3": Person("obama3", (778, 434), 376),
    "one": Person("six", (114, 329), 126), "two": Person("six", (322, 209), 114),
    "three": Person("six", (518, 342), 146), "four": Person("six", (795, 414), 135),
    "five": Person("six", (957, 132), 144), "six": Person("six", (1180, 335), 130),
}


# Pasting.

@functools.lru_cache(maxsize=2)
def _background(width: int, height: int) -> np.ndarray:
    picture = cv2.resize(photos.load("coffee"), (width, height), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(picture, (0, 0), width / 60)


def background(size: tuple[int, int] = SMALL) -> np.ndarray:
    """A blurred photo without anybody, of this width and height."""
    return _background(*size).copy()


def cut(person: Person, face_height: int, turn: float = 0) -> np.ndarray:
    """A square with the head, its face this high, turned; the centre of the face is in the middle."""
    picture, factor = photos.load(person.photo), face_height / person.face_height
    small = cv2.resize(picture, None, fx=factor, fy=factor,
                       interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    half = round(_REACH * face_height)
    x, y = person.centre[0] * factor, person.centre[1] * factor
    matrix = cv2.getRotationMatrix2D((x, y), turn, 1)
    matrix[:, 2] += half - np.array([x, y])
    return cv2.warpAffine(small, matrix, (2 * half, 2 * half), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def paste(canvas: np.ndarray, person: Person, centre: tuple[int, int], face_height: int, turn: float = 0,
          soft: bool = True) -> Head:
    """Puts a head into the canvas, as a disc with a soft or a hard edge; what is outside of the canvas is lost."""
    piece = cut(person, face_height, turn)
    half = len(piece) // 2
    rows, columns = np.mgrid[:2 * half, :2 * half] - half
    radius = 0.98 * half
    if soft:
        weight = np.clip((1 - np.hypot(rows, columns) / radius) / 0.15, 0, 1)[..., None]
    else:
        weight = (rows * rows + columns * columns <= radius**2)[..., None].astype(float)
    left, top = centre[0] - half, centre[1] - half
    (height, width), (low, high) = canvas.shape[:2], (max(0, -top), max(0, -left))
    down, right = min(2 * half, height - top), min(2 * half, width - left)
    if low < down and high < right:
        place = canvas[top + low:top + down, left + high:left + right]
        weight, piece = weight[low:down, high:right], piece[low:down, high:right]
        place[:] = np.rint(place * (1 - weight) + piece * weight)
    return Head(centre, face_height, turn)


def _canvases(people: Sequence[str], places: Sequence[tuple[int, int]], face_height: int, turn: float,
              size: tuple[int, int], soft: bool) -> Iterator[Canvas]:
    """As many people on each canvas as there are places."""
    if not places or len(set(people)) != len(people):
        raise ValueError(f"room for {len(places)} heads of {face_height} px on {size}; people: {list(people)}")
    for start in range(0, len(people), len(places)):
        canvas = background(size)
        yield canvas, {name: paste(canvas, PEOPLE[name], place, face_height, turn, soft)
                       for name, place in zip(people[start:start + len(places)], places, strict=False)}


def grid(people: Sequence[str], face_height: int, turn: float = 0, size: tuple[int, int] = SMALL,
         soft: bool = True) -> Iterator[Canvas]:
    """Canvases with as many heads as fit, spread over the whole canvas, and where each person's head is."""
    width, height = size
    most_columns, most_rows = (int(side / (_ROOM * face_height)) for side in size)
    count = min(len(people), most_columns * most_rows)
    columns = min(most_columns, max(math.ceil(math.sqrt(count * width / height)), math.ceil(count / max(1, most_rows))))
    rows = math.ceil(count / max(1, columns))
    places = [(round((column + 0.5) * width / columns), round((row + 0.5) * height / rows))
              for row in range(rows) for column in range(columns)]
    yield from _canvases(people, places, face_height, turn, size, soft)


def at_the_border(people: Sequence[str], face_height: int, share: float, size: tuple[int, int] = SMALL,
                  soft: bool = True) -> Iterator[Canvas]:
    """Canvases with upright heads of which the left or right border leaves this share of the face's width."""
    width, height = size
    inside = round((share - 0.5) * 0.75 * face_height)
    rows = int(height / (_ROOM * face_height))
    places = [(x, round((row + 0.5) * height / rows)) for row in range(rows) for x in (inside, width - 1 - inside)]
    yield from _canvases(people, places, face_height, 0, size, soft)


def cropped(pixels: np.ndarray, head: Head, share: float) -> tuple[np.ndarray, Head]:
    """The picture from the column on that leaves this share of the (upright) face's width, and the head in it."""
    x, y = head.centre
    start = max(0, round(x + (0.5 - share) * 0.75 * head.face_height))
    return np.ascontiguousarray(pixels[:, start:]), replace(head, centre=(x - start, y))


# What is in front of a face: colour, and rectangles (left, top, right, bottom) about its centre in heights of the face.

_Piece = tuple[tuple[int, int, int], tuple[float, float, float, float]]
_PIECES: dict[str, tuple[_Piece, ...]] = {
    "mask": (((235, 235, 240), (-0.5, 0.1, 0.5, 0.6)),),
    "sunglasses": (((15, 15, 15), (-0.5, -0.25, 0.5, 0)),),
    "hat": (((60, 40, 30), (-0.7, -0.8, 0.7, -0.2)),),
    "niqab": (((20, 20, 25), (-0.7, -0.9, 0.7, -0.25)), ((20, 20, 25), (-0.7, 0, 0.7, 1)),
              ((20, 20, 25), (-0.7, -0.3, -0.36, 0.1)), ((20, 20, 25), (0.36, -0.3, 0.7, 0.1))),
    "phone": (((25, 25, 30), (-0.12, -0.3, 0.36, 0.7)), ((200, 200, 205), (0.2, -0.25, 0.31, -0.14))),
}
OCCLUSIONS = ("mask", "sunglasses", "hat", "mask+sunglasses", "hat+mask", "hat+mask+sunglasses", "niqab", "phone")


def occluded(pixels: np.ndarray, heads: Iterable[Head], kind: str) -> np.ndarray:
    """A copy with something in front of every one of these heads, turned as they are; parts are joined by "+"."""
    result = pixels.copy()
    for head in heads:
        for part in sorted(kind.split("+"), key=("mask", "sunglasses", "hat", "niqab", "phone").index):
            for colour, (left, top, right, bottom) in _PIECES[part]:
                corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) * head.face_height
                place = np.rint(np.array(head.centre) + corners @ turn_matrix(head.turn).T)
                cv2.fillConvexPoly(result, place.astype(np.int32), colour)
    return result


# Damage to a whole canvas, for faces of about 80 px.
DAMAGES: dict[str, Apply] = {
    "motion blur 21 px": motion_blur(21),
    "gamma 0.3": gamma(0.3),
    "gamma 3": gamma(3),
    "darkness": curve(lambda levels: 0.15 * levels),
    "noise 80": noise(80),
    "JPEG 5": encoded("JPEG", 5),
    "blur 6 px": blur(6),
}


# Measuring.

def face(head: Head, height: int, width: int) -> np.ndarray:
    """H x W, true inside the ellipse of the face, three quarters as wide as high and turned as the head is."""
    y, x = np.mgrid[:height, :width]
    cosine, sine = turn_matrix(head.turn)[0]
    across, down = x - head.centre[0], y - head.centre[1]
    return np.hypot((cosine * across - sine * down) / 0.375, (sine * across + cosine * down) / 0.5) <= head.face_height


def covered(before: np.ndarray, after: np.ndarray, head: Head) -> float:
    """The share of a head's face inside the picture that a solid redaction replaced; see :func:`covered_at`."""
    rows, columns = np.nonzero(face(head, *after.shape[:2]))
    return covered_at(before, after, np.column_stack([columns, rows]))


def covered_at(before: np.ndarray, after: np.ndarray, points_xy: np.ndarray) -> float:
    """The share of points inside the picture that became grey: within 3 levels of 128.

    Points outside, points that are nan and what was grey before count neither way; 1 where nothing else is left.
    """
    if before.shape != after.shape:
        raise ValueError(f"pictures of one shape are wanted, not {before.shape} and {after.shape}")
    height, width = after.shape[:2]
    points = np.asarray(points_xy, float)
    points = np.rint(points[np.isfinite(points).all(axis=1)])
    x, y = points[((points >= 0) & (points < (width, height))).all(axis=1)].astype(int).T
    grey = [(np.abs(pixels[y, x].astype(int) - SOLID) <= NEAR).all(axis=-1) for pixels in (before, after)]
    return float(grey[1][~grey[0]].mean()) if (~grey[0]).any() else 1.0
