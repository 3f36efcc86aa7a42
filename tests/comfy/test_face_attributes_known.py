"""Face Attributes with boxes and masks that the workflow knows of: both only ever add faces."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from in_host import pictures

SIDE = 256  # px of the pictures: one pixel, one level of red across and of green down


@dataclass
class Scene:
    """A detector that knows who is in the picture; it reads off the colours which part of it it sees, and how large.

    Attributes:
        faces: (box in the picture, score, from which enlargement on it is found).
        looked: what it was shown, (left, top, right, bottom) in pixels of the picture.
    """

    faces: list[tuple[tuple[float, float, float, float], float, float]]
    looked: list[tuple[float, float, float, float]] = field(default_factory=list)

    def __call__(self, net: object, images: torch.Tensor, threshold: float) -> dict[str, torch.Tensor]:
        height, width = images.shape[2:]
        x, y = images[0, 0].float().mean(0), images[0, 1].float().mean(1)
        quarter, half = (width // 4, height // 4), (width // 2, height // 2)
        px, py = ((line[q + h] - line[q]).item() / h for line, q, h in zip((x, y), quarter, half, strict=True))
        left, top = ((line[q] + 0.5 - (q + 0.5) * p).item()
                     for line, q, p in zip((x, y), quarter, (px, py), strict=True))
        self.looked.append((left, top, left + width * px, top + height * py))
        kept = [(box, score) for box, score, least in self.faces if score >= threshold and 1 / px >= 0.99 * least
                and left < (box[0] + box[2]) / 2 < left + width * px
                and top < (box[1] + box[3]) / 2 < top + height * py]
        rects = torch.tensor([[(b[0] - left) / px, (b[1] - top) / py, (b[2] - left) / px, (b[3] - top) / py]
                              for b, _ in kept]).view(-1, 4)
        parts = torch.tensor([[.31, .38], [.69, .38], [.5, .56], [.35, .74], [.65, .74]])
        return {"rects": rects, "points": rects[:, None, :2] + parts * (rects[:, None, 2:] - rects[:, None, :2]),
                "scores": torch.tensor([score for _, score in kept]), "image_ids": torch.zeros(len(kept)).long()}


@pytest.fixture
def plant(host, monkeypatch) -> Callable[..., Scene]:
    """plant(faces...) -> the scene that takes the detector's place."""

    def call(*faces: tuple[tuple[float, float, float, float], float, float]) -> Scene:
        scene = Scene(list(faces))
        monkeypatch.setattr(importlib.import_module("facer.face_detection.retinaface"), "batch_detect", scene)
        return scene

    return call


