"""What the other tests stand on: heads are where they are said to be, and so are the points of a changed photo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import hard_cases
import pasted
import photos
from camouflage.verification.centerface import CenterFace
from filters import FILTERS
from transforms import COUNT, TRANSFORMS, Transform, outline, pairs

PEOPLE = tuple(pasted.PEOPLE)
MOVING = [name for name, transform in TRANSFORMS.items() if transform.moves]
HEIGHT, WIDTH = 201, 300
POINTS = np.array([(150, 100), (110, 70), (205, 90), (120, 140), (222, 125)])  # x, y


def small_photo() -> np.ndarray:
    return cv2.resize(photos.load("astronaut"), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def centroid(pixels: np.ndarray) -> np.ndarray:
    """x and y of what is bright."""
    weight = pixels.max(axis=-1).astype(float)
    return np.array([(weight.sum(axis=axis) * np.arange(weight.shape[1 - axis])).sum() for axis in (0, 1)]
                    ) / weight.sum()


def misplaced(transform: Transform) -> list[float]:
    """For each dot that is well inside the result: how far from its stated place it is, px."""
    away = []
    for x, y in POINTS:
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        cv2.circle(pixels, (int(x), int(y)), 2, (255, 255, 255), -1)
        result = transform.apply(pixels)
        [place] = transform.where(np.array([(x, y)]), HEIGHT, WIDTH)
        if ((place > 10) & (place < np.array(result.shape[1::-1]) - 10)).all():
            away.append(float(np.hypot(*(centroid(result) - place))))
    return away


def test_there_are_88_different_transforms() -> None:
    pixels = small_photo()
    before, results = pixels.copy(), {pixels.tobytes()}
    for transform in TRANSFORMS.values():
        result = transform.apply(pixels)
        assert result.dtype == np.uint8 and result.flags.c_contiguous
        assert result.shape == ((WIDTH, HEIGHT, 3) if transform.swaps else (HEIGHT, WIDTH, 3)), transform.name
        assert np.array_equal(result, transform.apply(pixels)), transform.name
        results.add(result.tobytes())
    assert len(results) == 1 + len(TRANSFORMS) == 1 + COUNT == 89
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("name", MOVING)
def test_a_dot_is_where_the_transform_says(name) -> None:
    away = misplaced(TRANSFORMS[name])
    assert len(away) >= 2 and max(away) < 2


def test_filters_leave_everything_at_its_place() -> None:
    assert [name for name in TRANSFORMS if name not in MOVING] == list(FILTERS)
    for name in FILTERS:
        assert np.array_equal(TRANSFORMS[name].where(POINTS, HEIGHT, WIDTH), POINTS)


def test_what_leaves_the_picture_is_outside_or_nowhere() -> None:
    corner = np.array([(3.0, 3.0)])
    for name in ("scaled 2", "shifted 15 %, black", "cropped, not evenly", "fisheye"):
        place = TRANSFORMS[name].where(corner, HEIGHT, WIDTH)
        assert not (place >= 6).all(), name
    assert np.isnan(TRANSFORMS["barrel"].where(np.array([(-900.0, 3.0), (np.nan, 3.0)]), HEIGHT, WIDTH)).all()


def test_a_pair_is_one_after_the_other() -> None:
    pixels, moving = small_photo(), [pair for pair in pairs(200, 0) if pair.moves]
    assert any(pair.swaps for pair in moving)
    for pair in moving[:40]:
        first, then = (TRANSFORMS[name] for name in pair.name.split(", then "))
        assert first is not then
        between, result = first.apply(pixels), pair.apply(pixels)
        assert np.array_equal(result, then.apply(between))
        assert (result.shape[:2] == (WIDTH, HEIGHT)) == pair.swaps
        places = pair.where(POINTS, HEIGHT, WIDTH)
        expected = then.where(first.where(POINTS, HEIGHT, WIDTH), *between.shape[:2])
        assert np.array_equal(places, expected, equal_nan=True)


@pytest.mark.parametrize(("first", "then"), [("turned 90", "shifted 25 %, wrapped"), ("swirl 0.8", "transposed"),
                                             ("scaled 0.75", "barrel")])
def test_a_dot_is_where_a_pair_says(first, then) -> None:
    every = {pair.name: pair for pair in pairs(COUNT * (COUNT - 1), 5)}
    assert len(every) == COUNT * (COUNT - 1)
    away = misplaced(every[f"{first}, then {then}"])
    assert len(away) >= 2 and max(away) < 3


def test_pairs_are_those_of_their_seed() -> None:
    def names(seed: int) -> list[str]:
        return [pair.name for pair in pairs(100, seed)]

    assert names(3) == names(3) != names(4)
    assert len(set(names(3))) == 100


@pytest.mark.parametrize("turn", [0, 30, 90])
def test_an_outline_fills_the_face(turn) -> None:
    points = outline((150, 100), 120, turn)
    assert 180 <= len(points) <= 220
    x, y = np.rint(points).astype(int).T
    inside = pasted.face(pasted.Head((150, 100), 121, turn), 200, 300)
    assert inside[y, x].all()
    assert inside.sum() == pytest.approx(np.pi / 4 * 121 * 0.75 * 121, rel=0.01)
    along = np.radians(turn)
    reach = (points - (150, 100)) @ (np.sin(along), np.cos(along))
    assert 52 < reach.max() < 60, "the long axis is turned with the head"


@pytest.mark.parametrize("turn", [0, 90, 135, -30])
def test_a_pasted_head_is_where_it_is_said_to_be(monkeypatch, turn) -> None:
    """A drawn photo: the centre of the face is red, the chin is green."""
    drawn, person = np.zeros((500, 400, 3), np.uint8), pasted.Person("drawn", (180, 220), 160)
    cv2.circle(drawn, (180, 220), 12, (255, 0, 0), -1)
    cv2.circle(drawn, (180, 300), 12, (0, 255, 0), -1)
    monkeypatch.setattr(photos, "load", lambda name: drawn)
    canvas = np.zeros((300, 320, 3), np.uint8)
    head = pasted.paste(canvas, person, (150, 140), 80, turn)
    assert head == pasted.Head((150, 140), 80, turn)
    along = np.radians(turn)
    chin = np.array(head.centre) + 40 * np.array([np.sin(along), np.cos(along)])
    for channel, place in ((0, head.centre), (1, chin)):
        assert np.hypot(*(centroid(canvas[..., channel:channel + 1]) - place)) < 1


@pytest.mark.parametrize("soft", [True, False])
def test_the_detector_sees_all_heads_at_their_places(soft) -> None:
    [(canvas, heads)] = pasted.grid(PEOPLE, 80, soft=soft)
    assert tuple(heads) == PEOPLE and len(PEOPLE) == 12
    boxes = np.array([detection.box_ltrb for detection in CenterFace().detect(canvas)])
    centres, heights = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 3] - boxes[:, 1]
    for name, head in heads.items():
        away = np.hypot(*(centres - head.centre).T)
        assert away.min() < 0.15 * head.face_height, name
        assert 0.8 < heights[away.argmin()] / head.face_height < 1.25, name


@pytest.mark.parametrize(("face_height", "size", "canvases"), [(40, pasted.SMALL, [12]), (160, pasted.SMALL, [2] * 6),
                                                               (24, (2048, 1280), [12])])
def test_a_grid_has_as_many_heads_as_fit(face_height, size, canvases) -> None:
    made = list(pasted.grid(PEOPLE, face_height, 90, size))
    assert [len(heads) for _, heads in made] == canvases
    assert [name for _, heads in made for name in heads] == list(PEOPLE)
    for pixels, heads in made:
        assert pixels.shape == (size[1], size[0], 3)
        places = np.array([head.centre for head in heads.values()])
        assert (places > face_height).all() and (places < np.array(size) - face_height).all()
        apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(places))
        assert apart.min() >= 2.2 * face_height


def test_no_grid_without_room() -> None:
    with pytest.raises(ValueError, match="room for 0 heads of 400 px"):
        next(pasted.grid(PEOPLE, 400))


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_the_border_leaves_its_share_of_the_width(share) -> None:
    made = list(pasted.at_the_border(PEOPLE, 80, share))
    assert sum(len(heads) for _, heads in made) == 12
    [cut, *_], whole = made[0][1].values(), pasted.Head((200, 200), 80)
    left = [pasted.face(head, 640, 1024).any(axis=0).sum() for head in (cut, whole)]
    assert left[0] / left[1] == pytest.approx(share, abs=0.03)
    canvas, heads = next(pasted.grid(PEOPLE, 80))
    pixels, head = pasted.cropped(canvas, heads["biden"], share)
    assert pasted.face(head, *pixels.shape[:2]).any(axis=0).sum() == pytest.approx(left[0], abs=2)
    assert np.array_equal(pixels[10, 5], canvas[10, 5 + heads["biden"].centre[0] - head.centre[0]])


@pytest.mark.parametrize("turn", [0, 60])
def test_covered_is_the_share_of_the_face_that_became_grey(turn) -> None:
    canvas, heads = next(pasted.grid(PEOPLE[:3], 120, turn))
    head = heads["hopper"]
    assert pasted.covered(canvas, canvas, head) == 0
    inside = pasted.face(head, *canvas.shape[:2])
    grey = np.where(inside[..., None], 128, canvas).astype(np.uint8)
    assert pasted.covered(canvas, grey, head) == 1
    assert pasted.covered(canvas, pasted.encoded("JPEG", 98)(np.full_like(canvas, 128)), head) == 1
    assert pasted.covered(canvas, grey, heads["biden"]) == 0
    half = grey.copy()
    half[:, :head.centre[0]] = canvas[:, :head.centre[0]]
    assert pasted.covered(canvas, half, head) == pytest.approx(0.5, abs=0.02)
    points = outline(head.centre, head.face_height, turn)
    assert pasted.covered_at(canvas, half, points) == pytest.approx(0.5, abs=0.06)
    nowhere = np.array([(np.nan, np.nan), (-5, 3)])
    assert pasted.covered_at(canvas, half, np.vstack([points, nowhere])) == pasted.covered_at(canvas, half, points)


def test_what_was_grey_before_proves_nothing() -> None:
    grey, head = np.full((200, 200, 3), 128, np.uint8), pasted.Head((100, 100), 90)
    black = np.zeros_like(grey)
    assert pasted.covered(grey, grey, head) == 1, "nothing is left to cover"
    black[:, 100:] = 128
    assert pasted.covered(black, black, head) == 0


@pytest.mark.parametrize("kind", pasted.OCCLUSIONS)
def test_an_occlusion_turns_with_the_head(kind) -> None:
    canvas, flat = np.full((300, 300, 3), 128, np.uint8), pasted.Head((150, 150), 100)
    upright = pasted.occluded(canvas, [flat], kind)
    turned = pasted.occluded(canvas, [pasted.Head((150, 150), 100, 90)], kind)
    share = (upright != 128).any(axis=-1)[pasted.face(flat, 300, 300)].mean()
    assert 0.2 < share < 0.98, "something of the face is hidden, something is left"
    same = np.rot90(upright[:, :, 0])[:-1, 1:] == turned[1:, 1:, 0]  # the middle is a pixel, not a corner
    assert same.mean() > 0.97
    assert (canvas == 128).all()


@pytest.mark.parametrize("name", pasted.DAMAGES)
def test_a_damage_changes_the_canvas(name) -> None:
    [canvas] = [canvas for canvas, _ in pasted.grid(PEOPLE, 60)]
    damaged = pasted.DAMAGES[name](canvas)
    assert damaged.shape == canvas.shape and damaged.dtype == np.uint8
    assert np.abs(damaged.astype(int) - canvas).mean() > 1


def test_the_hard_cases() -> None:
    assert len(hard_cases.NAMES) == len(set(hard_cases.NAMES)) == 64
    rights = list(hard_cases.RIGHT.values())
    assert [rights.count(right) for right in ("covered", "saved", "refused")] == [35, 13, 16]
    for name in ("beside_40px_120deg", "result_hopper_rot90", "occluded_hat+mask", "nobody_in_the_original"):
        case = hard_cases.case(name)
        assert case.name == name and (case.result is None) == (case.right == "covered")
        picture = case.original if case.result_heads is None else case.result
        for head in case.result_heads or case.heads:
            assert pasted.face(head, *picture.shape[:2]).sum() > 0.9 * np.pi * 0.1875 * head.face_height**2
