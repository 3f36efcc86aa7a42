"""Drawn faces: the same seed draws the same, every attribute shows and stays in its place, keypoints are exact."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camouflage.errors import CamouflageError
from camouflage.method.faces import ATTRIBUTES, Face, Faces
from testing.drawn_faces import WINS, draw, random_look, resolve, write_folder

SHAVEN = {"No_Beard": True, "Young": True}
BEARDED = {"Male": True, "Young": True}
SIZES = (256, 256), (64, 64), (65, 300), (300, 65), (32, 200)  # width, height


def without(name: str) -> dict[str, bool]:
    """A look on which this attribute is off, and shows when it is on."""
    base = BEARDED if name in WINS["No_Beard"] or name == "No_Beard" else SHAVEN
    return {**base, name: False}


def change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Levels between two pictures, H x W."""
    return np.abs(before.astype(int) - after.astype(int)).max(axis=2)


def head(face: Face, shape: tuple[int, ...]) -> np.ndarray:
    """Where a person's attributes may change pixels, H x W bool: as drawn_faces promises."""
    left, top, right, bottom = face.box_ltrb
    aside, along = 0.4 * (right - left), bottom - top
    y, x = np.ogrid[:shape[0], :shape[1]]
    return (x + 1 > left - aside) & (x < right + aside) & (y + 1 > top - along) & (y < bottom + along)


def overlap(a: Face, b: Face) -> bool:
    (l, t, r, u), (l2, t2, r2, u2) = a.box_ltrb, b.box_ltrb
    return l < r2 and l2 < r and t < u2 and t2 < u


@pytest.mark.parametrize("crowded", [False, True])
def test_the_same_seed_draws_the_same(crowded: bool) -> None:
    pixels, picture = draw(7, 96, 80, 3, crowded)
    again, same = draw(7, 96, 80, 3, crowded)
    other, _ = draw(8, 96, 80, 3, crowded)
    assert pixels.shape == (80, 96, 3) and pixels.dtype == np.uint8 and picture == same
    assert np.array_equal(pixels, again) and (pixels != other).mean() > 0.5


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_shows_in_the_head_and_moves_nothing_else(name: str) -> None:
    index = ATTRIBUTES.index(name)
    for seed, size in ((1, 160), (2, 128), (3, 96)):
        (before, off), (after, on) = (draw(seed, size, size, [{**without(name), name: value}])
                                      for value in (False, True))
        (bare,), (worn,) = off.faces, on.faces
        levels, inside = change(before, after), head(bare, before.shape)
        left, top, right, bottom = bare.box_ltrb
        assert levels[inside].sum() > 0.35 * (right - left) * (bottom - top)
        assert (levels[inside] >= 12).sum() > 0.005 * (right - left) * (bottom - top)
        assert not levels[~inside].any()
        assert (bare.attributes[index], worn.attributes[index]) == (0.0, 1.0)
        assert bare.box_ltrb == worn.box_ltrb and bare.keypoints[:3] == worn.keypoints[:3]
        assert (bare.keypoints == worn.keypoints) == (name != "Smiling")


def test_an_attribute_of_one_person_leaves_the_others_alone() -> None:
    looks = [SHAVEN, SHAVEN, SHAVEN, SHAVEN]
    before, picture = draw(5, 192, 160, looks)
    for i, name in enumerate(("Wearing_Hat", "Wearing_Necktie", "Wavy_Hair", "Blurry")):
        after, _ = draw(5, 192, 160, [*looks[:i], {**SHAVEN, name: True}, *looks[i + 1:]])
        levels, inside = change(before, after), head(picture.faces[i], before.shape)
        assert levels[inside].any() and not levels[~inside].any()


def test_keypoints_are_where_it_was_drawn() -> None:
    tilts = []
    for seed in range(12):
        looks = {name: draw(seed, 256, 256, [{**SHAVEN, **({name: True} if name else {})}])
                 for name in ("", "Wearing_Lipstick", "Big_Nose")}
        pixels, picture = looks[""]
        face, = picture.faces
        points = np.array(face.keypoints)
        unit = (face.box_ltrb[2] - face.box_ltrb[0]) / 2.2
        y, x = np.mgrid[:256, :256] + 0.5
        for eye in points[:2]:
            near = np.hypot(x - eye[0], y - eye[1]) < 0.2 * unit
            dark = near & (pixels.max(axis=2) < 32)  # the pupil; the lid and the lashes are lighter or farther
            dark &= np.hypot(x - eye[0], y - eye[1]) < 0.09 * unit
            assert dark.sum() >= 6
            assert np.hypot(x[dark].mean() - eye[0], y[dark].mean() - eye[1]) < 0.5
        axis = (points[1] - points[0]) / np.hypot(*(points[1] - points[0]))
        tilts.append(np.degrees(np.arctan2(axis[1], axis[0])))
        along = x * axis[0] + y * axis[1]
        lips = change(pixels, looks["Wearing_Lipstick"][0]) > 3
        corners = points[3:] @ axis
        assert (along[lips].min(), along[lips].max()) == pytest.approx(tuple(corners), abs=2.0)  # half a stroke more
        assert (along[lips].min() + along[lips].max()) / 2 == pytest.approx(corners.mean(), abs=0.5)
        nose = change(pixels, looks["Big_Nose"][0]) > 3
        assert (along[nose].min() + along[nose].max()) / 2 == pytest.approx(points[2] @ axis, abs=1.0)
        across = y * axis[0] - x * axis[1]
        tip = points[2, 1] * axis[0] - points[2, 0] * axis[1]
        assert across[nose].min() < tip < across[nose].max()
    assert min(tilts) < -3 and max(tilts) > 3  # degrees


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("count", [1, 2, 6])
def test_boxes_lie_apart_inside_the_picture(width: int, height: int, count: int) -> None:
    for seed in range(3):
        pixels, picture = draw(seed, width, height, count)
        assert pixels.shape == (height, width, 3) and (picture.width, picture.height) == (width, height)
        assert len(picture.faces) == count
        for i, face in enumerate(picture.faces):
            left, top, right, bottom = face.box_ltrb
            assert 0 < left < right < width and 0 < top < bottom < height
            assert all(left < x < right and top < y < bottom for x, y in face.keypoints)
            assert face.score == 1.0 and face.landmarks is None and set(face.attributes) == {0.0, 1.0}
            assert not any(overlap(face, other) for other in picture.faces[:i])
        assert Faces.from_json(Faces((picture,)).to_json()) == Faces((picture,))