@pytest.fixture
def no_dlib(host, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    host.module("camouflage.method.keypoints")._predictor.cache_clear()


def image(batch: int = 1) -> torch.Tensor:
    """Red says how far right a pixel is, green how far down."""
    line = torch.arange(SIDE) / 255
    return torch.stack([line.expand(SIDE, SIDE), line[:, None].expand(SIDE, SIDE), torch.zeros(SIDE, SIDE)],
                       -1).expand(batch, -1, -1, -1)


def drawn(box: tuple[float, float, float, float]) -> dict[str, float]:
    """A box as BOUNDING_BOX."""
    left, top, right, bottom = box
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def mask(*rectangles: tuple[int, int, int, int]) -> torch.Tensor:
    area = torch.zeros(1, SIDE, SIDE)
    for left, top, right, bottom in rectangles:
        area[:, top:bottom, left:right] = 1.0
    return area


def near(a: object, b: object, px: float = 1.0) -> bool:
    return bool((torch.tensor(a) - torch.tensor(b)).abs().max() < px)


SEEN = ((20.0, 30.0, 60.0, 80.0), 0.9, 0.0)  # at any size
HIDDEN = (150.0, 100.0, 170.0, 126.0)  # a face that only a closer look finds
AWAY = (200.0, 190.0, 230.0, 228.0)  # nothing is found here


# --- boxes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxes", [None, [], [[]], drawn(SEEN[0]), [drawn((25.0, 35.0, 75.0, 95.0))] * 3])
def test_a_box_on_a_found_face_adds_nothing(run, plant, boxes):
    scene = plant(SEEN)
    assert run("FaceAttributes", image=image(), boxes=boxes) == run("FaceAttributes", image=image())
    assert len(scene.looked) == 2, "nothing is looked at closer"


def test_a_box_elsewhere_is_looked_at_closer(run, plant):
    scene = plant(SEEN, (HIDDEN, 0.4, 2.0))  # its score is below the threshold, too
    plain, = run("FaceAttributes", image=image())
    sloppy = (148.0, 99.0, 173.0, 129.0)
    faces, = run("FaceAttributes", image=image(), boxes=drawn(sloppy))
    first, second = faces.pictures[0].faces
    assert (first,) == plain.pictures[0].faces and second.box_ltrb == sloppy
    assert second.score == pytest.approx(0.4) and None not in second.attributes
    left, top, right, bottom = HIDDEN
    parts = ((.31, .38), (.69, .38), (.5, .56), (.35, .74), (.65, .74))
    assert near(second.keypoints, [(left + x * (right - left), top + y * (bottom - top)) for x, y in parts])
    assert near(scene.looked[-1], (135, 84, 186, 144), 1.5), "twice the box"


def test_the_best_of_several_faces_in_a_box_counts(run, plant):
    beside = (HIDDEN[0] - 14, HIDDEN[1], HIDDEN[2] - 14, HIDDEN[3])
    plant((beside, 0.95, 2.0), (HIDDEN, 0.6, 2.0))
    face, = run("FaceAttributes", image=image(), boxes=drawn(HIDDEN))[0].pictures[0].faces
    assert face.score == pytest.approx(0.6)


def test_where_nothing_is_found_dlib_places_eyes_and_nose(host, run, plant):
    plant(SEEN)
    face = run("FaceAttributes", image=image(), boxes=[drawn(AWAY)], landmarks=True)[0].pictures[0].faces[1]
    assert face.box_ltrb == AWAY and face.score == 0.0
    assert None not in face.attributes and face.landmarks is not None
    assert all(AWAY[0] < x < AWAY[2] and AWAY[1] < y < AWAY[3] for x, y in face.keypoints)
    pixels = (image()[0] * 255).round().to(torch.uint8).numpy()
    expected = host.module("camouflage.method.keypoints").predicted_points(pixels, AWAY)
    assert near(face.keypoints, expected, 2.0) and len(set(face.keypoints)) == 5


def test_without_dlib_the_points_are_a_mean_faces_and_nothing_is_read_by_them(host, run, plant, no_dlib):
    plant(SEEN)
    faces, = run("FaceAttributes", image=image(), boxes=[drawn(AWAY)], landmarks=True)
    face = faces.pictures[0].faces[1]
    assert face.keypoints == host.module("camouflage.method.keypoints").mean_points(AWAY)
    assert set(face.attributes) == {None} and face.landmarks is None and face.score == 0.0
    # What is unknown passes through the nodes behind.
    edited, = run("EditAttributes", faces=faces, preset="paper", edits='{"persons": {"1": {"Smiling": 0.75}}}')
    values = edited.pictures[0].faces[1].attributes
    assert values[31] == 0.75 and set(values) == {None, 0.75}
    for region in ("box", "grown", "landmarks"):
        drawing = run("AttributeMap", faces=edited, width=SIDE, height=SIDE, region=region)[0].values
        cell = drawing[0, :, 26, 27]  # within the box
        assert cell[31] == 0.5 and not cell[:31].any() and drawing[0, 40, 24:29, 25:29].any()
    assert run("FacePreview", image=image(), faces=faces)[0].shape == (1, SIDE, SIDE, 3)


def test_boxes_that_leave_the_picture(run, plant):
    plant(SEEN)
    face = run("FaceAttributes", image=image(), boxes=drawn((230.0, 100.0, 300.0, 160.0)))[0].pictures[0].faces[1]
    assert face.box_ltrb == (230.0, 100.0, 256.0, 160.0)
    with pytest.raises(ValueError, match=r"a box of 30 x 40 px at 300, 10, but picture 0 .* is 256 x 256 px"):
        run("FaceAttributes", image=image(), boxes=[drawn(AWAY), drawn((300.0, 10.0, 330.0, 50.0))])


@pytest.mark.parametrize("box", [(255.5, 0.0, 256.0, 250.0), (0.0, 255.9, 256.0, 256.0), (0.0, 0.0, 0.1, 0.1),
                                 (100.0, 10.0, 101.0, 200.0), (0.0, 0.0, 256.0, 60.0)])  # fmt: skip
def test_the_narrowest_and_largest_boxes_on_the_real_detector(run, box):
    picture = pictures(4, 1, SIDE, SIDE)
    faces = run("FaceAttributes", image=picture, boxes=drawn(box))[0].pictures[0].faces
    assert faces[-1].box_ltrb == pytest.approx(box)
    assert faces[:-1] == run("FaceAttributes", image=picture)[0].pictures[0].faces


def test_the_order_of_boxes_does_not_matter(run, plant):
    plant(SEEN, (HIDDEN, 0.8, 2.0))
    boxes = [drawn(AWAY), drawn(HIDDEN), drawn(SEEN[0]), drawn((152.0, 101.0, 172.0, 127.0)),
             drawn((5., 150., 30., 180.))]
    one, = run("FaceAttributes", image=image(), boxes=boxes)
    assert one == run("FaceAttributes", image=image(), boxes=boxes[::-1])[0]
    assert [face.box_ltrb for face in one.pictures[0].faces] == [SEEN[0], (5., 150., 30., 180.), HIDDEN, AWAY]


def test_the_smallest_face_does_not_remove_boxes(run, plant):
    plant(SEEN, (HIDDEN, 0.8, 0.0))
    plain = run("FaceAttributes", image=image(), smallest_face=30)[0].pictures[0].faces
    assert [face.box_ltrb for face in plain] == [SEEN[0]]
    faces = run("FaceAttributes", image=image(), smallest_face=30, boxes=drawn(HIDDEN))[0].pictures[0].faces
    assert [face.box_ltrb for face in faces] == [SEEN[0], HIDDEN] and faces[1].score == pytest.approx(0.8)


def test_boxes_of_a_batch(run, plant):
    plant(SEEN)
    counts = lambda boxes: [len(p.faces) for p in run("FaceAttributes", image=image(2), boxes=boxes)[0].pictures]  # noqa: E731
    assert counts(drawn(AWAY)) == [2, 2] and counts([drawn(AWAY), drawn(HIDDEN)]) == [3, 3]
    assert counts([[drawn(AWAY)]]) == [2, 2] and counts([[], [drawn(AWAY)]]) == [1, 2]
    with pytest.raises(ValueError, match="'boxes' has boxes for 3 pictures, but there are 2"):
        counts([[drawn(AWAY)]] * 3)
    with pytest.raises(ValueError, match=r"'boxes'\[1\]\[0\] x must be a number"):
        counts([[], [{**drawn(AWAY), "x": float("nan")}]])


# --- masks of persons ---------------------------------------------------------------------------------------------


SEEN_BODY, HIDDEN_BODY, AWAY_BODY = (10, 25, 70, 250), (140, 95, 180, 180), (195, 185, 240, 250)


def test_a_person_without_a_face_is_looked_at_closer(run, plant, said):
    scene = plant(SEEN, (HIDDEN, 0.7, 3.0))
    faces, = run("FaceAttributes", image=image(), person_mask=mask(SEEN_BODY, HIDDEN_BODY))
    plain, = run("FaceAttributes", image=image())
    first, second = faces.pictures[0].faces
    assert (first,) == plain.pictures[0].faces and near(second.box_ltrb, HIDDEN) and None not in second.attributes
    assert near(scene.looked[1], (136, 86, 184, 189), 1.5) and len(scene.looked) == 3, "the one without a face alone"
    assert said == ["Faces: 2", "Faces: 1"]
    assert run("FaceAttributes", image=image(), threshold=0.8,
               person_mask=mask(SEEN_BODY, HIDDEN_BODY))[0] == plain, "the same threshold"
    assert said[-1].startswith("Person areas without a face: picture 0: 1. ")


def test_persons_who_stay_without_a_face_are_counted(run, plant, said):
    plant(SEEN)
    masks = torch.cat([mask(SEEN_BODY), mask(SEEN_BODY, HIDDEN_BODY, AWAY_BODY), mask(HIDDEN_BODY)])
    faces, = run("FaceAttributes", image=image(3), person_mask=masks)
    assert [len(picture.faces) for picture in faces.pictures] == [1, 1, 1]
    assert said[0].startswith("Person areas without a face: picture 1: 2, picture 2: 1. ") and "Draw a box" in said[0]
    run("FaceAttributes", image=image(), person_mask=mask(SEEN_BODY, AWAY_BODY), boxes=drawn(AWAY))
    assert said[1] == "Faces: 2", "a box counts as a face"


def test_a_face_left_out_for_its_size_leaves_a_person_without(run, plant, said):
    plant((HIDDEN, 0.8, 0.0))
    faces, = run("FaceAttributes", image=image(), person_mask=mask(HIDDEN_BODY), smallest_face=30)
    assert faces.count == 0 and said[0].startswith("Person areas without a face: picture 0: 1. ")


def test_a_neighbours_face_is_not_taken_twice(run, plant):
    half = (150.0, 30.0, 158.0, 56.0)  # what a cut through the neighbour's face would look like
    plant(((150.0, 30.0, 190.0, 56.0), 0.9, 0.0), (half, 0.9, 3.0))
    faces, = run("FaceAttributes", image=image(), person_mask=mask((148, 25, 200, 250), (60, 20, 146, 250)))
    assert faces.count == 1


@pytest.mark.parametrize("empty", [mask(), mask()[0], torch.zeros(2, 64, 64)[:1], mask((0, 0, 8, 8))])
def test_an_empty_mask_changes_nothing(run, plant, said, empty):
    scene = plant(SEEN)
    assert run("FaceAttributes", image=image(), person_mask=empty) == run("FaceAttributes", image=image())
    assert len(scene.looked) == 2 and said == ["Faces: 1", "Faces: 1"]


def test_one_mask_for_a_batch_and_what_is_refused(run, plant, said):
    plant(SEEN)
    assert run("FaceAttributes", image=image(2), person_mask=mask(SEEN_BODY, AWAY_BODY))[0].count == 2
    assert said[0].startswith("Person areas without a face: picture 0: 1, picture 1: 1. ")
    for wrong, text in ((torch.zeros(3, SIDE, SIDE), "3 masks, but there are 2 pictures"),
                        (torch.zeros(64, 128), "128 x 64 px, but picture 0"),
                        (mask() * float("nan"), "NaN"), (mask(AWAY_BODY) * 255, "runs from 0 to 255")):
        with pytest.raises(ValueError, match=f"'person_mask' .*{text}"):
            run("FaceAttributes", image=image(2), person_mask=wrong)


def test_the_sockets_are_optional_sockets_and_come_last(host):
    schema = host.nodes["CamouflageFaceAttributes"].GET_SCHEMA()
    assert [socket.id for socket in schema.inputs][-2:] == ["boxes", "person_mask"]
    boxes, persons = schema.inputs[-2:]
    assert (boxes.io_type, persons.io_type) == ("BOUNDING_BOX", "MASK") and boxes.optional and persons.optional
    assert boxes.as_dict()["forceInput"] is True, "newer hosts would draw a widget with a box of its own"
