"""Batches of the host as pixels, and back."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.model_management as mm
import numpy as np
import torch

from ..images import as_rgb, check_megapixels
from .annotators.common import from_uint8, to_uint8


def to_pixels(images: torch.Tensor, socket: str) -> list[np.ndarray]:
    """Checks a batch of pictures, B x H x W x C in 0..1, and gives each as H x W x 3, uint8: what a file would hold."""
    images = as_rgb(images, socket)
    check_megapixels(images, socket)
    return [to_uint8(image) for image in images.split(1)]


def to_images(pixels: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures of one size back to B x H x W x 3 in 0..1, on the host's intermediate device."""
    return torch.cat([from_uint8(picture) for picture in pixels]).to(mm.intermediate_device())
