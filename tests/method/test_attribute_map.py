"""The 41-channel map against a slow, obvious reference; separation of persons."""

import math
import random
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from camouflage.errors import CamouflageError
from camouflage.method.attribute_map import (
    CHANNELS,
    PROBABILITIES,
    REGIONS,
    SIGNED,
    AttributeMap,
    as_picture,
    attribute_map,
    owners,
)
from camouflage.method.attributes import edit
from camouflage.method.faces import ATTRIBUTES, Face, Faces, Picture, clip_box

SMILING, MALE = ATTRIBUTES.index("Smiling"), ATTRIBUTES.index("Male")


def side(a, b, p):
    """Above zero where p lies left of the way from a to b."""
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])


@lru_cache(maxsize=64)
def hull_edges(points) -> list:
    """Every pair of points that has all the others on one side."""
    return [(a, b) for a in points for b in points if a != b and all(side(a, b, p) >= 0 for p in points)]


def inside_hull(points, x: float, y: float) -> bool:
    """Exactly, by fractions."""
    return all(side([Fraction(v) for v in a], [Fraction(v) for v in b], (Fraction(x), Fraction(y))) >= 0
               for a, b in hull_edges(points))


def region_of(face: Face, region: str, grow: float):
    """(area, centre, test of a point) of a face's region."""
    left, top, right, bottom = face.box_ltrb
    area, centre = (right - left) * (bottom - top), ((left + right) / 2, (top + bottom) / 2)
    if region == "landmarks" and face.landmarks is not None:
        xs, ys = zip(*face.landmarks, strict=True)
        centre = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
        area = sum(a[0] * b[1] - a[1] * b[0] for a, b in hull_edges(face.landmarks)) / 2
        return area, centre, lambda x, y: (
            min(xs) <= x <= max(xs) and min(ys) <= y <= max(ys) and inside_hull(face.landmarks, x, y))
    if region == "grown" and grow > 1:
        half_width, half_height = (right - left) / 2 * grow, (bottom - top) / 2 * grow
        left, right = centre[0] - half_width, centre[0] + half_width
        top, bottom = centre[1] - half_height, centre[1] + half_height
    return area, centre, lambda x, y: left <= x < right and top <= y < bottom


def cells_of(picture: Picture, h: int, w: int, region: str, grow: float) -> list[set]:
    """Each face's cells, before overlaps are settled."""
    result = []
    for _, centre, holds in (region_of(face, region, grow) for face in picture.faces):
        cells = {(i, j) for i in range(h) for j in range(w)
                 if holds((j + 0.5) * picture.width / w, (i + 0.5) * picture.height / h)}
        if not cells:
            cells = {(min(max(math.floor(centre[1] * h / picture.height), 0), h - 1),
                      min(max(math.floor(centre[0] * w / picture.width), 0), w - 1))}
        result.append(cells)
    return result


def reference(faces: Faces, h: int, w: int, region: str, grow: float, radius: float) -> torch.Tensor:
    """The map, one cell, one face, one attribute at a time."""
    result = torch.zeros(len(faces.pictures), 41, h, w)
    for b, picture in enumerate(faces.pictures):
        cells = cells_of(picture, h, w, region, grow)
        for i in range(h):
            for j in range(w):
                here = [face for face, own in zip(picture.faces, cells, strict=True) if (i, j) in own]
                if not here:
                    continue
                face = min(here, key=lambda f: (
                    region_of(f, region, grow)[0], f.box_ltrb, f.keypoints, f.score, f.landmarks or (),
                    [-1 if p is None else p for p in f.attributes]))
                for a, p in enumerate(face.attributes):
                    result[b, a, i, j] = 0.0 if p is None else 2 * p - 1
                best = 0.0
                for x, y in face.keypoints:
                    dx, dy = x * (w / picture.width) - (j + 0.5), y * (h / picture.height) - (i + 0.5)
                    best = max(best, 1 - math.sqrt(dx * dx + dy * dy) / radius)
                result[b, 40, i, j] = best
    return result


def random_face(chance: random.Random, height: int, width: int, landmarks: bool) -> Face:
    """Any size from far below a pixel to more than the picture; clipped; on whole pixels half of the time."""
    clipped, box = None, [0.0] * 4
    while clipped is None:
        size = chance.choice([0.3, 1, 8, 40, 200]) * chance.uniform(0.5, 1.5)
        x, y = chance.uniform(-size, width), chance.uniform(-size, height)
        box = [x, y, x + size, y + size * chance.uniform(0.7, 1.6)]
        if chance.random() < 0.5:
            box = [round(x), round(y), round(x) + max(1, round(size)), round(y) + max(1, round(size))]
        clipped = clip_box(box, height, width)

    def points(n: int) -> list:
        return [(chance.uniform(box[0] - 2, box[2] + 2), chance.uniform(box[1] - 2, box[3] + 2)) for _ in range(n)]
    return Face(clipped, chance.random(), points(5), points(68) if landmarks and chance.random() < 0.8 else None,
                [None if chance.random() < 0.2 else chance.random() for _ in ATTRIBUTES])


