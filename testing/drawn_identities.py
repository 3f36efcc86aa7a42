"""Many photos of one drawn person: who they are stays, all else is random from photo to photo.

Of an identity stay the shape of the face, the colours of skin, hair and eyes, and those of the 40 attributes that a
person keeps (``OF_THE_PHOTO`` lists the others). Random in every photo are background, clothes and what is worn on the
head, expression, place, size, tilt, light and noise. So nothing but the head tells two persons apart, and nothing but
the person makes two of their photos alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from camouflage.errors import CamouflageError
from camouflage.method.faces import Box
from camouflage.validation import whole
from camouflage.verification.redaction import Region, redact
from testing.drawn_faces import SMALLEST, background, random_look, resolve
from testing.drawn_person import FINE, RIM, Pen, Person

OF_THE_PHOTO = ("Eyeglasses", "Heavy_Makeup", "Mouth_Slightly_Open", "Rosy_Cheeks", "Smiling", "Wearing_Earrings",
                 "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie")
"""Attributes that change from photo to photo; ``Blurry`` is never on."""
_WORN = ("cloth", "stripe", "pattern", "beanie", "round", "hat", "tie", "shadow", "lips", "frame")
_REACH = 2.2  # units from the middle of the head that lie in every photo: hair, hat, shoulders
FACE, HEAD = 1.1, 1.75
"""Sides of crops, in widths of the face's box: from the hairline to the chin, all of it within what the library's
redaction covers; and with the hair, the neck and something of the clothes and the background."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo.

    Attributes:
        pixels: H x W x 3, uint8.
        box_ltrb: of the face, brow to chin and ear to ear, px.
    """

    pixels: np.ndarray
    box_ltrb: Box


def photograph(identity: int, number: int, size: int = 96) -> Photo:
    """Draws an identity.

    Args:
        identity: who: the same number is the same person.
        number: of the photo of this person: the same number is the same photo.
        size: px of a side, 32..2048.

    Raises:
        CamouflageError: a number of another type or range.
    """
    whole(identity, 0, 2**63, "identity")
    whole(number, 0, 2**63, "number")
    whole(size, SMALLEST, 2048, "size")
    rng = random.Random(f"photo {number} of identity {identity}")
    unit = size / (2 * _REACH) * rng.uniform(0.85, 1)
    x, y = (rng.uniform(_REACH * unit, size - _REACH * unit) for _ in range(2))
    tilt = rng.uniform(-10, 10)
    person = Person(random.Random(f"identity {identity}"), x, y - 0.2 * unit, unit, tilt)
    dressed = Person(rng, x, y, unit, tilt)
    for name in _WORN:
        setattr(person, name, getattr(dressed, name))
    image = background(rng, size, size)
    rim = Pen(image, person.x, person.y, unit, tilt).at(RIM)
    person.draw_body(image)
    person.draw_head(image, _look(identity, rng))
    (left, top), (right, bottom) = rim.min(axis=0).tolist(), rim.max(axis=0).tolist()
    return Photo(_lit(np.array(image.reduce(FINE)), np.random.default_rng(rng.getrandbits(64))),
                 (left, top, right, bottom))


def _look(identity: int, rng: random.Random) -> dict[str, bool]:
    """The identity's attributes, but for those that a photo decides."""
    always = random_look(random.Random(f"look of identity {identity}"))
    now = random_look(rng)
    while now["Male"] != always["Male"]:
        now = random_look(rng)
    return resolve(always | {name: now[name] for name in OF_THE_PHOTO} | {"Blurry": False})


