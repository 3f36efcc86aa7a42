"""COCO files and masks: read again by what the format's own description says, and nothing else in them."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from PIL import Image

from camouflage.errors import CamouflageError
from camouflage.output.coco import coco, save_masks

HEAD = {"x": 10, "y": 20, "width": 30, "height": 40, "label": "head"}
PLATE = {"x": 1, "y": 2, "width": 30, "height": 8, "label": "licence plate", "score": 0.9}


def check_coco(data: dict) -> None:
    """The rules of https://cocodataset.org/#format-data for object detection."""
    assert set(data) == {"info", "licenses", "images", "annotations", "categories"}
    for key in ("images", "annotations", "categories"):
        ids = [one["id"] for one in data[key]]
        assert len(set(ids)) == len(ids) and all(type(number) is int and number > 0 for number in ids)
    images = {one["id"]: one for one in data["images"]}
    categories = {one["id"] for one in data["categories"]}
    assert len({one["name"] for one in data["categories"]}) == len(categories)
    for one in images.values():
        assert set(one) == {"id", "file_name", "width", "height"} and "/" not in one["file_name"]
    for one in data["annotations"]:
        assert set(one) == {"id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd"}
        image, (x, y, width, height) = images[one["image_id"]], one["bbox"]
        assert one["category_id"] in categories and one["iscrowd"] == 0 and one["area"] == width * height > 0
        assert x >= 0 and y >= 0 and x + width <= image["width"] and y + height <= image["height"]


def chunks(data: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        found.append(kind)
        at += length + 12
    return found


def test_every_box_is_an_annotation_of_its_picture() -> None:
    images = [("a_00001.png", 100, 60), ("a_00002.png", 80, 50), ("a_00003.png", 80, 50)]
    data = coco(images, [[HEAD, PLATE], [], [PLATE]])
    check_coco(json.loads(json.dumps(data)))
    assert data["images"][0] == {"id": 1, "file_name": "a_00001.png", "width": 60, "height": 100}
    assert [one["name"] for one in data["categories"]] == ["head", "licence plate"]
    assert [(one["image_id"], one["category_id"], one["bbox"]) for one in data["annotations"]] == [
        (1, 1, [10, 20, 30, 40]), (1, 2, [1, 2, 30, 8]), (3, 2, [1, 2, 30, 8])]
    empty = coco([], [])
    check_coco(empty)
    assert empty["categories"] == []


def test_masks_keep_their_levels_and_nothing_is_written_over(tmp_path) -> None:
    mask = np.random.default_rng(0).integers(0, 256, (70, 50), dtype=np.uint8)
    for number in (1, 3):
        masks, table = save_masks(tmp_path, "masks/camouflage", [mask, 255 - mask], [[HEAD], []])
        assert [path.name for path in masks] == [f"camouflage_{number:05d}.png", f"camouflage_{number + 1:05d}.png"]
        data = json.loads(table.read_text())
        check_coco(data)
        assert [one["file_name"] for one in data["images"]] == [path.name for path in masks]
    assert table.name == "camouflage_coco_00002.json" and len(list((tmp_path / "masks").iterdir())) == 6
    with Image.open(masks[0]) as picture:
        assert picture.mode == "L" and np.array_equal(np.array(picture), mask)
    assert set(chunks(masks[0].read_bytes())) == {b"IHDR", b"IDAT", b"IEND"}
    said = table.read_text()
    assert str(tmp_path) not in said and "date" not in said and "20" + "2" not in said


@pytest.mark.parametrize("prefix", ["", "../out", "/abs", "a%date%", "x" * 97])
def test_a_bad_prefix_saves_nothing(tmp_path, prefix) -> None:
    with pytest.raises(CamouflageError, match="'filename_prefix'"):
        save_masks(tmp_path, prefix, [np.zeros((9, 9), np.uint8)], [[]])
    assert not list(tmp_path.rglob("*.png"))
