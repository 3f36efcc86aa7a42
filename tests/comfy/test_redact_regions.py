"""Redact beyond heads: regions, consent, declared fills, masks and boxes, through the nodes."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

import photos
from in_host import difference, only_folder

ONE = {"detectors": "CenterFace"}
PLATE = {"x": 20, "y": 200, "width": 90, "height": 24, "label": "licence plate", "score": 0.8}


@pytest.fixture(scope="module")
def two():
    """Two persons side by side, 1 x 256 x 400 x 3."""
    import cv2

    picture = np.full((256, 400, 3), 255, np.uint8)
    picture[:, :200] = photos.load("astronaut")[0:256, 110:310]
    picture[:240, 200:] = cv2.resize(photos.load("hopper"), (200, 240), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(picture).float()[None] / 255


@pytest.fixture(scope="module")
def plain(host, two):
    """What Redact does with nothing but its defaults: image, redacted, mask, boxes."""
    return host.run("CamouflageRedact", image=two, **ONE)


@pytest.fixture(scope="module")
def faces(plain):
    """The faces as BOUNDING_BOX, from left to right."""
    found = [face.box_ltrb for face in plain[1].faces[0]]
    assert len(found) == 2
    return [{"x": left, "y": top, "width": right - left, "height": bottom - top}
            for left, top, right, bottom in found]


def drawing(height: int = 90, width: int = 120) -> torch.Tensor:
    """Nobody: stripes and a square."""
    picture = torch.zeros(1, height, width, 3) + torch.tensor([0.9, 0.8, 0.1])
    picture[:, ::12] = picture[:, 1::12] = torch.tensor([0.1, 0.2, 0.8])
    picture[:, height // 4:height // 2, width // 2:] = torch.tensor([0.0, 0.6, 0.3])
    return picture


def pixels(image: torch.Tensor) -> np.ndarray:
    return (image[0] * 255).round().to(torch.uint8).numpy()


def verify(host, original, result, **inputs):
    return host.run("CamouflageVerify", original=original, anonymized=result, **ONE, **inputs)


def test_what_is_new_changes_nothing_where_it_is_not_used(host, two, plain):
    same = host.run("CamouflageRedact", image=two, regions=[], exempt=[], fill_colour="#808080", fill_picture=None,
                    **ONE)
    assert difference(plain[0], same[0]) == 0.0
    assert plain[1].sha256 == same[1].sha256 and plain[1].others == ((),)


def test_mask_and_boxes_say_where_something_was_covered(host, two, plain):
    image, _, mask, (boxes,) = plain
    differs = (image != two).any(dim=-1)
    assert mask.shape == (1, 256, 400) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert not (differs & (mask == 0)).any() and (differs & (mask == 1)).sum() / mask.sum() > 0.95
    assert [box["label"] for box in boxes] == ["head", "head"]
    within = torch.zeros_like(mask)
    for box in boxes:
        part = mask[0, box["y"]:box["y"] + box["height"], box["x"]:box["x"] + box["width"]]
        assert part.any(dim=1).all() and part.any(dim=0).all(), "no larger than what was covered"
        within[0, box["y"]:box["y"] + box["height"], box["x"]:box["x"] + box["width"]] = 1
    assert (mask <= within).all()


@pytest.mark.parametrize("mode", ["solid", "mosaic", "blur"])
def test_regions_go_as_rectangles_and_verify_takes_them(host, two, plain, mode):
    image, redacted, mask, boxes = host.run("CamouflageRedact", image=two, redaction=mode, regions=[PLATE], **ONE)
    plate = pixels(image)[200:224, 20:110]
    if mode == "solid":
        assert (plate == 128).all()
    elif mode == "mosaic":
        assert len(np.unique(plate.reshape(-1, 3), axis=0)) <= 36
    outside = mask[0] == 0
    assert torch.equal(image[0][outside], two[0][outside])
    assert boxes[0][-1]["label"] == "licence plate" and mask[0, 200:224, 20:110].min() == 1
    if mode == "solid":
        everywhere = (image == plain[0]).all(dim=-1) | (mask == 1)
        assert everywhere.all(), "the heads are covered as ever"
    result, report, _ = verify(host, two, image, policy="block", redacted=redacted)
    assert difference(result, image) == 0.0 and report.verdict == "redacted" and len(report.pictures[0].persons) == 2


def test_regions_are_no_faces(host):
    empty = torch.zeros(1, 256, 256, 3)
    with pytest.raises(Exception, match="No face was found"):
        host.run("CamouflageRedact", image=empty, regions=[PLATE], **ONE)
    image, redacted, mask, _ = host.run("CamouflageRedact", image=empty, regions=[PLATE], no_face="pass", **ONE)
    assert (pixels(image)[200:224, 20:110] == 128).all() and redacted.regions == ((),) and mask.sum() > 90 * 24
    assert verify(host, empty, image, redacted=redacted, no_face="pass")[1].pictures[0].passes
    with pytest.raises(Exception, match="'regions'.* x"):
        host.run("CamouflageRedact", image=empty, regions=[{"y": 1}], no_face="pass", **ONE)


def test_an_exempt_head_stays_and_everybody_else_goes(host, two, plain, faces):
    image, redacted, _, boxes = host.run("CamouflageRedact", image=two, exempt=[faces[0]], **ONE)
    left = slice(int(faces[0]["x"]), int(faces[0]["x"] + faces[0]["width"]))
    assert difference(image[:, :, left], two[:, :, left]) == 0.0 and len(boxes[0]) == 1
    assert difference(image[:, :, 220:], plain[0][:, :, 220:]) == 0.0
    result, report, _ = verify(host, two, image, redacted=redacted, exempt=[faces[0]], policy="block")
    assert [person.verdict.value for person in report.pictures[0].persons] == ["exempt", "redacted"]
    assert difference(result, image) == 0.0
    with pytest.raises(Exception, match="person 0"):
        verify(host, two, image, redacted=redacted, policy="block")


def test_a_box_without_a_face_of_its_own_exempts_nobody(host, two, plain, faces):
    beside = {**faces[0], "x": faces[0]["x"] + 0.8 * faces[0]["width"]}
    for box in (beside, {"x": 5, "y": 200, "width": 40, "height": 40}, {"x": 0, "y": 0, "width": 400, "height": 256}):
        image, redacted, *_ = host.run("CamouflageRedact", image=two, exempt=[box], **ONE)
        assert difference(image, plain[0]) == 0.0 and len(redacted.regions[0]) == 2
    with pytest.raises(Exception, match="'exempt' has boxes without a picture of their own"):
        host.run("CamouflageRedact", image=torch.cat([two, two.flip(2)]), exempt=[faces[0]], **ONE)


def test_a_neighbour_whose_head_reaches_over_the_exempt_box_is_covered(host, two, faces):
    """The head of the left one grows over the right one's box, who is exempt: the left one is covered all the same."""
    image, redacted, *_ = host.run("CamouflageRedact", image=two, exempt=[faces[1]], size=2.5, **ONE)
    assert len(redacted.regions[0]) == 1
    right = faces[1]
    over = pixels(image)[int(right["y"]):int(right["y"] + right["height"]), int(right["x"]):int(right["x"]) + 4]
    assert (over == 128).all(axis=-1).any()