def _lit(pixels: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Another light: stronger or weaker, tinted, from one side; and noise."""
    size = len(pixels)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, size),) * 2), axis=-1)
    angle = chance.uniform(0, 2 * np.pi)
    side = 1 + chance.uniform(0, 0.2) * (place @ np.array([np.cos(angle), np.sin(angle)]))[..., None]
    light = chance.uniform(0.75, 1.15) * chance.uniform(0.94, 1.06, 3)
    return np.clip(pixels * light * side + chance.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)


def crop(pixels: np.ndarray, box_ltrb: Box, side: int = 32, width: float = FACE, jitter: int | None = None
         ) -> np.ndarray:
    """A square about a face.

    Args:
        pixels: H x W x 3, uint8.
        box_ltrb: of the face, px.
        side: of the crop, px.
        width: of the crop, in widths of the box, see ``FACE`` and ``HEAD``.
        jitter: seed of an error of up to 3 % in place and size, as a detector makes it; None: exact.

    Returns:
        3 x side x side, float32, 0..1.
    """
    left, top, right, bottom = box_ltrb
    wide = right - left
    x, y, half = (left + right) / 2, top + 0.45 * (bottom - top), width * wide / 2
    if jitter is not None:
        chance = np.random.default_rng(jitter)
        x, y = (place + wide * chance.uniform(-0.03, 0.03) for place in (x, y))
        half *= chance.uniform(0.97, 1.03)
    if x - half < 0 or y - half < 0 or x + half > pixels.shape[1] or y + half > pixels.shape[0]:
        raise CamouflageError("A crop leaves its picture.")
    small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX, box=(x - half, y - half, x + half,
                                                                                    y + half))
    return (np.asarray(small, np.float32) / 255).transpose(2, 0, 1)


def _same(pixels: np.ndarray, box_ltrb: Box) -> np.ndarray:
    return pixels


def _weak_blur(pixels: np.ndarray, box_ltrb: Box) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(pixels, (0, 0), 0.05 * (box_ltrb[2] - box_ltrb[0]))


def _cells(pixels: np.ndarray, box_ltrb: Box) -> np.ndarray:
    """Means of 16 x 16 cells over the crop ``FACE`` of a face, and on beyond it."""
    left, top, right, bottom = box_ltrb
    cell = FACE * (right - left) / 16
    x, y = (left + right) / 2, top + 0.45 * (bottom - top)
    rows, columns = (np.floor((np.arange(size) + 0.5 - at) / cell).astype(int)
                     for size, at in zip(pixels.shape, (y, x), strict=False))
    rows, columns = rows - rows.min(), columns - columns.min()
    number = rows[:, None] * (columns.max() + 1) + columns
    counts = np.maximum(np.bincount(number.ravel()), 1)
    means = [np.bincount(number.ravel(), pixels[..., i].ravel()) / counts for i in range(3)]
    return np.stack(means, axis=-1)[number].round().astype(np.uint8)


def _redaction(mode: str) -> Method:
    def method(pixels: np.ndarray, box_ltrb: Box) -> np.ndarray:
        return redact(pixels, [Region(box_ltrb, mode)])

    return method


Method = Callable[[np.ndarray, Box], np.ndarray]
METHODS: dict[str, Method] = {"original": _same, "weak blur": _weak_blur, "mosaic of 16 cells": _cells,
                              "our mosaic of 6 cells": _redaction("mosaic"), "our blur": _redaction("blur"),
                              "our solid": _redaction("solid")}
"""Pixels and the face's box -> anonymized pixels, from the weakest on. The weak blur's sigma is a twentieth of the
face's width; "ours" is the library's redaction."""


def portraits(identities: int, each: int, first: int = 0) -> tuple[list[Photo], np.ndarray]:
    """Photos of many: ``each`` of every identity from ``first`` on, and n numbers of the persons."""
    persons = np.repeat(np.arange(identities), each)
    return [photograph(first + int(who), index % each) for index, who in enumerate(persons)], persons


def crops(photos: Iterable[Photo], method: str = "original", side: int = 32, width: float = FACE) -> np.ndarray:
    """Crops of anonymized photos, n x 3 x side x side, float32, 0..1; a photo is cropped alike after every method."""
    return np.stack([crop(METHODS[method](photo.pixels, photo.box_ltrb), photo.box_ltrb, side, width, jitter=index)
                     for index, photo in enumerate(photos)])