@st.composite
def face_sets(draw, landmarks: bool = False, most: int = 6, pictures: int = 3) -> Faces:
    chance = random.Random(draw(st.integers(0, 2**32)))

    def picture() -> Picture:
        height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
        faces = [random_face(chance, height, width, landmarks) for _ in range(draw(st.integers(0, most)))]
        if len(faces) > 1 and draw(st.booleans()):  # the same box twice, with other content
            faces[0] = replace(faces[0], box_ltrb=faces[1].box_ltrb)
        return Picture(height, width, tuple(faces))
    return Faces(tuple(picture() for _ in range(draw(st.integers(1, pictures)))))


SIZES = st.integers(1, 24)


@given(face_sets(), SIZES, SIZES, st.sampled_from(["box", "grown"]), st.floats(1, 4), st.floats(1, 5))
@settings(max_examples=200)
def test_identical_to_the_reference(faces, h, w, region, grow, radius):
    drawn = attribute_map(faces, h, w, region, grow, radius)
    assert drawn.shape == (len(faces.pictures), 41, h, w) and drawn.dtype == torch.float32
    assert torch.equal(drawn, reference(faces, h, w, region, grow, radius))


@given(face_sets(landmarks=True, most=3, pictures=1), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=30)
def test_identical_to_the_reference_with_landmarks(faces, h, w):
    assert torch.equal(attribute_map(faces, h, w, "landmarks"), reference(faces, h, w, "landmarks", 1.0, 1.5))