@pytest.mark.parametrize("fill", ["colour", "picture"])
def test_the_proof_and_the_manifest_know_the_fill(host, two, faces, fill, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    given = {"fill_colour": "#0ac81e"} if fill == "colour" else {"fill_picture": drawing()}
    image, redacted, *_ = host.run("CamouflageRedact", image=two, regions=[PLATE], **given, **ONE)
    middle = [int(faces[0][key] + faces[0][side] / 2) for key, side in (("y", "height"), ("x", "width"))]
    shown = pixels(image)[middle[0], middle[1]]
    assert (shown == [10, 200, 30]).all() if fill == "colour" else (shown != 128).any()
    result, report, _ = verify(host, two, image, redacted=redacted, policy="block")
    assert difference(result, image) == 0.0
    words = {person.redaction for person in report.pictures[0].persons}
    assert words == {redacted.fill.named("solid")} and words != {"solid"}
    for format in ("PNG", "JPEG"):
        files, = host.run("CamouflageSaveImage", image=result, report=report, format=format, filename_prefix="f")
        manifest = json.loads((tmp_path / files[0]).with_suffix(".json").read_text())
        assert {person["redaction"] for person in manifest["checked"]["persons"]} == words
        host.module("camouflage.output.manifests").read(json.dumps(manifest))


@pytest.mark.parametrize("fill", ["colour", "picture"])
def test_what_verify_covers_afterwards_gets_the_declared_fill(host, two, faces, fill):
    """One head was left by consent, but Verify does not know of it: it covers it, with the same fill."""
    given = {"fill_colour": "#0ac81e"} if fill == "colour" else {"fill_picture": drawing()}
    image, redacted, *_ = host.run("CamouflageRedact", image=two, exempt=[faces[0]], **given, **ONE)
    everybody, *_ = host.run("CamouflageRedact", image=two, **given, **ONE)
    result, report, _ = verify(host, two, image, redacted=redacted)
    assert report.verdict == "redacted" and difference(result, image) > 0
    covered = [int(faces[0]["y"]) + 10, int(faces[0]["x"]) + 10]
    box = slice(covered[0], covered[0] + 30), slice(covered[1], covered[1] + 20)
    assert np.abs(pixels(result)[box].astype(int) - pixels(everybody)[box]).max() <= 1


def test_fills_that_cannot_be_taken(host, two):
    def redact(**inputs):
        return host.run("CamouflageRedact", image=two, **ONE, **inputs)

    with pytest.raises(Exception, match="'fill_colour' must be a colour"):
        redact(fill_colour="grey")
    with pytest.raises(Exception, match="without an alpha channel, but got 1 with 4 channels"):
        redact(fill_picture=torch.cat([drawing(), torch.ones(1, 90, 120, 1)], dim=-1))
    with pytest.raises(Exception, match="one picture"):
        redact(fill_picture=drawing().repeat(2, 1, 1, 1))
    with pytest.raises(Exception, match="'fill_picture' is 120 x 40 px"):
        redact(fill_picture=drawing(40))
    with pytest.raises(Exception, match="'fill_picture' shows a face"):
        redact(fill_picture=two.flip(2))
    beside = torch.from_numpy(photos.load("coffee")[50:306, 100:300].copy()).float()[None] / 255
    with pytest.raises(Exception, match=r"'fill_picture' looks like a part of picture 0"):
        host.run("CamouflageRedact", image=torch.cat([two, beside], dim=2), fill_picture=beside.flip(1), **ONE)


def test_regions_are_found_by_a_file_of_the_user(host, two, tmp_path, monkeypatch):
    from onnx import TensorProto, helper, numpy_helper, save

    folder = tmp_path / "camouflage"
    os.makedirs(folder / "regions")
    only_folder(folder, monkeypatch)
    values = np.zeros((1, 100, 6), np.float32)
    values[0, 0] = 16, 40, 48, 48, 0.9, 0
    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
             helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
             helper.make_node("Add", ["values", "nothing"], ["output"])]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 64, 64))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, values.shape)],
        [numpy_helper.from_array(values, "values"), numpy_helper.from_array(np.zeros((), np.float32), "zero")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"names": "['licence plate']"})
    save(model, folder / "regions" / "plates.onnx")
    inputs = {"model": "plates.onnx", "labels": "Licence plate", "tiles": False}
    boxes, mask = host.run("CamouflageFindRegions", image=two, **inputs)
    # 400 x 256 px are seen as 64 x 41 with 11 px of margin above: a factor of 6.25, and 256 / 41.
    assert boxes == [[{"x": 100, "y": 181, "width": 200, "height": 51, "label": "licence plate", "score": 0.9}]]
    assert mask.sum() == 200 * 51 and mask[0, 181:232, 100:300].min() == 1
    image, *_, named = host.run("CamouflageRedact", image=two, regions=boxes, **ONE)
    assert (pixels(image)[181:232, 100:300] == 128).all() and named[0][-1]["label"] == "licence plate"
    with pytest.raises(Exception, match=r"Find Regions: 'model' is '\.\./x\.onnx', .*Found: plates\.onnx"):
        host.run("CamouflageFindRegions", image=two, model="../x.onnx")
    with pytest.raises(Exception, match="'labels' has 'car'"):
        host.run("CamouflageFindRegions", image=two, model="plates.onnx", labels="car")


