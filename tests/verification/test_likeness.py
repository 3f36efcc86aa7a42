"""The test without a network: the original behind every filter, strangers, places, and how sharp a face is."""

from __future__ import annotations

import functools
import itertools

import cv2
import numpy as np
import pytest

import photos
from camouflage.verification import likeness
from camouflage.verification.places import centre
from camouflage.verification.scene import _SHARP
from filters import FILTERS
from sampled import sampled

Box = tuple[float, float, float, float]
FACES: dict[str, tuple[Box, ...]] = {  # as CenterFace finds them with 640 px on the longer side; the six as they are
    "astronaut": ((178, 60, 272, 178),), "hopper": ((184, 120, 362, 338),), "biden": ((124, 46, 208, 166),),
    "obama": ((210, 44, 346, 243),), "obama2": ((93, 109, 270, 341),), "obama3": ((177, 70, 250, 169),),
    "obama_partial_face": ((-3, 49, 103, 243),), "obama_partial_face2": ((217, 51, 323, 236),),
    "six": ((62, 268, 165, 392), (271, 153, 372, 267), (465, 265, 571, 411), (748, 345, 847, 482),
            (904, 59, 1013, 201), (1133, 266, 1231, 402)),
}
EVERYBODY = [(name, number) for name, faces in FACES.items() for number in range(len(faces))]
STRANGERS = [(a, b) for a, b in itertools.permutations(EVERYBODY, 2)
             if photos.PERSONS[a[0]][a[1]] != photos.PERSONS[b[0]][b[1]]]
WHOLE = ("astronaut", "hopper", "biden", "obama2", "six")  # photos with whole faces of different people
HARD = ("Canny", "Sobel", "Laplacian", "pencil", "solarized", "black and white", "black and white, adaptive")
AT_ONCE = likeness.Search(0.25, (0.0,), (1.0,))  # for what does not depend on the search
KEPT = [name for name in FILTERS if name not in HARD]


@functools.cache
def photo(name: str) -> np.ndarray:
    pixels = photos.load(name)
    factor = 1 if name == "six" else min(1, 640 / max(pixels.shape))
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def template(name: str, number: int = 0) -> np.ndarray:
    return likeness.template(photo(name), FACES[name][number], 0)


def compared(name: str, pixels: np.ndarray, search: likeness.Search = likeness.NEARBY) -> likeness.Found:
    return likeness.compare(template(name), pixels, FACES[name][0], 0, search)


@pytest.mark.parametrize("change", sampled(KEPT, 24))
def test_the_original_is_seen_through_filters(change) -> None:
    """A negative, colour maps, blur, noise, file formats, mosaics: whatever leaves a face where it was."""
    for name in WHOLE:
        result = FILTERS[change](photo(name))
        for number, box in enumerate(FACES[name]):
            found = likeness.compare(template(name, number), result, box, 0)
            assert found.likeness >= 1, (name, number)
            assert np.hypot(*np.subtract(centre(found.box_ltrb), centre(box))) < 0.15 * (box[3] - box[1])


@pytest.mark.parametrize("change", ["negative", "colour map jet", "colour map hsv", "posterized 2", "blur of 1/12 face",
                                    "mosaic of 1/8 face"])
def test_each_way_of_comparing_is_needed(change, monkeypatch) -> None:
    """These are among the filters that some way does not see through."""
    result, box = FILTERS[change](photo("hopper")), FACES["hopper"][0]
    shares = {}
    for way in likeness.LIMITS:
        monkeypatch.setattr(likeness, "LIMITS", {each: likeness.LIMITS[way] if each == way else 99.0
                                                 for each in likeness.LIMITS})
        shares[way] = likeness.compare(template("hopper"), result, box, 0).likeness
        monkeypatch.undo()
    assert max(shares.values()) >= 1
    assert min(shares.values()) < 1, shares
    assert likeness.compare(template("hopper"), result, box, 0).likeness == pytest.approx(max(shares.values()))


