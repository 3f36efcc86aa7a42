"""The loop that all annotators share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch

from ...images import annotation_size, as_rgb, bands, check_sides, resize

T = TypeVar("T")


def each_picture(images: torch.Tensor, annotate: Callable[[torch.Tensor], T]) -> list[T]:
    """Calls ``annotate`` with every picture (1 x H x W x 3, 0..1); shows progress and obeys Cancel between them."""
    images = as_rgb(images, "image")
    check_sides(images, "image")
    progress = comfy.utils.ProgressBar(len(images))
    results = []
    with torch.no_grad():
        for image in images.split(1):
            mm.throw_exception_if_processing_interrupted()
            results.append(annotate(image))
            progress.update(1)
    return results


def map_each_picture(images: torch.Tensor, annotate: Callable[[torch.Tensor], torch.Tensor], resolution: int,
                     multiple: int = 64, mode: str = "bilinear") -> torch.Tensor:
    """Annotates every picture at a working size and brings the map back to the picture's own.

    Args:
        images: B x H x W x C.
        annotate: 1 x h x w x 3 in 0..1 to a map 1 x h x w x 3 in 0..1.
        resolution: px of the shorter side that the annotator sees.
        multiple: of px that both working sides must be.
        mode: interpolation of the map on its way back.

    Returns:
        B x H x W x 3, 0..1, float32, on the host's intermediate device.
    """
    height, width = images.shape[1:3]

    def one(image: torch.Tensor) -> torch.Tensor:
        small = resize(image, *annotation_size(height, width, resolution, multiple)).clamp(0.0, 1.0)
        result = annotate(small).to(mm.intermediate_device(), torch.float32)
        return resize(result, height, width, mode).clamp(0.0, 1.0)

    return torch.cat(each_picture(images, one))


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """1 x H x W x 3 in 0..1 to H x W x 3, 0..255; a band of rows at a time, so that a large one takes no more."""
    height, width = image.shape[1:3]
    pixels = np.empty((height, width, 3), np.uint8)
    for rows in bands(height, width):
        pixels[rows] = (image[0, rows] * 255.0).round().to(torch.uint8).cpu().numpy()
    return pixels


def from_uint8(picture: np.ndarray) -> torch.Tensor:
    """H x W x 3, 0..255, to 1 x H x W x 3 in 0..1."""
    whole = np.require(picture, requirements=("C", "W"))  # torch warns of memory that it may not write to
    return torch.from_numpy(whole).unsqueeze(0).float().div_(255.0)