def test_masks_and_boxes_are_saved_without_the_picture(host, two, plain, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    _, _, mask, boxes = plain
    batch, each = torch.cat([two, two]), [boxes[0], [{**PLATE, "x": -30}]]
    files, = host.run("CamouflageSaveMasks", image=batch, mask=torch.cat([mask, mask / 2]), boxes=each)
    assert files == ["masks/camouflage_00001.png", "masks/camouflage_00002.png", "masks/camouflage_coco_00001.json"]
    with Image.open(tmp_path / files[0]) as first, Image.open(tmp_path / files[1]) as second:
        assert np.array_equal(np.array(first), mask[0].numpy() * 255) and second.mode == "L"
        assert set(np.unique(np.array(second))) == {0, 128}
    data = json.loads((tmp_path / files[2]).read_text())
    assert [one["bbox"] for one in data["annotations"]] == [
        *([box["x"], box["y"], box["width"], box["height"]] for box in boxes[0]), [0, 200, 60, 24]]
    assert {one["name"] for one in data["categories"]} == {"head", "licence plate"}
    drawn, = host.run("CamouflageSaveMasks", image=two, boxes=[PLATE], filename_prefix="drawn")
    with Image.open(tmp_path / drawn[0]) as picture:
        assert np.array(picture).sum() == 255 * 90 * 24
    with pytest.raises(Exception, match="Save Masks And Boxes: Neither 'mask' nor 'boxes'"):
        host.run("CamouflageSaveMasks", image=two)
    with pytest.raises(Exception, match="'mask' has 1 masks of 399 x 256 px, but there are 1 pictures of 400 x 256"):
        host.run("CamouflageSaveMasks", image=two, mask=mask[:, :, 1:])
