"""Masks and boxes for other tools: PNG masks, and boxes in the JSON format of COCO's object detection (our choice).

Nothing in them tells where a picture came from: the names of files are those under which the masks are saved.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import VERSION
from .publishing import checked_prefix, save

BESIDE = "_coco"
"""What follows the prefix in the JSON file's name."""


def save_masks(folder: Path | str, prefix: str, masks: Sequence[np.ndarray],
               boxes: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[list[Path], Path]:
    """Saves a mask for each picture, and one JSON file for all.

    Args:
        folder, prefix: see :func:`.publishing.save`.
        masks: H x W, uint8, of each picture; saved with 8 bits a pixel, 255 for what was covered.
        boxes: of each picture, see :func:`coco`.

    Returns:
        The paths of the masks, ``<prefix>_00001.png``, and of the JSON file, ``<prefix>_coco_00001.json``.

    Raises:
        CamouflageError: a bad prefix, or a disk that does not take the files.
    """
    checked_prefix(prefix + BESIDE)
    ready = [_png(mask) for mask in masks]
    saved = [save(folder, prefix, ".png", data) for data in ready]
    images = [(path.name, mask.shape[0], mask.shape[1]) for path, mask in zip(saved, masks, strict=True)]
    text = json.dumps(coco(images, boxes), indent=2, allow_nan=False) + "\n"
    return saved, save(folder, prefix + BESIDE, ".json", text.encode())


def coco(images: Sequence[tuple[str, int, int]], boxes: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Boxes in COCO's format.

    Args:
        images: name of the file, height and width of each picture, px.
        boxes: of each picture: ``x``, ``y``, ``width``, ``height``, px, within it, and ``label``.

    Returns:
        Plain data: ``images``, ``annotations`` (with ``bbox`` as x, y, width, height; ``area`` is that of the box) and
        ``categories``, the labels in the order of the alphabet; all ids count from 1.
    """
    labels = sorted({box["label"] for ones in boxes for box in ones})
    categories = {label: number for number, label in enumerate(labels, 1)}
    annotations: list[dict[str, Any]] = []
    for image, ones in enumerate(boxes, 1):
        for box in ones:
            bbox = [box["x"], box["y"], box["width"], box["height"]]
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": categories[box["label"]],
                                "bbox": bbox, "area": bbox[2] * bbox[3], "segmentation": [], "iscrowd": 0})
    return {"info": {"description": f"Regions of pictures, written by camouflage {VERSION}"}, "licenses": [],
            "images": [{"id": number, "file_name": name, "width": width, "height": height}
                       for number, (name, height, width) in enumerate(images, 1)],
            "annotations": annotations,
            "categories": [{"id": number, "name": label, "supercategory": ""} for label, number in categories.items()]}


def _png(mask: np.ndarray) -> bytes:
    """A greyscale PNG with 8 bits a pixel and nothing else in it."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask, np.uint8)).save(file, "PNG", compress_level=4)
    return file.getvalue()