@given(face_sets(landmarks=True), SIZES, SIZES, st.sampled_from(REGIONS), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_the_order_of_the_faces_does_not_matter(faces, h, w, region, chance):
    shuffled = Faces(tuple(replace(picture, faces=tuple(chance.sample(picture.faces, len(picture.faces))))
                           for picture in faces.pictures))
    assert torch.equal(attribute_map(faces, h, w, region), attribute_map(shuffled, h, w, region))


@given(face_sets(landmarks=True), SIZES, SIZES, st.sampled_from(REGIONS), st.data())
@settings(max_examples=200)
def test_one_persons_attributes_change_only_cells_of_that_person(faces, h, w, region, data):
    people = [(b, n) for b, picture in enumerate(faces.pictures) for n in range(len(picture.faces))]
    if not people:
        return
    b, n = data.draw(st.sampled_from(people))
    picture = faces.pictures[b]
    index = picture.persons()[n]
    changed = edit(faces, f'{{"persons": {{"{b}:{n}": {{"Smiling": 1, "Male": "forget", "Young": 0}}}}}}')
    before, after = attribute_map(faces, h, w, region), attribute_map(changed, h, w, region)
    different = (before != after).any(dim=1)
    own_region = torch.from_numpy(owners(replace(picture, faces=(picture.faces[index],)), h, w, region) >= 0)
    assert not different[b][~own_region].any()
    assert not different[torch.arange(len(faces.pictures)) != b].any()
    mine = torch.from_numpy(owners(picture, h, w, region) == index)
    if sum(face.box_ltrb == picture.faces[index].box_ltrb for face in picture.faces) == 1:  # no twin to swap with
        assert not different[b][~mine].any()
        assert (after[b, SMILING][mine] == 1).all() and (after[b, MALE][mine] == 0).all()


def face(box, probability=0.75, points=None, landmarks=None) -> Face:
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    return Face(box, 1.0, points or (middle,) * 5, landmarks, (probability,) * 40)


def one(picture: Picture, h: int, w: int, **options) -> torch.Tensor:
    return attribute_map(Faces((picture,)), h, w, **options)[0]


def test_the_encodings_have_a_name_and_a_version():
    assert SIGNED.metadata == {"encoding": "camouflage-signed", "encoding_version": "1"}
    assert PROBABILITIES.metadata == {"encoding": "camouflage-probabilities", "encoding_version": "1"}
    assert (CHANNELS, len(ATTRIBUTES)) == (41, 40)


def test_no_face_is_zeros_and_absent_is_not():
    assert not one(Picture(64, 64), 8, 8).any()
    drawn = one(Picture(64, 64, (face((0, 0, 32, 64), 0.0),)), 8, 8)
    assert (drawn[:40, :, :4] == -1).all() and not drawn[:, :, 4:].any()
    assert not one(Picture(64, 64, (face((0, 0, 32, 64), None),)), 8, 8)[:40].any()


def test_forgetting_removes_one_attribute_of_one_person():
    faces = Faces((Picture(64, 64, (face((0, 0, 32, 64)), face((32, 0, 64, 64)))),))
    before = attribute_map(faces, 8, 8)
    after = attribute_map(edit(faces, '{"persons": {"1": {"Smiling": "forget"}}}'), 8, 8)
    assert (before[:, :40] == 0.5).all()
    expected = before.clone()
    expected[0, SMILING, :, 4:] = 0
    assert torch.equal(after, expected)
    forgotten = attribute_map(edit(faces, '{"preset": "expression only"}'), 8, 8)
    assert [a for a in range(40) if forgotten[0, a].any()] == [ATTRIBUTES.index("Mouth_Slightly_Open"), SMILING]


@pytest.mark.parametrize(("height", "width", "h", "w"), [(512, 768, 64, 96), (768, 512, 96, 64), (300, 500, 64, 64),
                                                         (7, 1000, 8, 96), (768, 768, 48, 33)])
def test_corner_faces_land_in_the_corners(height, width, h, w):
    y, x = height / h * 2, width / w * 3  # two rows, three columns
    for box, rows, columns in [((0, 0, x, y), slice(0, 2), slice(0, 3)),
                               ((width - x, 0, width, y), slice(0, 2), slice(w - 3, w)),
                               ((0, height - y, x, height), slice(h - 2, h), slice(0, 3)),
                               ((width - x, height - y, width, height), slice(h - 2, h), slice(w - 3, w))]:
        expected = torch.zeros(h, w)
        expected[rows, columns] = 0.5
        assert torch.equal(one(Picture(height, width, (face(box),)), h, w)[SMILING], expected)


def test_a_cell_belongs_to_a_region_by_its_centre_left_and_top_included():
    picture = Picture(32, 32, (face((4, 12, 20, 28)),))  # centres lie at 4, 12, 20, 28
    expected = torch.zeros(4, 4)
    expected[1:3, 0:2] = 0.5
    assert torch.equal(one(picture, 4, 4)[0], expected)


def test_one_pixel_faces_do_not_vanish():
    picture = Picture(768, 768, (face((766.5, 0, 767, 0.5), 1.0), face((100, 100, 101, 101), 0.0),
                                 face((0, 0, 768, 768), 0.75)))
    drawn = one(picture, 96, 96)[0]
    assert drawn[0, 95] == 1 and drawn[12, 12] == -1
    assert (drawn == 0.5).sum() == 96 * 96 - 2


def test_the_smaller_region_stands_in_front_and_equal_ones_by_their_boxes():
    small, large = face((24, 24, 48, 48), 1.0), face((0, 0, 40, 40), 0.0)
    drawn = one(Picture(64, 64, (large, small)), 8, 8)[0]
    assert (drawn[3:6, 3:6] == 1).all() and (drawn == -1).sum() == 25 - 4
    left, right = face((0, 0, 40, 40), 0.0), face((24, 24, 64, 64), 1.0)
    drawn = one(Picture(64, 64, (right, left)), 8, 8)[0]
    assert (drawn[:5, :5] == -1).all() and (drawn == 1).sum() == 25 - 4


def test_owners_are_positions_in_the_list():
    picture = Picture(64, 64, (face((32, 0, 64, 64)), face((0, 0, 16, 64))))
    assert np.array_equal(owners(picture, 8, 8), np.repeat([[1, 1, -1, -1, 0, 0, 0, 0]], 8, axis=0))


def test_keypoints_are_cones_in_the_faces_own_cells():
    points = ((20.0, 20.0), (44.0, 20.0), (32.0, 30.0), (4.0, 4.0), (500.0, 500.0))
    drawn = one(Picture(64, 64, (face((16, 16, 64, 64), points=points),)), 8, 8, keypoint_radius=2.0)[40]
    assert drawn[2, 2] == 1 and drawn[2, 5] == 1  # on the cells' centres
    assert drawn[2, 3] == 0.5 and drawn[2, 4] == 0.5 and drawn[7, 7] == 0
    assert drawn[3, 3] == pytest.approx(1 - math.hypot(0.5, 0.25) / 2)
    assert not drawn[:2].any() and not drawn[:, :2].any()  # (4, 4) lies outside the region
    for x in np.linspace(0, 63.9, 37):  # the least radius: no keypoint falls between the cells
        assert one(Picture(64, 64, (face((0, 0, 64, 64), points=((x, 63.9 - x),) * 5),)), 8, 8,
                   keypoint_radius=1.0)[40].max() > 0.29


def test_grown_regions_keep_their_centre_and_landmark_hulls_their_shape():
    picture = Picture(80, 80, (face((30, 30, 50, 50)),))
    assert (one(picture, 80, 80, region="grown", grow=2.0)[0] != 0).nonzero().aminmax(dim=0).max.tolist() == [59, 59]
    assert (one(picture, 80, 80, region="grown", grow=2.0)[0] != 0).sum() == 40 * 40
    assert torch.equal(one(picture, 80, 80, region="grown", grow=1.0), one(picture, 80, 80))
    triangle = ((10.0, 10.0), (70.0, 10.0), (10.0, 70.0), *((20.0, 20.0),) * 65)
    drawn = one(Picture(80, 80, (face((30, 30, 50, 50), landmarks=triangle),)), 80, 80, region="landmarks")[0]
    rows, columns = np.indices((80, 80)) + 0.5
    expected = (rows > 10) & (columns > 10) & (rows + columns < 80)
    assert np.array_equal(drawn.numpy() != 0, expected)
    line = ((10.0, 10.0), *((70.0, 10.0),) * 67)
    assert (one(Picture(80, 80, (face((30, 30, 50, 50), landmarks=line),)), 80, 80, region="landmarks")[0] != 0
            ).nonzero().tolist() == [[10, 40]]
    assert torch.equal(one(picture, 80, 80, region="landmarks"), one(picture, 80, 80))


@pytest.mark.parametrize("seed", range(20))
def test_in_a_crowd_the_smallest_region_that_holds_a_cell_owns_it(seed):
    """Against all faces compared at once; the region of each face on its own."""
    chance = random.Random(seed)
    height, width = chance.randint(1, 700), chance.randint(1, 700)
    h, w, region, grow = chance.randint(1, 99), chance.randint(1, 99), REGIONS[seed % 3], chance.uniform(1, 4)
    faces = [random_face(chance, height, width, True) for _ in range(chance.randint(1, 60))]
    faces.append(replace(faces[0], score=0.5))
    front = sorted(range(len(faces)), key=lambda i: (region_of(faces[i], region, grow)[0], faces[i].key()))
    masks = np.array([owners(Picture(height, width, (faces[i],)), h, w, region, grow) == 0 for i in front])
    expected = np.where(masks.any(axis=0), np.array(front)[masks.argmax(axis=0)], -1)
    assert np.array_equal(owners(Picture(height, width, tuple(faces)), h, w, region, grow), expected)


def test_dtype_and_device():
    faces = Faces((Picture(64, 64, (face((0, 0, 32, 64)),)), Picture(64, 64)))
    half = attribute_map(faces, 8, 8, device="cpu", dtype=torch.float16)
    assert torch.equal(half, attribute_map(faces, 8, 8).half())
    assert attribute_map(faces, 8, 8, device="meta").shape == (2, 41, 8, 8)


@pytest.mark.parametrize(("options", "message"), [
    ({"latent_height": 0}, "latent_height must be whole cells from 1 to 2048, but got 0"),
    ({"latent_width": 8.0}, "latent_width must be whole cells"), ({"latent_width": 4096}, "but got 4096"),
    ({"region": "circle"}, "region must be one of box, grown, landmarks, but got 'circle'"),
    ({"region": "grown", "grow": 0.5}, "grow must be a number from 1 to 4, but got 0.5"),
    ({"region": "grown", "grow": float("nan")}, "grow must"),
    ({"keypoint_radius": 0}, "keypoint_radius must be a number from 1 to 64, but got 0"),
    ({"faces": None}, "drawn from faces, but got None"),
])
def test_bad_arguments_are_refused(options, message):
    good = {"faces": Faces((Picture(8, 8),)), "latent_height": 8, "latent_width": 8}
    with pytest.raises(CamouflageError, match=message):
        attribute_map(**{**good, **options})


def test_the_picture_of_a_map_shows_persons_apart_and_nothing_else():
    maps = torch.zeros(1, 41, 4, 6)
    maps[0, :40, 1:3, 0:2] = 1.0  # a person with everything
    maps[0, :40, 1:3, 4:6] = -0.5  # another
    maps[0, 40, 1, 0] = 1.0
    picture = as_picture(AttributeMap(maps), scale=2)
    assert picture.shape == (1, 8, 12, 3)
    assert torch.equal(picture[0, 2:6, 0:4], torch.ones(4, 4, 3))
    assert torch.equal(picture[0, 2:6, 8:12], torch.full((4, 4, 3), 0.25))
    assert picture[0, :, 4:8].abs().max() == 0 and picture[0, :2].abs().max() == 0
