"""Declared fills: what they paint, what of it the pixels prove, and which pictures are refused."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import photos
from camouflage.errors import CamouflageError
from camouflage.verification.centerface import CenterFace
from camouflage.verification.detection import FoundFace
from camouflage.verification.fill_checks import demand_nobody, demand_unlike
from camouflage.verification.fills import LONGEST, Fill, colour_of, shrunk
from camouflage.verification.hidden import Hidden
from camouflage.verification.redaction import CELLS, Region, changed, filled, inside, redact

FACE = (178.0, 60.0, 272.0, 178.0)  # of the astronaut
TURNS = (0.0, 30.0, 90.0, -135.0, 180.0)
NOISE = np.random.default_rng(0).integers(0, 256, (200, 240, 3), dtype=np.uint8)
BOX = (90.0, 70.0, 140.0, 130.0)
GREEN = Fill((10, 200, 30))
SIZE = (90, 120)


def drawing() -> np.ndarray:
    """Nobody: stripes and a disc, 120 x 90."""
    rows, columns = np.mgrid[:SIZE[0], :SIZE[1]]
    picture = np.full((*SIZE, 3), (240, 240, 200), np.uint8)
    picture[(rows // 10 % 2 == 0) & (columns < 60)] = 30, 60, 200
    picture[(rows - 45) ** 2 + (columns - 85) ** 2 < 500] = 220, 120, 0
    return picture


PICTURE = Fill((0, 0, 0), drawing())


def encoded(pixels: np.ndarray, kind: str, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=quality, subsampling=0)
    return np.array(Image.open(file).convert("RGB"))


def hidden(fill: Fill, *boxes, turn: float = 0.0, mode: str = "solid") -> Hidden:
    known = Hidden(fill=fill)
    for number, box in enumerate(boxes or (BOX,)):
        known = known.with_person(number, mode, [Region(box, mode, 1.0, turn)])
    return known


def painted(known: Hidden, pixels: np.ndarray = NOISE) -> np.ndarray:
    return redact(pixels, known.regions, known.area, known.fill)


def test_colours_are_read_strictly() -> None:
    assert colour_of("#0aC81e", "fill_colour") == (10, 200, 30)
    for text in ("", "#fff", "0ac81e", "#0ac81g", "#0ac81e80", "red", None, "#0ac81e\n#"):
        with pytest.raises(CamouflageError, match="'fill_colour' must be a colour as '#rrggbb'.*#808080"):
            colour_of(text, "fill_colour")


def test_the_words_say_what_fills() -> None:
    assert [Fill().named(mode) for mode in ("solid", "mosaic")] == ["solid", "mosaic"]
    assert GREEN.named("solid") == "solid, #0ac81e" and GREEN.named("blur") == "blur"
    assert PICTURE.named("solid").startswith("solid, picture ")
    assert hidden(GREEN).persons == {0: "solid, #0ac81e"}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("fill", [GREEN, PICTURE], ids=["colour", "picture"])
def test_exactly_the_declared_fill_is_proved(fill, turn) -> None:
    known = hidden(fill, turn=turn)
    pixels = painted(known)
    assert known.proves(pixels, 0, (BOX, turn)) and known.is_fill(pixels, BOX, turn)
    assert np.array_equal(pixels, painted(known, 255 - NOISE)) is False
    other = Fill(fill.colour if fill is PICTURE else (10, 204, 30),
                 None if fill is GREEN else np.ascontiguousarray(drawing()[:, ::-1]))
    for wrong in (other, Fill(), Fill((128, 128, 128), 255 - drawing())):
        assert not hidden(wrong, turn=turn).proves(pixels, 0, (BOX, turn))
        assert not hidden(wrong, turn=turn).is_fill(pixels, BOX, turn)
    assert not filled(pixels, BOX, turn), "it is not our grey"
    assert not known.proves(NOISE, 0, (BOX, turn)) and not known.is_fill(NOISE, BOX, turn)
    assert not hidden(fill, mode="mosaic", turn=turn).proves(pixels, 0, (BOX, turn))
    moved = np.roll(pixels, 9, axis=1)
    assert fill is GREEN or not known.proves(moved, 0, (BOX, turn)), "a picture at another place is not the fill"
    spoiled = pixels.copy()
    spoiled[100, 115, 1] = (int(spoiled[100, 115, 1]) + 128) % 256
    assert not known.proves(spoiled, 0, (BOX, turn))


def test_the_picture_covers_the_head_as_a_reference_says() -> None:
    """scipy's own interpolation of the picture, laid over the bounds of an enlarged head."""
    pixels, box = np.zeros((700, 700, 3), np.uint8), (200.0, 200.0, 420.0, 480.0)
    width, height, x, y = 2 * 1.12 * 0.85 * 220, 2 * 1.12 * 0.775 * 280, 310.0, 200 + 0.425 * 280
    scale = max(width / SIZE[1], height / SIZE[0])
    assert scale > 1
    result = redact(pixels, [Region(box)], None, PICTURE)
    rows, columns = np.mgrid[150:400, 180:440] + 0.5
    at = ((rows - y) / scale + SIZE[0] / 2 - 0.5, (columns - x) / scale + SIZE[1] / 2 - 0.5)
    wanted = np.stack([ndimage.map_coordinates(drawing()[..., i].astype(float), at, order=1, mode="nearest")
                       for i in range(3)], axis=-1)
    sure = np.cbrt(np.abs((columns - x) / (0.85 * 220)) ** 3 + np.abs((rows - y) / (0.775 * 280)) ** 3) <= 1
    assert np.abs(result[150:400, 180:440] - wanted)[sure].max() <= 0.51


