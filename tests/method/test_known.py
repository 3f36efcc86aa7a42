"""Boxes and masks that a workflow knows of: what is read, what is refused, and who of the persons has no face."""


import numpy as np
import pytest
import torch

from camouflage.errors import CamouflageError
from camouflage.method.faces import Face, Faces, Picture
from camouflage.method.known import (
    boxes_of,
    faceless,
    parts,
    person_areas,
    without_face,
)

ONE = {"x": 10, "y": 20, "width": 30, "height": 40}
TWO = {"x": 1.5, "y": -2.5, "width": 8.0, "height": 9.0, "label": "face", "score": 0.9, "metadata": {"a": [1]}}
FIRST, SECOND = (10.0, 20.0, 40.0, 60.0), (1.5, -2.5, 9.5, 6.5)


# --- boxes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "count", "expected"), [
    (None, 2, [(), ()]), ([], 2, [(), ()]), ([[], []], 2, [(), ()]),
    (ONE, 1, [(FIRST,)]), (ONE, 2, [(FIRST,), (FIRST,)]),
    ([ONE, TWO], 1, [(FIRST, SECOND)]), ((TWO, ONE), 2, [(SECOND, FIRST)] * 2),
    ([[ONE, TWO]], 1, [(FIRST, SECOND)]), ([[TWO]], 3, [(SECOND,)] * 3),
    ([[ONE], [], [TWO, ONE]], 3, [(FIRST,), (), (SECOND, FIRST)]),
])  # fmt: skip
def test_one_box_a_list_and_a_list_for_each_picture(value, count, expected):
    assert boxes_of(value, count, "boxes") == expected


@pytest.mark.parametrize("number", [
    int, float, np.int64, np.float32, np.uint16, np.array, lambda value: np.array([value]), torch.tensor,
    lambda value: torch.tensor([float(value)], dtype=torch.bfloat16), lambda value: torch.tensor(value).float()])
def test_numbers_of_every_kind(number):
    box, = boxes_of({key: number(value) for key, value in ONE.items()}, 1, "boxes")[0]
    assert box == FIRST and all(type(value) is float for value in box)


def test_a_box_that_was_drawn_backwards():
    assert boxes_of({"x": 40, "y": 60, "width": -30, "height": -40}, 1, "boxes") == [(FIRST,)]
    assert boxes_of({"x": 40, "y": 20, "width": -30, "height": 40}, 1, "boxes") == [(FIRST,)]


@pytest.mark.parametrize(("value", "count", "text"), [
    ("face", 1, "'boxes' must be a box or a list of boxes, but got 'face'"),
    (7, 1, "'boxes' must be a box or a list of boxes, but got 7"),
    (torch.zeros(2, 4), 1, "'boxes' must be a box or a list of boxes"),
    ([10, 20, 30, 40], 1, r"'boxes'\[0\] must be a box, but got 10"),
    ([ONE, [ONE]], 1, r"'boxes'\[1\] must be a box, but got \["),
    ([[ONE], [[ONE]]], 2, r"'boxes'\[1\]\[0\] must be a box, but got \["),
    ([[ONE], [ONE]], 3, "'boxes' has boxes for 2 pictures, but there are 3"),
    ([[ONE], [ONE]], 1, "'boxes' has boxes for 2 pictures, but there are 1"),
    ({"x": 1, "y": 2, "width": 3}, 1, "'boxes' has no height"),
    ([[ONE, ONE, {**ONE, "x": float("nan")}]], 1, r"'boxes'\[0\]\[2\] x must be a number .* but got nan"),
    ([{**ONE, "width": float("inf")}], 1, r"'boxes'\[0\] width must be a number .* but got inf"),
    ({**ONE, "y": "20"}, 1, "'boxes' y must be a number .* but got '20'"),
    ({**ONE, "y": None}, 1, "'boxes' y must be a number .* but got None"),
    ({**ONE, "y": True}, 1, "'boxes' y must be a number .* but got True"),
    ({**ONE, "y": torch.tensor([1.0, 2.0])}, 1, "'boxes' y must be a number"),
    ({**ONE, "y": torch.tensor(float("nan"))}, 1, "'boxes' y must be a number .* but got nan"),
    ({**ONE, "y": 1j}, 1, "'boxes' y must be a number"),
    ({**ONE, "x": 1_000_001}, 1, "'boxes' x must be a number from -1e\\+06 to 1e\\+06"),
    ({**ONE, "x": 10**400}, 1, "'boxes' x must be a number"),
    ({**ONE, "width": 0}, 1, "'boxes' is a box of 0 x 40 px"),
    ({**ONE, "height": 1e-300}, 1, "'boxes' is a box of 30 x 1e-300 px"),
    ([[], [ONE] * 1001], 2, r"'boxes'\[1\] has 1001 boxes; at most 1000"),
])
def test_what_is_no_box_is_refused_and_its_place_is_named(value, count, text):
    with pytest.raises(CamouflageError, match=text) as error:
        boxes_of(value, count, "boxes")
    assert any(advice in str(error.value) for advice in ("Connect", "Keep")), "it does not say what to do"


