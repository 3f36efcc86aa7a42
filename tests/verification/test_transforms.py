"""Photos that were filtered, turned, bent or cut, and handed in as results: nobody in them is ever "safe".

A seeded part of 88 transforms of six photos and of 100 pairs of transforms; ``--all`` runs all of them.
"""

from __future__ import annotations

import functools
import itertools

import cv2
import numpy as np
import pytest

import photos
from camouflage.verification.binding import same_shape
from camouflage.verification.centerface import CenterFace
from camouflage.verification.detection import DlibHog
from camouflage.verification.recognition import DlibRecogniser
from camouflage.verification.report import Verdict
from camouflage.verification.verify import Blocked, Originals, Verifier
from pasted import PEOPLE, covered_at
from sampled import sampled
from transforms import COUNT, TRANSFORMS, Transform, outline, pairs

NAMES = ("astronaut", "hopper", "biden", "obama2", "obama3", "six")
LONGEST = 448  # px
LEAST = 0.9  # share of a face that has to be covered
SEEN = 0.1  # share of a face that has to be in the picture, so that there is somebody
PAIRS = {change.name: change for change in pairs(100, 0)}
ALONE = list(itertools.product(NAMES, TRANSFORMS))
PAIRED = [(NAMES[number % len(NAMES)], name) for number, name in enumerate(PAIRS)]


@functools.cache
def photo(name: str) -> np.ndarray:
    """At most 448 px a side."""
    pixels = photos.load(name)
    factor = min(1, LONGEST / max(pixels.shape))
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@functools.cache
def heads(name: str) -> list[np.ndarray]:
    """Points, n x 2, inside every face of a photo."""
    factor = photo(name).shape[0] / photos.load(name).shape[0]
    return [outline((person.centre[0] * factor, person.centre[1] * factor), person.face_height * factor)
            for person in PEOPLE.values() if person.photo == name]


@functools.cache
def verifier() -> Verifier:
    recogniser = DlibRecogniser()
    return Verifier((CenterFace(), DlibHog()), recogniser, recogniser.threshold)


@functools.cache
def originals(name: str) -> Originals:
    return verifier().originals(photo(name))


def shares(name: str, change: Transform, before: np.ndarray, after: np.ndarray) -> list[float]:
    """How much of every face that is in the result is covered; the transform says where it went."""
    height, width = before.shape[:2]
    found = []
    for points in heads(name):
        there = change.where(points, *photo(name).shape[:2])
        there = there[np.isfinite(there).all(axis=1)]
        there = there[((there > -0.5) & (there < (width - 0.5, height - 0.5))).all(axis=1)]
        if len(there) >= SEEN * len(points):
            found.append(covered_at(before, after, there))
    return found


def check(name: str, change: Transform) -> None:
    """Hands a transformed photo in as a result: refused, or saved with every head covered and nobody "safe"."""
    result = change.apply(photo(name))
    if not same_shape(photo(name).shape[:2], result.shape[:2]):
        return  # refused by the node, see tests/comfy/test_verify_nodes.py
    try:
        after, checked = verifier().settle(originals(name), result, others=[originals(name)])
    except Blocked:
        return
    said = [f"{person}" for person in checked.persons]
    assert Verdict.SAFE not in [person.verdict for person in checked.persons], said
    assert checked.passes and checked.verdict == "redacted", said
    assert all(share >= LEAST for share in shares(name, change, result, after)), (
        shares(name, change, result, after), said)


def test_the_table_is_whole():
    assert len(ALONE) == 6 * COUNT == 528 and len(PAIRED) == 100
    assert [len(heads(name)) for name in NAMES] == [1, 1, 1, 1, 1, 6]
    assert all(len(originals(name).faces) >= len(heads(name)) for name in sampled(NAMES, 3))


def test_an_uncovered_face_would_be_told():
    still, moved = Transform("still", np.copy), TRANSFORMS["turned 90"]
    assert shares("six", still, photo("six"), photo("six")) == [0.0] * 6
    for change in (still, moved):
        result = change.apply(photo("hopper"))
        assert shares("hopper", change, result, np.full_like(result, 128)) == [1.0]
        assert shares("hopper", change, result, result) == [0.0]


@pytest.mark.parametrize(("name", "change"), sampled(ALONE, 3))
def test_a_transformed_photo_is_never_safe(name, change):
    check(name, TRANSFORMS[change])


@pytest.mark.parametrize(("name", "change"), sampled(PAIRED, 1))
def test_nor_is_one_that_was_transformed_twice(name, change):
    check(name, PAIRS[change])


def test_not_everything_is_refused():
    result = TRANSFORMS["negative"].apply(photo("hopper"))
    after, checked = verifier().settle(originals("hopper"), result)
    assert checked.passes and min(shares("hopper", TRANSFORMS["negative"], result, after)) >= LEAST
