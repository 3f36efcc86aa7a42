"""Poses whose networks may be used for any purpose: RT-DETR finds persons, ViTPose their keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...packages import require
from ..networks import GIGABYTE, Network
from ..weights import default_folder
from .common import from_uint8, map_each_picture, to_uint8
from .transformers_models import load_folder

LEAST = 0.3
"""Scores of persons and of keypoints below it do not count (our choice)."""
_PERSONS = 8  # in one pass
_SHOULDERS = 5, 6
_ORDER = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""OpenPose's 18 keypoints as places among COCO's 17; None is the neck, which COCO does not have."""


def body_pose_maps(images: torch.Tensor, resolution: int) -> torch.Tensor:
    """Skeletons on black in OpenPose's drawing, without hands and faces.

    Args:
        images: B x H x W x C, 0..1.
        resolution: px of the shorter side that the networks see.

    Returns:
        B x H x W x 3, 0..1; black where nobody is found.
    """
    finder = load_folder("persons", default_folder("persons"), "AutoModelForObjectDetection", "AutoImageProcessor")
    estimator = load_folder("keypoints", default_folder("keypoints"), "VitPoseForPoseEstimation", "AutoImageProcessor")

    def one(pictures: list[torch.Tensor]) -> torch.Tensor:
        pixels = to_uint8(pictures[0])
        boxes = _persons(finder, pixels)
        persons: list[tuple[np.ndarray, np.ndarray]] = []
        for start in range(0, len(boxes), _PERSONS):
            persons += _keypoints(estimator, pixels, boxes[start:start + _PERSONS])
        return from_uint8(drawn(pixels.shape, persons))

    return map_each_picture(images, one, resolution, ("bodies", finder.identity, estimator.identity))


def drawn(shape: Sequence[int], persons: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Persons as OpenPose draws them.

    Args:
        shape: of the picture, H x W x 3.
        persons: of each the places of COCO's 17 keypoints, 17 x 2 in px, and their scores, 17.

    Returns:
        H x W x 3, uint8.
    """
    open_pose = require("controlnet_aux.open_pose", "controlnet-aux", "The drawing of poses")
    height, width = shape[:2]
    canvas = np.zeros((height, width, 3), np.uint8)
    for places, scores in persons:
        found = [places[index] if scores[index] >= LEAST else None for index in range(len(scores))]
        left, right = (found[index] for index in _SHOULDERS)
        neck = None if left is None or right is None else (left + right) / 2
        ordered = [neck if index is None else found[index] for index in _ORDER]
        canvas = open_pose.util.draw_bodypose(canvas, [
            None if place is None else open_pose.body.Keypoint(float(place[0]) / width, float(place[1]) / height)
            for place in ordered])
    return canvas


def _persons(network: Network[Any], pixels: np.ndarray) -> np.ndarray:
    """Boxes of persons, N x 4: left, top, width and height in px."""
    model, processor = network.tool
    device = network.on_device(activation_bytes=GIGABYTE)
    inputs = processor(images=pixels, return_tensors="pt")
    outputs = model(pixel_values=inputs["pixel_values"].to(device, model.dtype))
    outputs.logits, outputs.pred_boxes = outputs.logits.float().cpu(), outputs.pred_boxes.float().cpu()
    found, = processor.post_process_object_detection(outputs, threshold=LEAST, target_sizes=[pixels.shape[:2]])
    person = next((number for number, name in model.config.id2label.items() if name == "person"), 0)
    boxes = found["boxes"][found["labels"] == person].numpy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes[(boxes[:, 2:] >= 1).all(axis=1)]


def _keypoints(network: Network[Any], pixels: np.ndarray, boxes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each person the places of COCO's 17 keypoints in px, and their scores."""
    model, processor = network.tool
    device = network.on_device(activation_bytes=GIGABYTE)
    inputs = processor(images=pixels, boxes=[boxes], return_tensors="pt")
    outputs = model(pixel_values=inputs["pixel_values"].to(device, model.dtype))
    outputs.heatmaps = outputs.heatmaps.float().cpu()
    found, = processor.post_process_pose_estimation(outputs, boxes=[boxes])
    return [(one["keypoints"].numpy(), one["scores"].numpy()) for one in found]