def test_a_thousand_boxes_are_taken():
    assert len(boxes_of([ONE] * 1000, 1, "boxes")[0]) == 1000


# --- masks --------------------------------------------------------------------------------------------------------


def half(height: int, width: int) -> torch.Tensor:
    """The left half is a person."""
    mask = torch.zeros(height, width)
    mask[:, : width // 2] = 1.0
    return mask


@pytest.mark.parametrize("size", [(40, 60), (20, 30), (160, 240), (41, 60), (7, 10)])
def test_a_mask_of_any_size_lies_on_the_picture(size):
    area, = person_areas(half(*size), 1, [(40, 60)], "person_mask")
    assert area is not None and area.dtype == bool and np.array_equal(area, half(40, 60).numpy() > 0)


def test_masks_for_all_and_for_each():
    assert person_areas(None, 2, [(4, 6)] * 2, "person_mask") == [None, None]
    one, two = half(4, 6), 1 - half(4, 6)
    sizes = [(4, 6), (8, 12)]
    shared = person_areas(one[None], 2, sizes, "person_mask")
    assert [area.shape for area in shared if area is not None] == sizes and all(area[0, 0] for area in shared)
    each = person_areas(torch.stack([one, two]), 2, sizes, "person_mask")
    assert each[0][0, 0] and not each[1][0, 0] and each[1][7, 11]
    assert person_areas(one > 0, 1, [(4, 6)], "person_mask")[0].sum() == 12
    assert not person_areas(0.5 * one, 1, [(4, 6)], "person_mask")[0].any(), "half a person is none"


@pytest.mark.parametrize(("mask", "text"), [
    (np.ones((4, 6), np.float32), "must be a mask"), ("mask", "must be a mask"), (torch.ones(6), r"shape \(6,\)"),
    (torch.ones(1, 1, 4, 6), r"shape \(1, 1, 4, 6\)"), (torch.ones(1, 0, 6), r"shape \(1, 0, 6\)"),
    (torch.ones(4, 6, dtype=torch.complex64), "must be a mask"),
    (torch.ones(3, 4, 6), "has 3 masks, but there are 2 pictures"),
    (torch.full((4, 6), float("nan")), "NaN or infinite"), (torch.full((4, 6), float("inf")), "NaN or infinite"),
    (255 * torch.ones(4, 6), "runs from 255 to 255"), (-torch.ones(4, 6), "runs from -1 to -1"),
    (torch.zeros(64, 64), r"64 x 64 px, but picture 0 .* is 60 x 40 px: another shape.*Load Image"),
])
def test_what_is_no_mask_is_refused(mask, text):
    with pytest.raises(CamouflageError, match=rf"(?s)'person_mask' .*{text}.*Connect a MASK"):
        person_areas(mask, 2, [(40, 60)] * 2, "person_mask")


# --- who has no face ----------------------------------------------------------------------------------------------


def drawn(*rectangles: tuple[int, int, int, int], size: tuple[int, int] = (400, 600)) -> np.ndarray:
    """Persons as rectangles (left, top, right, bottom)."""
    area = np.zeros(size, bool)
    for left, top, right, bottom in rectangles:
        area[top:bottom, left:right] = True
    return area


LEFT, RIGHT = (50, 100, 150, 400), (400, 120, 500, 400)
FACE = (85.0, 110.0, 115.0, 150.0)  # of the left one


def test_the_person_without_a_face_is_left():
    area = drawn(LEFT, RIGHT)
    before = area.copy()
    assert np.array_equal(faceless(area, [FACE]), drawn(RIGHT))
    assert np.array_equal(faceless(area, []), area) and np.array_equal(area, before)
    both = [FACE, (430.0, 130.0, 460.0, 170.0)]
    assert not faceless(area, both).any() and not faceless(area, both[::-1]).any()
    assert not faceless(np.zeros((9, 9), bool), [FACE]).any()


@pytest.mark.parametrize(("box", "belongs"), [
    ((140, 100, 180, 140), True),  # a quarter of it
    ((141, 100, 181, 140), False),  # 9 of 40 columns
    ((145, 90, 154, 110), True),  # its corner
    ((20, 70, 60, 110), False), ((-50, -50, -10, -10), False), ((600, 120, 640, 160), False),
])
def test_to_which_part_a_face_belongs(box, belongs):
    assert (faceless(drawn(LEFT), [tuple(map(float, box))]).sum() < drawn(LEFT).sum()) == belongs
    part, = parts(drawn(LEFT))
    assert part.holds(tuple(map(float, box))) == belongs


def test_a_face_whose_centre_is_a_hole_of_the_mask():
    area = drawn(LEFT)
    area[125:135, 95:105] = False  # spectacles
    assert not faceless(area, [FACE]).any()


def test_a_mask_that_merges_two_persons():
    area = drawn((0, 200, 600, 400), (50, 50, 150, 400))
    rest = faceless(area, [FACE])  # 30 px wide, centre at 100: reaches from -20 to 220
    assert np.array_equal(rest, drawn((220, 200, 600, 400)))
    assert np.array_equal(faceless(area, [FACE, (300.0, 210.0, 330.0, 250.0)]), drawn((435, 200, 600, 400)))
    column = drawn((50, 0, 150, 400))  # 40 px high, top at 330: reaches up to 230
    assert np.array_equal(faceless(column, [(85.0, 330.0, 115.0, 370.0)]), drawn((50, 0, 150, 230)))


def test_beside_one_face_and_above_another_is_nobodys():
    area = drawn((0, 0, 600, 400))
    low_left, high_right = (85.0, 330.0, 115.0, 370.0), (500.0, 100.0, 530.0, 140.0)
    rest = faceless(area, [low_left, high_right])
    assert rest[100, 100] and not rest[300, 100] and not rest[100, 515] and rest[300, 300]


def test_specks_are_nobody():
    area = drawn(LEFT, (300, 300, 315, 315), (500, 50, 516, 53))
    area[10, ::3] = True
    assert np.array_equal(faceless(area, [FACE]), drawn((500, 50, 516, 53)))
    assert np.array_equal(faceless(area, [FACE], least_side=0), area & ~drawn(LEFT))


def test_parts_in_order():
    found = parts(drawn((300, 20, 340, 60), (10, 100, 50, 140), (50, 140, 60, 150), (200, 100, 220, 120)))
    assert [part.bounds_ltrb for part in found] == [(300, 20, 340, 60), (10, 100, 60, 150), (200, 100, 220, 120)]
    assert [int(part.area.sum()) for part in found] == [1600, 1700, 400] and parts(np.zeros((3, 3), bool)) == []


def test_an_area_is_of_bool():
    with pytest.raises(CamouflageError, match=r"this is \(4, 6\) of float64"):
        faceless(np.ones((4, 6)), [])


def test_ten_megapixels_full_of_specks():
    rng = np.random.default_rng(0)
    area = drawn((300, 300, 1500, 2700), (2000, 500, 2600, 2600), size=(2738, 3652)) | (
        rng.random((2738, 3652)) < 0.05)
    rest = faceless(area, [(800.0 + i, 400.0, 1000.0 + i, 660.0) for i in range(6)])
    assert not rest[1000, 1000] and rest[1000, 2300]


def test_how_many_persons_have_no_face():
    points = ((90.0, 120.0),) * 5
    faces = Faces((Picture(400, 600, (Face(FACE, 0.9, points),)), Picture(400, 600), Picture(400, 600)))
    mask = torch.from_numpy(np.stack([drawn(LEFT, RIGHT), drawn(LEFT, RIGHT), drawn()])).float()
    assert without_face(faces, mask, "person_mask") == [1, 2, 0]
    assert without_face(faces, None, "person_mask") == [0, 0, 0]
