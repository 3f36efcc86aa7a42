"""What binds a result to its original: shapes, and views that were turned, mirrored, shifted or cut as a whole."""

from __future__ import annotations

import functools
import itertools

import cv2
import numpy as np
import pytest

import photos
from camouflage.verification import binding
from filters import FILTERS
from sampled import sampled
from transforms import TRANSFORMS

NAMES = ("astronaut", "hopper", "six")
FILTERED = [(name, change) for name in (*NAMES, "biden") for change in FILTERS]


@functools.cache
def photo(name: str) -> np.ndarray:
    pixels = photos.load(name)
    factor = min(1, 640 / max(pixels.shape))
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@functools.cache
def outline(name: str) -> np.ndarray:
    return binding.outline(photo(name))


def moved(name: str, change: str) -> binding.Moved | None:
    return binding.moved(outline(name), binding.outline(TRANSFORMS[change].apply(photo(name))))


@pytest.mark.parametrize(("original", "result", "same"), [
    ((1000, 2000), (1000, 2000), True), ((1000, 2000), (500, 1000), True), ((1000, 2000), (3000, 6000), True),
    ((1000, 2000), (1000, 2020), True), ((1000, 2000), (1010, 2000), True), ((1000, 2000), (990, 2000), True),
    ((1000, 2000), (1000, 2023), False), ((1000, 2000), (1013, 2000), False), ((1000, 2000), (987, 2000), False),
    ((1000, 2000), (2000, 1000), False), ((1000, 1001), (1001, 1000), True), ((300, 300), (300, 304), False),
    ((30, 40), (31, 40), True), ((30, 40), (30, 41), True), ((30, 40), (32, 40), False), ((30, 40), (30, 42), False),
    ((30, 4000), (31, 4000), True), ((30, 4000), (32, 4000), False), ((3, 4), (768, 1024), True),
    ((1, 1), (1, 2), True), ((1, 1), (1, 4), False)])
def test_same_shape_is_one_part_in_100_or_1_px(original, result, same) -> None:
    assert binding.same_shape(original, result) is same


MOVES = [
    ("turned 90", "turned by 90 degrees"), ("turned 180", "turned by 180 degrees"),
    ("turned 270", "turned by 270 degrees"), ("turned 45", "turned by 45 degrees"), ("mirrored", "mirrored"),
    ("upside down", "mirrored and turned by 180 degrees"), ("transposed", "mirrored and turned by 90 degrees"),
    ("shifted 25 %, wrapped", "shifted"), ("scaled 1.6", "scaled by 1.6"), ("cropped", "scaled by 1.25")]


@pytest.mark.parametrize(("name", "change", "words"),
                         sampled([(name, *move) for name in NAMES for move in MOVES], 12))
def test_a_moved_photo_is_told_and_how(name, change, words) -> None:
    found = moved(name, change)
    assert found is not None and str(found) == words
    assert 0.6 <= found.fit <= 1


def test_how_it_was_moved_in_numbers() -> None:
    shifted = moved("astronaut", "shifted 25 %, wrapped")
    assert shifted is not None
    assert (shifted.right, shifted.down) == (pytest.approx(0.25, abs=0.05), pytest.approx(0.25, abs=0.05))
    assert (shifted.turn, shifted.scale, shifted.mirrored) == (0, 1.0, False)
    zoomed = moved("hopper", "scaled 1.6")
    assert zoomed is not None
    assert (zoomed.turn, zoomed.scale, zoomed.mirrored) == (0, 1.6, False)
    assert (zoomed.right, zoomed.down) == (pytest.approx(0, abs=0.05), pytest.approx(0, abs=0.05))


def test_a_shift_far_to_the_left_has_its_sign() -> None:
    """Twice as large, and of it only a strip of the right side at the left border; noise beside it."""
    pixels = photo("astronaut")
    height, width = pixels.shape[:2]
    result = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    matrix = np.array([[2, 0, -100 / 64 * width], [0, 2, -height / 2]])
    cv2.warpAffine(pixels, matrix, (width, height), dst=result, borderMode=cv2.BORDER_TRANSPARENT)
    found = binding.moved(outline("astronaut"), binding.outline(result), lost=True)
    assert found is not None and (found.turn, found.scale, found.mirrored) == (0, 2.0, False)
    assert (found.right, found.down) == (pytest.approx((32 - 100) / 64, abs=0.05), pytest.approx(0, abs=0.05))


@pytest.mark.parametrize("change", sampled(
    ["negative", "sepia", "colour map jet", "JPEG 10", "noise 20", "posterized 4"], 3))
def test_a_moved_photo_is_told_behind_a_filter(change) -> None:
    for move in ("turned 90", "mirrored", "turned 180"):
        result = FILTERS[change](TRANSFORMS[move].apply(photo("astronaut")))
        found = binding.moved(outline("astronaut"), binding.outline(result), lost=True)
        assert found is not None, move
        assert str(found) == {"turned 90": "turned by 90 degrees", "mirrored": "mirrored",
                              "turned 180": "turned by 180 degrees"}[move]


@pytest.mark.parametrize(("name", "change"), sampled(FILTERED, 10))
def test_a_filter_moves_nothing(name, change) -> None:
    assert moved(name, change) is None


def test_sizes_and_small_shifts_are_no_moves() -> None:
    for name in NAMES:
        height, width = photo(name).shape[:2]
        for factor in (0.5, 2):
            result = cv2.resize(photo(name), None, fx=factor, fy=factor)
            assert binding.moved(outline(name), binding.outline(result)) is None
        shift = np.float64([[1, 0, 0.02 * width], [0, 1, 0.02 * height]])
        result = cv2.warpAffine(photo(name), shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        assert binding.moved(outline(name), binding.outline(result)) is None


def test_a_covered_head_moves_nothing() -> None:
    for name, box in (("astronaut", (140, 20, 300, 220)), ("hopper", (100, 20, 430, 400))):
        result = photo(name).copy()
        result[box[1]:box[3], box[0]:box[2]] = 128
        assert binding.moved(outline(name), binding.outline(result)) is None


@pytest.mark.parametrize(("a", "b"), sampled(itertools.permutations((*NAMES, "biden", "obama", "obama2", "coffee",
                                                                     "rocket"), 2), 8))
def test_two_photos_are_not_one_moved(a, b) -> None:
    assert binding.moved(outline(a), outline(b)) is None


def test_of_flat_pictures_nothing_can_be_told() -> None:
    flat = binding.outline(np.full((300, 400, 3), 90, np.uint8))
    dotted = np.full((300, 400, 3), 90, np.uint8)
    dotted[40:60, 50:70] = 200
    dot = binding.outline(dotted)
    for a, b in itertools.product((flat, dot, binding.outline(dotted[:, ::-1].copy())), (flat, dot)):
        assert binding.moved(a, b) is None
    assert binding.moved(outline("astronaut"), flat) is None and binding.moved(flat, outline("astronaut")) is None


@pytest.mark.parametrize(("shape", "size"), [((300, 400), (48, 64)), ((400, 300), (64, 48)), ((50, 2000), (8, 64)),
                                             ((8, 8), (64, 64))])
def test_outlines_are_small_and_do_not_know_light_and_dark(shape, size) -> None:
    pixels = np.random.default_rng(0).integers(60, 180, (*shape, 3), dtype=np.uint8)
    values = binding.outline(pixels)
    assert values.shape == size and values.dtype == np.float32
    assert np.abs(binding.outline(255 - pixels) - values).max() < 0.15
    assert np.isfinite(values).all() and values.min() >= 0
