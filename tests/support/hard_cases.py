"""64 pictures on which detection, verification and redaction went wrong, with what would be right.

Names, order and pixels are those of the list that the faults were reported with, and so are the places of heads, as
given there: its Hopper is described 35 px too high and a quarter too small (``pasted.PEOPLE`` has the true face).
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image

import photos
from pasted import LARGE, OCCLUSIONS, SMALL, Head, Person, background, occluded, paste

Right = Literal["covered", "saved", "refused"]
_PERSONS = {"astronaut": Person("astronaut", (224, 120), 118), "hopper": Person("hopper", (255, 190), 170)}
_ASTRONAUT, _HOPPER = _PERSONS.values()


@dataclass(frozen=True, slots=True)
class Case:
    """A picture, perhaps a result for it, and what would be right.

    Attributes:
        name: of the case.
        original: H x W x 3, uint8.
        result: pixels that somebody calls the anonymized original, or None: let the product make it.
        heads: in the original.
        result_heads: in the result, where that is another place.
        right: "covered": saved with at least 90 % of every face covered, or not saved at all; "saved": saved with every
            face covered, a refusal is a fault; "refused": never called safe or redacted, nor saved with a face in it.
    """

    name: str
    original: np.ndarray
    result: np.ndarray | None
    heads: tuple[Head, ...]
    result_heads: tuple[Head, ...] | None
    right: Right


Made = tuple[np.ndarray, np.ndarray | None, tuple[Head, ...], tuple[Head, ...] | None]
Maker = Callable[[], Made]


def _head(person: Person) -> Head:
    return Head(person.centre, person.face_height)


def _beside(face_height: int, turn: float, size: tuple[int, int], centre: tuple[int, int], occlusion: str = "") -> Made:
    """An upright head, and another one that is harder to find."""
    canvas = background(size)
    heads = (paste(canvas, _ASTRONAUT, (250, 300), 120, soft=False),
             paste(canvas, _HOPPER, centre, face_height, turn, soft=False))
    return occluded(canvas, heads[1:], occlusion) if occlusion else canvas, None, heads, None


def _turned(person: Person, quarters: int) -> tuple[np.ndarray, Head]:
    """The photo turned counter-clockwise."""
    picture, (x, y) = photos.load(person.photo), person.centre
    height, width = picture.shape[:2]
    centre = {1: (y, width - 1 - x), 2: (width - 1 - x, height - 1 - y), 3: (height - 1 - y, x)}[quarters]
    return np.ascontiguousarray(np.rot90(picture, quarters)), Head(centre, person.face_height, 90 * quarters)


def _whole(person: Person, quarters: int) -> Made:
    picture, head = _turned(person, quarters)
    return picture, None, (head,), None


def _turned_result(person: Person, quarters: int) -> Made:
    picture, head = _turned(person, quarters)
    return photos.load(person.photo), picture, (_head(person),), (head,)


def _upside_down(person: Person) -> Made:
    picture, (x, y) = photos.load(person.photo), person.centre
    return picture, np.ascontiguousarray(picture[::-1]), (_head(person),), (
        Head((x, len(picture) - 1 - y), person.face_height, 180),)


def _filtered(person: Person, kind: str) -> Made:
    picture = photos.load(person.photo)
    if kind.startswith("blur"):
        result = cv2.GaussianBlur(picture, (0, 0), 0.75 * person.face_height / int(kind.removeprefix("blur")))
    else:
        result = 255 - picture if kind == "negative" else 255 - cv2.cvtColor(
            cv2.Canny(picture, 60, 140), cv2.COLOR_GRAY2RGB)
    return picture, result, (_head(person),), None


def _close_up(person: Person, side: int) -> Made:
    (x, y), half = person.centre, round(0.6 * person.face_height)
    close = photos.load(person.photo)[max(0, y - half):y + half, max(0, x - half):x + half]
    scaled = cv2.resize(close, (side, side), interpolation=cv2.INTER_CUBIC)
    return scaled, None, (Head((side // 2, side // 2), round(side * 0.83)),), None


def _another_photo() -> Made:
    result = cv2.resize(photos.load("hopper"), (512, 600))
    return photos.load("astronaut"), result, (_head(_ASTRONAUT),), (_head(_HOPPER),)


def _nobody() -> Made:
    return photos.load("coffee"), cv2.resize(photos.load("astronaut"), (600, 400)), (), (Head((262, 94), 92),)


def _webp() -> Made:
    file = io.BytesIO()
    Image.fromarray(photos.load("astronaut")).save(file, "WEBP", quality=80)
    return np.array(Image.open(file).convert("RGB")), None, (_head(_ASTRONAUT),), None


def _makers() -> Iterator[tuple[str, Right, Maker]]:
    make = functools.partial
    for size in (40, 80, 160):
        for turn in (0, 45, 90, 120, 180, 240, 270):
            yield f"beside_{size}px_{turn}deg", "covered", make(_beside, size, turn, SMALL, (720, 330))
    for name, person in _PERSONS.items():
        for quarters in (1, 2, 3):
            yield f"whole_{name}_{90 * quarters}deg", "saved", make(_whole, person, quarters)
        yield f"result_{name}_rot90", "refused", make(_turned_result, person, 1)
        yield f"result_{name}_rot180", "refused", make(_turned_result, person, 2)
        yield f"result_{name}_upside_down", "refused", make(_upside_down, person)
        for kind in ("blur16", "blur12", "negative", "edges"):
            yield f"filter_{name}_{kind}", "refused", make(_filtered, person, kind)
        for side in (512, 1024, 4096):
            yield f"closeup_{name}_{side}", "saved", make(_close_up, person, side)
    yield "another_persons_photo", "refused", _another_photo
    yield "nobody_in_the_original", "refused", _nobody
    for canvas, sizes in ((SMALL, (12, 16, 20, 24, 32)), (LARGE, (24, 32, 40))):
        for size in sizes:
            place = (canvas[0] * 3 // 4, 200 + 3 * size)
            yield f"small_{size}px_on_{canvas[0]}", "covered", make(_beside, size, 0, canvas, place)
    for kind in OCCLUSIONS[:6]:
        yield f"occluded_{kind}", "covered", make(_beside, 80, 0, SMALL, (720, 330), kind)
    yield "webp80", "saved", _webp


_MAKERS: dict[str, Maker] = {name: maker for name, _, maker in _makers()}
RIGHT: dict[str, Right] = {name: right for name, right, _ in _makers()}
NAMES = tuple(RIGHT)


def case(name: str) -> Case:
    """The case of this name, made anew."""
    return Case(name, *_MAKERS[name](), RIGHT[name])


def cases() -> Iterator[Case]:
    """All of them, each made when it is asked for."""
    return map(case, NAMES)
