"""Faces by Hand: boxes that a person drew on the photo, or wrote, on the picture that comes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from in_host import pictures

ONE, TWO = {"x": 10, "y": 20, "width": 30, "height": 40}, {"x": 60, "y": 2, "width": 9, "height": 8}
PHOTO = (700, 900)  # height, width
PLACES = [(200, 100, 90, 120), (405, 300, 60, 80), (690, 560, 77, 64)]  # in the photo; nothing cuts them off
HELD = ["CamouflageFaceAttributes", "CamouflageVerify", "CamouflageSafeSampler", "CamouflageRedact"]


def drawn(places: list[tuple[int, int, int, int]], height: int = PHOTO[0], width: int = PHOTO[1]) -> str:
    boxes = [dict(zip(ONE, place, strict=True)) for place in places]
    return json.dumps({"drawn_on": {"width": width, "height": height}, "boxes": boxes})


@pytest.fixture
def by_hand(host: SimpleNamespace) -> Any:
    """The boxes for pictures of a size."""

    def run(boxes: str, height: int = 100, width: int = 100, count: int = 1, **inputs: Any) -> Any:
        image = torch.zeros(1).expand(count, height, width, 3)
        return host.run("CamouflageFacesByHand", image=image, boxes=boxes, **inputs)[0]

    return run


@pytest.mark.parametrize(("text", "expected"), [
    ("", [[], []]), (" \n", [[], []]), ("[]", [[], []]), ("[[], []]", [[], []]),
    (json.dumps(ONE), [[ONE], [ONE]]), (json.dumps([ONE, TWO]), [[ONE, TWO]] * 2),
    (json.dumps([[TWO], [ONE, TWO]]), [[TWO], [ONE, TWO]]), (json.dumps([[ONE]]), [[ONE], [ONE]]),
    (json.dumps([{**ONE, "label": "Ann"}]), [[ONE], [ONE]]),
])  # fmt: skip
def test_what_is_written_is_in_pixels_of_the_picture(by_hand: Any, text: str, expected: list) -> None:
    assert by_hand(text, count=2) == expected
    assert by_hand(text, count=2, fit="stretch") == expected


def test_a_box_is_rounded_and_cut_at_the_border_and_never_without_a_size(by_hand: Any) -> None:
    text = json.dumps([{"x": -20, "y": 90.4, "width": 50, "height": 50},
                       {"x": 99.9, "y": 10.2, "width": 0.1, "height": 0.2}])
    assert by_hand(text) == [[{"x": 0, "y": 90, "width": 30, "height": 10},
                              {"x": 99, "y": 10, "width": 1, "height": 1}]]


@pytest.mark.parametrize(("fit", "own_fit"), [("crop", "crop"), ("stretch", "stretch"), ("square", "crop")])
@pytest.mark.parametrize("size", [512, 640, 192])
def test_a_box_that_was_drawn_on_the_photo_lies_on_the_same_face(
        host: SimpleNamespace, fit: str, own_fit: str, size: int) -> None:
    """The closed form, and what is really in the picture: faces are white here, and the photo is black."""
    photo = torch.zeros(1, *PHOTO, 3)
    for x, y, width, height in PLACES:
        photo[:, y:y + height, x:x + width] = 1
    picture = host.run("CamouflagePrepareImage", image=photo, size=size, fit=fit)[0]
    boxes, = host.run("CamouflageFacesByHand", image=picture, boxes=drawn(PLACES), fit=own_fit)[0]

    (photo_height, photo_width), (height, width) = PHOTO, picture.shape[1:3]
    scale = np.array([width / photo_width, height / photo_height])
    if fit != "stretch":
        scale[:] = scale.max()
    margin = (np.array([width, height]) - scale * [photo_width, photo_height]) / 2
    for (x, y, w, h), box in zip(PLACES, boxes, strict=True):
        corners = [(box["x"], box["y"]), (box["x"] + box["width"], box["y"] + box["height"])]
        np.testing.assert_allclose(corners, [margin + scale * (x, y), margin + scale * (x + w, y + h)], atol=0.51)
        rows, columns = ((picture[0, :, :, 0] > 0.5) & window(picture, box, 6)).nonzero().T
        seen = [(columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)]
        np.testing.assert_allclose(corners, seen, atol=1.01)


def window(picture: torch.Tensor, box: dict[str, int], margin: int) -> torch.Tensor:
    """Where a face must be: its box and a little around it."""
    inside = torch.zeros(picture.shape[1:3], dtype=torch.bool)
    inside[max(box["y"] - margin, 0):box["y"] + box["height"] + margin,
           max(box["x"] - margin, 0):box["x"] + box["width"] + margin] = True
    return inside


def test_who_does_not_change_the_photo_gets_the_boxes_as_drawn(by_hand: Any) -> None:
    for fit in ("crop", "stretch"):
        boxes, = by_hand(drawn(PLACES), *PHOTO, fit=fit)
        assert [tuple(box.values()) for box in boxes] == PLACES


@pytest.mark.parametrize(("text", "inputs", "error"), [
    ("[{", {}, "'boxes' is no valid JSON"), ("7", {}, "'boxes' must be a box or a list of boxes, but got 7"),
    (json.dumps([ONE, {"x": 1}]), {}, r"'boxes'\[1\] has no y, width, height"),
    (json.dumps([ONE, {**ONE, "width": 0}]), {}, r"'boxes'\[1\] is a box of 0 x 40 px: nothing is in it"),
    ('[{"x": NaN, "y": 0, "width": 1, "height": 1}]', {}, "only finite numbers"),
    (json.dumps([[ONE]] * 3), {"count": 2}, "'boxes' has boxes for 3 pictures, but there are 2"),
    (json.dumps([[ONE], [ONE, {**TWO, "x": 100}]]), {"count": 2}, r"box 2 of picture 2 \(both counted from 1\) lies"),
    (json.dumps([{**ONE, "y": -40}]), {}, "lies outside: it is 30 x 40 px at 10, -40, and the picture 100 x 100 px"),
    (drawn([(0, 0, 90, 90)]), {"height": 512, "width": 512}, "box 1 of picture 1 .* lies outside: it is 66 x 66"),
    (drawn(PLACES), {"height": 512, "width": 384}, "on a photo of 900 x 700 px, but the picture is 384 x 512 px"),
    (drawn(PLACES), {"height": 512, "width": 512, "fit": "stretch"}, "the picture is 512 x 512 px: another shape"),
    ('{"drawn_on": {"width": 9}, "boxes": []}', {}, "where it names the photo's size, but got"),
    ('{"drawn_on": {"width": 9, "height": 9}}', {}, "where it names the photo's size, but got"),
    ('{"drawn_on": {"width": 0, "height": 9}, "boxes": []}', {}, "'boxes' drawn_on width must be a whole number"),
    (json.dumps([ONE]), {"fit": "bend"}, "'fit' is 'bend'"),
])
def test_an_error_says_which_box_and_what_is_wrong(by_hand: Any, text: str, inputs: dict, error: str) -> None:
    with pytest.raises(ValueError, match=f"^Faces By Hand: .*{error}"):
        by_hand(text, **inputs)


def test_other_shapes_are_told_from_rounding(by_hand: Any) -> None:
    """Sides of 64 times 6 and 64 times 7: what Prepare Image makes of the photo, and what it never makes of it."""
    place = [(400, 300, 90, 90)]
    assert len(by_hand(drawn(place), 384, 512)[0]) == len(by_hand(drawn(place), 64, 64)[0]) == 1
    with pytest.raises(ValueError, match="another shape"):
        by_hand(drawn(place), 448, 512)


# --- what else comes into the same sockets ------------------------------------------------------------------------


FIRST, SECOND = (10.0, 20.0, 40.0, 60.0), (60.0, 2.0, 69.0, 10.0)
HOSTS = {  # what nodes of hosts from 0.15 on give as BOUNDING_BOX
    "the host's widget, which has one box": (ONE, (FIRST,)),
    "Create Bounding Boxes": ([[ONE, TWO]], (FIRST, SECOND)),
    "Create Bounding Boxes, nothing drawn": ([], ()),
    "a detector": ([[{**ONE, "label": "face", "score": 0.93}, {**TWO, "label": "face", "score": 0.5}]],
                   (FIRST, SECOND)),
    "a detector that found nothing": ([[]], ()),
}


@pytest.mark.parametrize(("value", "expected"), HOSTS.values(), ids=HOSTS)
def test_what_newer_hosts_draw_and_find_is_read(host: SimpleNamespace, value: Any, expected: tuple) -> None:
    assert host.module("camouflage.method.known").boxes_of(value, 2, "boxes") == [expected] * 2


def test_every_socket_takes_the_output(host: SimpleNamespace) -> None:
    out, = host.nodes["CamouflageFacesByHand"].GET_SCHEMA().outputs
    assert out.io_type == "BOUNDING_BOX"
    for node_id in HELD:
        socket = next(socket for socket in host.nodes[node_id].GET_SCHEMA().inputs if socket.id == "boxes")
        assert (socket.io_type, socket.optional) == ("BOUNDING_BOX", True), node_id


def test_a_head_that_was_drawn_is_redacted_and_nothing_else(host: SimpleNamespace) -> None:
    image = pictures(5, 1, 192, 256)
    boxes = host.run("CamouflageFacesByHand", image=image, boxes=drawn([(100, 60, 60, 70)], 384, 512))[0]
    assert boxes == [[{"x": 50, "y": 30, "width": 30, "height": 35}]]
    picture = host.run("CamouflageRedact", image=image, boxes=boxes, detectors="CenterFace")[0]
    changed = ((picture - image).abs() > 1 / 255).any(-1)[0]
    assert changed[35:60, 52:78].all()
    rows, columns = changed.nonzero().T
    assert rows.max() < 100 and columns.min() > 20 and columns.max() < 110


def test_the_placeholder_is_an_example_that_works(host: SimpleNamespace, by_hand: Any) -> None:
    socket = host.nodes["CamouflageFacesByHand"].GET_SCHEMA().inputs[1]
    assert by_hand(socket.placeholder) == [[ONE]]
    assert socket.placeholder in socket.tooltip