def test_drawings_are_seen_through_where_a_face_is_clear() -> None:
    """Line drawings are the hardest: of the photos' faces most, not all; the recogniser does not trust them either."""
    for change, least in (("pencil", 8), ("black and white", 8), ("solarized", 9), ("Canny", 2)):
        seen = sum(likeness.compare(template(name, number), FILTERS[change](photo(name)), box, 0).likeness >= 1
                   for name in WHOLE for number, box in enumerate(FACES[name]))
        assert seen >= least, change


def test_what_only_the_colours_tell_is_told_of_the_place_itself(monkeypatch) -> None:
    monkeypatch.setattr(likeness, "LIMITS", {**dict.fromkeys(likeness.LIMITS, 9.0), "colouring": 0.6})
    found = compared("six", FILTERS["colour map jet"](photo("six")))
    assert found.likeness >= 1 and found.box_ltrb == pytest.approx(FACES["six"][0]) and found.turn == 0


def test_strangers_do_not_look_alike() -> None:
    """Each laid over the other as well as can be: of all 162 ordered pairs one is above the limit."""
    pairs = sampled(STRANGERS, 40)
    alike = [(a, b) for a, b in pairs
             if likeness.compare(template(*a), photo(b[0]), FACES[b[0]][b[1]], 0).likeness >= 1]
    assert len(STRANGERS) == 162
    assert len(alike) <= 1, alike


@pytest.mark.parametrize(("right", "down", "turn", "search"), [
    (0.2, 0, 0, likeness.NEARBY), (-0.2, 0.15, 0, likeness.NEARBY), (0, 0, 8, likeness.NEARBY),
    (0, 0, -12, likeness.NEARBY), (0.7, -0.5, 0, likeness.AROUND), (0.5, 0.3, 20, likeness.AROUND),
    (0, 0, -30, likeness.AROUND)])
@pytest.mark.parametrize("name", ["astronaut", "hopper"])
def test_a_face_is_found_where_it_went(name, right, down, turn, search) -> None:
    box = FACES[name][0]
    (x, y), height = centre(box), box[3] - box[1]
    matrix = cv2.getRotationMatrix2D((x, y), turn, 1)
    matrix[:, 2] += (right * height, down * height)
    pixels = photo(name)
    result = cv2.warpAffine(pixels, matrix, pixels.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    found = compared(name, result, search)
    assert found.likeness >= 1
    at = centre(found.box_ltrb)
    assert np.hypot(at[0] - x - right * height, at[1] - y - down * height) < 0.25 * height
    assert abs(found.turn - turn) <= 10
    assert found.box_ltrb[3] - found.box_ltrb[1] == pytest.approx(height, rel=0.25)


def test_a_mirrored_face_and_one_of_another_size_are_found() -> None:
    pixels, box = photo("astronaut"), FACES["astronaut"][0]
    width = pixels.shape[1]
    mirrored = (width - box[2], box[1], width - box[0], box[3])
    found = likeness.compare(template("astronaut"), np.ascontiguousarray(pixels[:, ::-1]), mirrored, 0)
    assert found.likeness >= 1
    assert found.box_ltrb == pytest.approx(mirrored, abs=0.1 * (box[3] - box[1]))
    large = cv2.resize(pixels, None, fx=2, fy=2)
    doubled = tuple(2 * side for side in box)
    assert likeness.compare(template("astronaut"), large, doubled, 0).box_ltrb == pytest.approx(doubled, abs=12)
    (x, y), height = centre(box), box[3] - box[1]
    matrix = cv2.getRotationMatrix2D((x, y), 0, 1.3)
    result = cv2.warpAffine(pixels, matrix, pixels.shape[1::-1])
    traced = compared("astronaut", result, likeness.AROUND)
    assert traced.likeness >= 1 and traced.box_ltrb[3] - traced.box_ltrb[1] == pytest.approx(1.3 * height, rel=0.15)


@pytest.mark.parametrize("turn", [90, 180, -135])
def test_a_turned_place_is_compared_upright(turn) -> None:
    """A head that lies on its side in the original and in the result: shifts are told in pixels of the picture."""
    box = FACES["hopper"][0]
    (x, y), height, pixels = centre(box), box[3] - box[1], photo("hopper")
    side = np.float64([[1, 0, 15], [0, 1, -20]])
    turned = cv2.warpAffine(pixels, cv2.getRotationMatrix2D((x, y), turn, 1), pixels.shape[1::-1],
                            borderMode=cv2.BORDER_REPLICATE)
    kept = likeness.template(turned, box, turn)
    assert kept.shape == (77, 77, 3) and kept.dtype == np.uint8
    assert np.corrcoef(kept.ravel(), template("hopper").ravel())[0, 1] > 0.9
    found = likeness.compare(kept, cv2.warpAffine(turned, side, turned.shape[1::-1]), box, turn)
    assert found.likeness >= 1 and found.turn == turn
    assert centre(found.box_ltrb) == pytest.approx((x + 15, y - 20), abs=0.06 * height)


def sketched(pixels: np.ndarray, coloured: bool) -> np.ndarray:
    """OpenCV's pencil sketch, of which a recogniser thinks that it is somebody else."""
    grey, colours = cv2.pencilSketch(pixels)
    return colours if coloured else np.repeat(grey[..., None], 3, axis=-1)


LOST = {
    "grey": lambda pixels: np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1),
    "Canny": FILTERS["Canny"], "Sobel": FILTERS["Sobel"], "Laplacian": FILTERS["Laplacian"],
    "sketch": lambda pixels: sketched(pixels, False), "coloured sketch": lambda pixels: sketched(pixels, True),
    "a third of the light": lambda pixels: (pixels / 3).astype(np.uint8),
}