def test_overlapping_heads_prove_in_whatever_order_they_were_painted() -> None:
    boxes = (BOX, (110.0, 80.0, 160.0, 140.0), (70.0, 95.0, 110.0, 145.0))
    known = hidden(PICTURE, *boxes)
    pixels = redact(NOISE, list(reversed(known.regions)), None, PICTURE)
    assert np.array_equal(pixels, painted(known))
    for number, box in enumerate(boxes):
        assert known.proves(pixels, number, (box, 0.0)) and known.is_fill(pixels, box, 0.0)


def test_what_a_file_format_leaves_is_proved_and_a_faint_face_in_it_is_not() -> None:
    face, photo = (184.0, 120.0, 362.0, 338.0), photos.load("hopper")
    known = replace(hidden(PICTURE, face), encoded=True)
    pixels = painted(known, photo)
    for quality in (95, 85):
        seen = encoded(pixels, "JPEG", quality)
        assert (seen != pixels).any() and known.proves(seen, 0, (face, 0.0)) and known.is_fill(seen, face, 0.0)
    assert not known.proves(encoded(photo, "JPEG", 95), 0, (face, 0.0))
    faint = np.clip(pixels + (photo.astype(int) - 128) // 8, 0, 255).astype(np.uint8)
    assert not known.proves(faint, 0, (face, 0.0))


@pytest.mark.parametrize("lossy", [False, True])
def test_a_colour_of_skin_proves_no_face(lossy) -> None:
    for name, face in (("astronaut", FACE), ("hopper", (184.0, 120.0, 362.0, 338.0))):
        photo = photos.load(name)
        left, top, right, bottom = map(int, face)
        skin = Fill(tuple(int(level) for level in np.median(photo[top:bottom, left:right], axis=(0, 1))))
        known = replace(hidden(skin, face), encoded=lossy)
        for shrink in (1, 4, 8):  # also where the face is small and even
            seen = np.ascontiguousarray(photo[::shrink, ::shrink])
            box = tuple(value / shrink for value in face)
            assert not replace(hidden(skin, box), encoded=lossy).proves(seen, 0, (box, 0.0))
            assert not replace(hidden(skin, box), encoded=lossy).is_fill(seen, box, 0.0)
        assert known.proves(painted(known, photo), 0, (face, 0.0))


def test_areas_and_rectangles_take_the_colour() -> None:
    area = np.zeros(NOISE.shape[:2], bool)
    area[150:190, 10:60] = True
    plate = Region((20.0, 30.0, 80.0, 50.0), rectangle=True)
    known = replace(hidden(PICTURE), others=(plate,)).with_area(area)
    pixels = painted(known)
    assert (pixels[area] == 0).all() and (pixels[30:50, 20:80] == 0).all()
    assert known.is_fill(pixels, (25, 32, 60, 48), 0.0) and known.is_fill(pixels, (15, 155, 50, 185), 0.0)
    assert np.array_equal(pixels[~known.covers(NOISE.shape)], NOISE[~known.covers(NOISE.shape)])
    assert known.begun and not Hidden(others=(plate,)).begun, "a plate is nobody"


@pytest.mark.parametrize("mode", ["mosaic", "blur"])
def test_a_rectangle_leaves_no_more_than_6_cells(mode) -> None:
    box = (30.0, 40.0, 150.0, 80.0)
    region = Region(box, mode, rectangle=True)
    pixels = redact(NOISE, [region])
    where = changed(NOISE.shape, [region])
    assert where[40:80, 30:150].all() and np.array_equal(pixels[~where], NOISE[~where])
    assert inside(region, 31, 41) and inside(region, 149, 79) and not inside(region, 90, 100)
    within = pixels[40:80, 30:150].reshape(-1, 3)
    if mode == "mosaic":
        side = 120 * 1.12 / CELLS  # of a cell, squares from the outer end of the soft edge on
        columns = ((np.arange(30, 150) + 0.5 - (90 - 60 * 1.12)) // side).astype(int)
        rows = ((np.arange(40, 80) + 0.5 - (60 - 20 * 1.12)) // side).astype(int)
        cells = (rows[:, None] * 10 + columns).ravel()
        assert len(np.unique(columns)) <= CELLS
        assert all(np.ptp(within[cells == cell], axis=0).max() == 0 for cell in np.unique(cells))
    assert len(np.unique(within, axis=0)) < within.shape[0] * (0.01 if mode == "mosaic" else 1)


@pytest.fixture(scope="module")
def detectors():
    return [CenterFace()]


def portrait() -> np.ndarray:
    return np.ascontiguousarray(photos.load("astronaut")[10:266, 96:352])


@pytest.mark.parametrize("change", [
    lambda face: face, lambda face: face[:, ::-1], lambda face: np.rot90(face), lambda face: np.rot90(face, 2),
    lambda face: 255 - face, lambda face: (face * 0.06 + 110).astype(np.uint8),
    lambda face: np.pad(face, ((0, 900), (900, 0), (0, 0)), constant_values=90),
], ids=["plain", "mirrored", "turned", "upside down", "negative", "faint", "small"])
def test_a_picture_with_a_face_is_refused(detectors, change) -> None:
    picture = shrunk(np.ascontiguousarray(change(portrait())))
    with pytest.raises(CamouflageError, match="'fill_picture' shows a face.*Choose a picture without a face"):
        demand_nobody(picture, detectors, "fill_picture")


def test_a_picture_without_a_face_is_taken(detectors) -> None:
    for picture in (drawing(), photos.load("coffee")[::4, ::4]):
        demand_nobody(shrunk(picture), detectors, "fill_picture")
        demand_unlike(shrunk(picture), photos.load("astronaut"), [FoundFace(FACE, (), ())], 0, "fill_picture")
    assert max(shrunk(np.zeros((1000, 3000, 3), np.uint8)).shape) == LONGEST


@pytest.mark.parametrize("part", [
    lambda photo: photo, lambda photo: photo[:, ::-1], lambda photo: np.rot90(photo[200:500, 50:400]),
    lambda photo: photo[280:500, 150:480][::-1], lambda photo: photo[70:170, 190:260],
    lambda photo: np.pad(photo[::2, ::2], ((60, 40), (10, 90), (0, 0)), constant_values=255),
], ids=["itself", "mirrored", "a part, turned", "a part, mirrored", "of the face", "framed"])
def test_a_part_of_the_picture_to_cover_is_refused(part) -> None:
    photo = photos.load("astronaut")
    picture = shrunk(np.ascontiguousarray(part(photo)))
    with pytest.raises(CamouflageError, match=r"looks like a part of picture 3 \(counted from 0\)"):
        demand_unlike(picture, photo, [FoundFace(FACE, (), ())], 3, "fill_picture")
