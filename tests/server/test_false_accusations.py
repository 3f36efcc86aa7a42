"""Ordinary photos, covered by the shipped redaction: all of them are saved, nobody is accused by our own grey.

Ten photos, each in six orientations, sizes and encodings; a part of the sixty, ``--all`` runs all.
"""

from __future__ import annotations

import copy
import functools
import io
import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from PIL import Image

import photos
from pasted import PEOPLE, Head, covered
from sampled import sampled
from served import change
from shipped import files, pixels, queueable, texts, upload
from transforms import TRANSFORMS

LEAST = 0.9  # share of a face that has to be covered
WHOLE = ("astronaut", "hopper", "biden", "obama", "obama2", "obama3", "six")
CLOSE = ("astronaut", "hopper", "obama3")
SOURCES = (*WHOLE, *(f"{name}, close" for name in CLOSE))


@dataclass(frozen=True)
class Look:
    """An ordinary way to take, keep and save a photo.

    Attributes:
        longest: px of the photo's longer side.
        turned: one of the transforms' quarter turns; empty: upright.
        came: format and quality of the file that it came in; PNG keeps the pixels.
        format, quality: of Save Anonymized.
    """

    longest: int
    turned: str
    came: tuple[str, int]
    format: str
    quality: int

    def __str__(self) -> str:
        return (f"{self.longest} px, {self.turned or 'upright'}, {self.came[0]} {self.came[1]}, "
                f"to {self.format} {self.quality}")


LOOKS = (
    Look(768, "", ("JPEG", 75), "PNG", 95),
    Look(512, "turned 90", ("PNG", 0), "JPEG", 95),
    Look(640, "turned 270", ("JPEG", 90), "WebP", 80),
    Look(400, "", ("WebP", 80), "JPEG", 80),
    Look(1024, "mirrored", ("PNG", 0), "WebP", 80),
    Look(600, "turned 180", ("JPEG", 50), "JPEG", 80),
)
PHOTOS = list(itertools.product(SOURCES, LOOKS))


def encoded(picture: np.ndarray, kind: str, quality: int) -> np.ndarray:
    """What a file of this kind makes of the pixels."""
    if kind == "PNG":
        return picture
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, quality=quality)
    return np.array(Image.open(file).convert("RGB"))


@functools.cache
def source(name: str) -> tuple[np.ndarray, tuple[Head, ...]]:
    """A photo, or the square around its face, and everybody in it."""
    photo, close = name.removesuffix(", close"), name.endswith(", close")
    picture = photos.load(photo)
    people = [person for person in PEOPLE.values() if person.photo == photo]
    if not close:
        return picture, tuple(Head(person.centre, person.face_height) for person in people)
    (person,) = people
    (x, y), half = person.centre, round(0.8 * person.face_height)
    left, top = max(0, x - half), max(0, y - half)
    return picture[top:y + half, left:x + half], (Head((x - left, y - top), person.face_height),)


def made(name: str, look: Look) -> tuple[np.ndarray, list[Head]]:
    """The photo as it is taken in, and everybody in it."""
    picture, heads = source(name)
    factor = look.longest / max(picture.shape)
    scaled = cv2.resize(picture, None, fx=factor, fy=factor,
                        interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    places = np.array([head.centre for head in heads]) * factor
    turn = 0
    if look.turned:
        move = TRANSFORMS[look.turned]
        places, scaled = move.where(places, *scaled.shape[:2]), move.apply(scaled)
        turn = int(look.turned.removeprefix("turned ")) if look.turned.startswith("turned") else 0
    return encoded(scaled, *look.came), [Head((float(x), float(y)), head.face_height * factor, turn)
                                         for (x, y), head in zip(places, heads, strict=True)]


@pytest.fixture(scope="module")
def save(server, tmp_path_factory):
    """save(picture, look) -> the saved picture and the verdict in words, from the shipped redaction."""
    folder, counted = tmp_path_factory.mktemp("photos"), itertools.count()
    redacting = queueable(server, "redact", "example.png")

    def call(picture: np.ndarray, look: Look) -> tuple[np.ndarray, str]:
        api = copy.deepcopy(redacting)
        change(api, "LoadImage", image=upload(server, folder, f"ordinary-{next(counted)}.png", picture))
        change(api, "CamouflageSaveImage", format=look.format, quality=look.quality)
        before = files(server, "output")
        entry = server.run(api)
        (saved,) = [path for path in files(server, "output") - before if path.suffix != ".json"]
        assert saved.suffix == {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}[look.format]
        return pixels(saved), texts(api, entry)["Verdict"]

    return call


def test_there_are_sixty():
    assert len(PHOTOS) == 60
    assert {(look.format, look.quality) for look in LOOKS} == {("PNG", 95), ("JPEG", 95), ("JPEG", 80), ("WebP", 80)}
    assert [len(source(name)[1]) for name in SOURCES] == [1] * 6 + [6] + [1] * 3


@pytest.mark.parametrize(("name", "look"), sampled(PHOTOS, 1, seed=7), ids=str)
def test_an_ordinary_covered_photo_is_saved(save, name, look):
    picture, heads = made(name, look)
    saved, verdict = save(picture, look)
    assert "verdict: redacted" in verdict and ": redacted, " in verdict
    shares = [round(covered(picture, saved, head), 2) for head in heads]
    assert all(share >= LEAST for share in shares), f"{shares}\n{verdict}"
