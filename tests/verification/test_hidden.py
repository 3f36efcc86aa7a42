"""What was destroyed, and what of it the pixels alone prove."""

from __future__ import annotations

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

import photos
from camouflage.verification.hidden import Hidden
from camouflage.verification.places import bounds
from camouflage.verification.redaction import Region, changed, filled, redact

FACE = (178.0, 60.0, 272.0, 178.0)  # of the astronaut
TURNS = (0.0, 30.0, 90.0, -135.0, 180.0)
NOISE = np.random.default_rng(0).integers(0, 256, (200, 240, 3), dtype=np.uint8)
BOX = (90.0, 70.0, 140.0, 130.0)


def encoded(pixels: np.ndarray, kind: str, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def hidden(box=BOX, mode: str = "solid", turn: float = 0.0) -> Hidden:
    return Hidden().with_person(0, mode, [Region(box, mode, 1.0, turn)])


def covered(box=BOX, turn: float = 0.0, pixels: np.ndarray = NOISE) -> np.ndarray:
    return redact(pixels, [Region(box, turn=turn)])


@pytest.mark.parametrize("turn", TURNS)
def test_a_solid_fill_proves_itself_where_it_was_made(turn) -> None:
    pixels = covered(turn=turn)
    assert filled(pixels, BOX, turn) and not filled(NOISE, BOX, turn)
    assert hidden(turn=turn).proves(pixels, 0, (BOX, turn))
    if turn in (90, -135):
        assert not filled(pixels, (90.0, 110.0, 140.0, 170.0), turn), "not beside it"
    assert not hidden(turn=turn).proves(NOISE, 0, (BOX, turn))


def test_only_solid_regions_that_are_known_prove_anything() -> None:
    pixels, place = covered(), (BOX, 0.0)
    assert not hidden(mode="mosaic").proves(pixels, 0, place)
    assert not hidden(mode="blur").proves(pixels, 0, place)
    assert not hidden().proves(pixels, 1, place), "nobody hid person 1"
    assert not Hidden.of({0: "solid"}).proves(pixels, 0, place), "where it was is not known"
    assert Hidden.of(None).regions == [] and not Hidden.of(None).begun
    assert Hidden.of(hidden()).persons == {0: "solid"}


@pytest.mark.parametrize(("kind", "quality"), [("JPEG", 95), ("JPEG", 75), ("WEBP", 80), ("WEBP", 95)])
@pytest.mark.parametrize("turn", [0.0, 90.0, 37.0])
def test_a_fill_still_proves_after_a_file_format(kind, quality, turn) -> None:
    """Of a face 178 px wide: an encoder's blocks of up to 16 px carry the outline's colours into a small one."""
    photo, face = photos.load("hopper"), (184.0, 120.0, 362.0, 338.0)
    fill = redact(photo, [Region(face, turn=turn)])
    pixels = encoded(fill, kind, quality)
    assert (pixels != fill).any()
    assert hidden(face, turn=turn).proves(pixels, 0, (face, turn))
    assert not hidden(face, turn=turn).proves(encoded(photo, kind, quality), 0, (face, turn))


@pytest.mark.parametrize("turn", TURNS)
def test_one_pixel_of_the_face_is_enough_to_prove_nothing(turn) -> None:
    x, y = 115, 100  # the centre
    for level, proves in ((128 + 3, True), (128 - 3, True), (128 + 4, False), (128 - 4, False)):
        for channel in range(3):
            pixels = covered(turn=turn)
            pixels[y, x, channel] = level
            assert hidden(turn=turn).proves(pixels, 0, (BOX, turn)) is proves
    corners = [(92, 72), (137, 127)] if turn == 0 else []
    for x, y in corners:
        pixels = covered()
        pixels[y, x] = NOISE[y, x] // 2
        assert not filled(pixels, BOX)


@pytest.mark.parametrize("width", [24, 30, 40, 60, 94])
@pytest.mark.parametrize(("kind", "quality"), [("JPEG", 95), ("JPEG", 80), ("WEBP", 80)])
def test_small_fills_prove_too_once_it_is_known_that_they_were_encoded(width, kind, quality) -> None:
    """At 16 positions in an encoder's blocks; a real face, and the fill a little off, prove nothing all the same."""
    pixels = photos.load("astronaut")
    factor = width / (FACE[2] - FACE[0])
    small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    for right in range(0, 16, 4):
        for down in range(0, 16, 4):
            moved = np.roll(small, (down, right), axis=(0, 1))
            box = tuple(float(v * factor + (right, down)[i % 2]) for i, v in enumerate(FACE))
            known = replace(hidden(box), encoded=True)
            assert known.proves(encoded(redact(moved, [Region(box)]), kind, quality), 0, (box, 0.0)), (right, down)
            assert not known.proves(encoded(moved, kind, quality), 0, (box, 0.0))
    faint = np.clip(redact(moved, [Region(box)]).astype(int) + (moved.astype(int) - 128) // 16, 0, 255).astype(np.uint8)
    assert not known.proves(faint, 0, (box, 0.0)), "a sixteenth of the face"


def test_what_lies_outside_the_picture_needs_no_proof() -> None:
    assert filled(NOISE, (-200, -200, -150, -140))
    box = (-20.0, 60.0, 40.0, 130.0)
    assert filled(covered(box), box) and not filled(NOISE, box)


@pytest.mark.parametrize("turn", TURNS)
def test_a_face_that_is_found_in_the_fill_is_none(turn) -> None:
    pixels = covered(turn=turn)
    known = hidden(turn=turn)
    assert known.is_fill(pixels, BOX, turn)
    assert known.is_fill(pixels, (100, 80, 130, 120), 0.0)
    assert not known.is_fill(NOISE, BOX, turn), "what is not grey is no fill"
    assert not known.is_fill(np.full_like(NOISE, 128), (5, 5, 35, 45), 0.0), "grey that we did not make"
    assert not Hidden().is_fill(pixels, BOX, turn), "nor where nothing was filled"
    assert not hidden(mode="mosaic", turn=turn).is_fill(pixels, BOX, turn), "only a solid fill"


def test_of_a_real_face_that_is_half_covered_the_fill_is_not_most() -> None:
    astronaut = photos.load("astronaut")
    left, top, right, bottom = FACE
    for share in (0.5, 0.7):
        beside = (left - (1 - share) * (right - left) - 20, top, left + (2 * share - 1) * (right - left) / 2, bottom)
        region = Region(beside)
        pixels = redact(astronaut, [region])
        x0, y0, x1, y1 = map(int, FACE)
        part = (pixels[y0:y1, x0:x1] == 128).all(axis=2).mean()
        assert 0.2 < part < 0.8
        known = Hidden().with_person(0, "solid", [region])
        assert not known.is_fill(pixels, FACE, 0.0)
        assert not known.proves(pixels, 0, (FACE, 0.0))


def test_an_area_is_fill_too() -> None:
    area = np.zeros(NOISE.shape[:2], bool)
    area[60:140, 80:150] = True
    pixels = redact(NOISE, [], area)
    assert (pixels[area] == 128).all() and np.array_equal(pixels[~area], NOISE[~area])
    known = Hidden().with_area(area)
    assert known.begun and known.is_fill(pixels, BOX, 0.0) and not known.is_fill(NOISE, BOX, 0.0)
    more = np.zeros_like(area)
    more[0:10] = True
    assert np.array_equal(known.with_area(more).area, area | more)
    assert np.array_equal(known.area, area), "the first one stays as it was"


def test_what_is_covered_is_what_is_changed() -> None:
    area = np.zeros(NOISE.shape[:2], bool)
    area[150:190, 10:60] = True
    known = hidden(turn=90.0).with_new([Region((20, 20, 50, 60))]).with_area(area)
    where = known.covers(NOISE.shape)
    assert np.array_equal(where, changed(NOISE.shape, known.regions, area))
    assert np.array_equal(where, changed(NOISE.shape, known.regions) | area)
    pixels = redact(NOISE, known.regions, known.area)
    assert np.array_equal(pixels[~where], NOISE[~where])
    assert (pixels[where] != NOISE[where]).any(axis=1).mean() > 0.95
    assert where[area].all()


def test_who_is_hidden_once_more_stays_hidden_where_they_were() -> None:
    first = hidden(mode="mosaic")
    second = first.with_person(0, "solid", [Region((0, 0, 30, 40), "solid", 1.25)])
    assert second.persons == {0: "solid"} and first.persons == {0: "mosaic"}
    assert second.places[0] == (Region(BOX, "solid", 1.25), Region((0, 0, 30, 40), "solid", 1.25))
    again = second.with_person(0, "solid", [Region(BOX, "solid", 1.25)])
    assert again.places[0] == second.places[0], "nothing twice"
    both = again.with_person(1, "blur", [Region((50, 50, 60, 60), "blur")]).with_new([Region((5, 5, 9, 9))])
    assert [region.mode for region in both.regions] == ["solid", "solid", "blur", "solid"]
    assert both.new == ((Region((5, 5, 9, 9)),),)


def test_the_bounds_of_a_turned_fill_are_looked_at() -> None:
    """A detector may tell a turned head as an upright box: the fill is no face there either."""
    pixels = covered(turn=90.0)
    assert hidden(turn=90.0).is_fill(pixels, bounds(BOX, 90.0), 0.0)
    assert cv2.countNonZero((pixels == 128).all(axis=2).astype(np.uint8)) > 3000