def test_crowded_persons_overlap_and_the_lower_one_stands_in_front() -> None:
    looks, hidden = [SHAVEN] * 6, 0
    for seed in range(12):
        before, picture = draw(seed, 96, 96, looks, crowded=True)
        faces = sorted(range(6), key=lambda i: picture.faces[i].box_ltrb[3])
        for k, far in enumerate(faces):
            nearer = [picture.faces[i] for i in faces[k + 1:] if overlap(picture.faces[far], picture.faces[i])]
            if not nearer:
                continue
            hidden += 1
            after, _ = draw(seed, 96, 96, [*looks[:far], {**SHAVEN, "Pale_Skin": True}, *looks[far + 1:]], crowded=True)
            levels = change(before, after)
            assert levels.any()
            for left, top, right, bottom in (face.box_ltrb for face in nearer):
                y, x = np.mgrid[:96, :96] + 0.5
                face = np.hypot((2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)) < 0.8
                assert not levels[face].any()
    assert hidden >= 5


def test_contradictions() -> None:
    everything = resolve(dict.fromkeys(ATTRIBUTES, True))
    assert {name for name in ATTRIBUTES if not everything[name]} == {
        "5_o_Clock_Shadow", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Goatee", "Mustache",
        "Receding_Hairline", "Sideburns", "Straight_Hair", "Wavy_Hair"}
    haired = resolve({"Bangs": True, "Receding_Hairline": True, "Straight_Hair": True, "Wavy_Hair": True})
    assert [name for name, on in haired.items() if on] == ["Bangs", "Straight_Hair"]
    for winner, losers in WINS.items():
        for loser in losers:
            whole = resolve({winner: True, loser: True})
            assert whole[winner] and not whole[loser]
            both = draw(4, 96, 96, [{**BEARDED, winner: True, loser: True}])
            alone = draw(4, 96, 96, [{**BEARDED, winner: True}])
            assert np.array_equal(both[0], alone[0]) and both[1] == alone[1]


def test_random_looks_are_whole_plausible_and_varied() -> None:
    looks = [random_look(random.Random(i)) for i in range(400)]
    assert all(tuple(look) == ATTRIBUTES and resolve(look) == look for look in looks)
    for name in ATTRIBUTES:
        assert 8 <= sum(look[name] for look in looks) <= 392
    assert all(look["No_Beard"] and not look["Bald"] for look in looks if not look["Male"])
    grey = [look["Young"] for look in looks if look["Gray_Hair"]]
    assert sum(grey) < len(grey) / 2
    assert looks[3] == random_look(random.Random(3))


def test_write_folder(tmp_path: Path) -> None:
    paths = write_folder(tmp_path / "new", 6, 11, 64, most=2)
    assert [path.name for path in paths[:4]] == ["0000.png", "0001.jpg", "0002.webp", "0003.png"]
    assert len(list((tmp_path / "new").iterdir())) == 12
    counts = set()
    for i, path in enumerate(paths):
        picture, = Faces.from_json(path.with_suffix(".faces.json").read_text(encoding="utf-8")).pictures
        pixels, drawn = draw(11 + i, 64, 64, len(picture.faces))
        counts.add(len(picture.faces))
        with Image.open(path) as image:
            assert image.format == {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[path.suffix]
            levels = change(pixels, np.array(image.convert("RGB")))
        assert picture == drawn and levels.mean() <= (0 if path.suffix == ".png" else 20)
    assert counts == {1, 2}


@pytest.mark.parametrize(("call", "words"), [
    (lambda: draw(True, 64, 64), "seed must be a whole number"),
    (lambda: draw(1, 31, 64), "width must be a whole number from 32 to 2048, but got 31"),
    (lambda: draw(1, 64, 64.0), "height must be a whole number"),
    (lambda: draw(1, 64, 64, 7), "persons .* from 1 to 6, but got 7"),
    (lambda: draw(1, 64, 64, []), "number of looks in persons .* got 0"),
    (lambda: draw(1, 64, 64, {"Bald": True}), "persons .*list of looks"),
    (lambda: draw(1, 64, 64, ["Bald"]), "A look must be a mapping"),
    (lambda: draw(1, 64, 64, [{"bald": True}]), "unknown attribute 'bald'"),
    (lambda: draw(1, 64, 64, [{"Bald": 1}]), "True or False for Bald, but got 1"),
    (lambda: write_folder("never", 0, 1, 64), "count must"),
    (lambda: write_folder("never", 1, 1, 64, most=9), "most must"),
    (lambda: write_folder("never", 1, 1, 8), "size must"),
])
def test_bad_arguments_are_explained(call, words: str) -> None:
    with pytest.raises(CamouflageError, match=words):
        call()