@pytest.mark.parametrize("change", LOST)
def test_a_face_without_its_colours_or_light_is_told(change) -> None:
    """Of every photo's face, with colours in the original; the six are too bright for the sketch to be dark enough."""
    for name in WHOLE[:4] if change == "coloured sketch" else WHOLE:
        result = LOST[change](photo(name))
        assert all(likeness.compare(template(name, number), result, box, 0).faded
                   for number, box in enumerate(FACES[name])), name


def test_strangers_and_ordinary_changes_keep_colours_and_light() -> None:
    for a, b in STRANGERS:
        assert not likeness.compare(template(*a), photo(b[0]), FACES[b[0]][b[1]], 0, AT_ONCE).faded, (a, b)
    for change in ("JPEG 5", "sepia", "more contrast", "blur of 1/12 face", "gamma 0.4"):
        assert not compared("hopper", FILTERS[change](photo("hopper")), AT_ONCE).faded, change


def test_a_black_and_white_original_has_no_colours_to_lose() -> None:
    grey = LOST["grey"](photo("biden"))
    kept = likeness.template(grey, FACES["biden"][0], 0)
    assert not likeness.compare(kept, grey, FACES["biden"][0], 0, AT_ONCE).faded
    assert not likeness.compare(kept, photo("biden"), FACES["biden"][0], 0, AT_ONCE).faded


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_place_looks_like_nobody(level) -> None:
    for name in WHOLE:
        assert compared(name, np.full_like(photo(name), level)).likeness < 1e-6
        assert compared(name, np.full_like(photo(name), level), likeness.AROUND).likeness < 1e-6


def test_noise_and_gradients_look_like_nobody() -> None:
    for name in WHOLE:
        height, width = photo(name).shape[:2]
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        ramp = np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], 3, axis=2).repeat(height, axis=0)
        assert compared(name, noise).likeness < 1
        assert compared(name, ramp).likeness < 1


def test_sharpness_falls_with_blur() -> None:
    sharp, soft = [], []
    for name in ("astronaut", "hopper", "biden", "obama2", "obama3", "six"):
        for box in FACES[name]:
            width = box[2] - box[0]
            values = [likeness.sharpness(photo(name) if part is None else
                                         cv2.GaussianBlur(photo(name), (0, 0), width / part), box, 0)
                      for part in (None, 40, 24, 16, 12, 8)]
            assert values == sorted(values, reverse=True)
            sharp.append(values[0])
            soft.append(values[3])
    assert max(soft) < _SHARP, "a blur of 1/16 of the face's width"
    assert min(sharp) > 1.5 * _SHARP, "photos as they are"


def test_nothing_is_not_sharp() -> None:
    assert likeness.sharpness(np.full((100, 100, 3), 128, np.uint8), (20, 20, 60, 70), 0) == 0
