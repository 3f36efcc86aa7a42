"""Saving masks and boxes in the host's output folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import folder_paths
import numpy as np
import torch

from ..errors import CamouflageError
from ..images import check_megapixels
from ..method.box_labels import labels_of
from ..method.faces import Box, clip_box
from ..method.known import boxes_of
from ..output.coco import save_masks

_MASK = "Connect the 'mask' of 'Redact' or 'Find Regions', of these very pictures."


def save_regions(images: torch.Tensor, mask: torch.Tensor | None, boxes: object, prefix: str) -> list[str]:
    """Saves masks and boxes of a batch; its pixels are not looked at.

    Args:
        images: B x H x W x C: whose size counts.
        mask: B x H x W or 1 x H x W, 0..1; None: drawn from the boxes.
        boxes: see :func:`~camouflage.method.known.boxes_of`; None: there are none.
        prefix: see :func:`~camouflage.output.publishing.checked_prefix`.

    Returns:
        Paths in the output folder, with "/": a mask for each picture, then the JSON file.

    Raises:
        CamouflageError: neither mask nor boxes; a mask of another size or number; a bad prefix, or a disk that does
            not take the files.
    """
    if mask is None and boxes is None:
        raise CamouflageError("Neither 'mask' nor 'boxes' is connected, so there is nothing to save. Connect those of "
                              "'Redact' or 'Find Regions'.")
    check_megapixels(images, "image", min_side=1)
    count, height, width = images.shape[:3]
    named = [[_box(cut, label) for box, label in zip(ones, labels, strict=True)
              if (cut := clip_box(box, height, width)) is not None]
             for ones, labels in zip(boxes_of(boxes, count, "boxes"), labels_of(boxes, count), strict=True)]
    drawn = _drawn(named, height, width) if mask is None else _levels(mask, count, height, width)
    mm.throw_exception_if_processing_interrupted()
    output = Path(folder_paths.get_output_directory())
    masks, table = save_masks(output, prefix, drawn, named)
    return [path.relative_to(output.resolve()).as_posix() for path in (*masks, table)]


def _box(box_ltrb: Box, label: str) -> dict[str, Any]:
    left, top, right, bottom = (math.floor(box_ltrb[0]), math.floor(box_ltrb[1]), math.ceil(box_ltrb[2]),
                                math.ceil(box_ltrb[3]))
    return {"x": left, "y": top, "width": right - left, "height": bottom - top, "label": label}


def _drawn(boxes: Sequence[Sequence[dict[str, Any]]], height: int, width: int) -> list[np.ndarray]:
    masks = [np.zeros((height, width), np.uint8) for _ in boxes]
    for mask, ones in zip(masks, boxes, strict=True):
        for box in ones:
            mask[box["y"]:box["y"] + box["height"], box["x"]:box["x"] + box["width"]] = 255
    return masks


def _levels(mask: torch.Tensor, count: int, height: int, width: int) -> list[np.ndarray]:
    """Each picture's mask on 256 levels, H x W."""
    if not isinstance(mask, torch.Tensor) or mask.ndim not in (2, 3):
        raise CamouflageError(f"'mask' must be a MASK, batch x height x width. {_MASK}")
    masks = mask[None] if mask.ndim == 2 else mask
    if len(masks) not in (1, count) or masks.shape[1:] != (height, width):
        raise CamouflageError(f"'mask' has {len(masks)} masks of {masks.shape[2]} x {masks.shape[1]} px, but there are "
                              f"{count} pictures of {width} x {height} px. {_MASK}")
    if not torch.isfinite(masks).all():
        raise CamouflageError(f"'mask' has NaN or infinite values. {_MASK}")
    levels = [(one.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy() for one in masks]
    return levels * count if len(levels) == 1 else levels
