"""Bringing a photo to its working size with the host's own scaling."""

from __future__ import annotations

import comfy.utils
import torch

from ..images import as_rgb, check_megapixels, working_size


def prepare(images: torch.Tensor, longer_side: int, crop: bool) -> torch.Tensor:
    """Scales pictures as the stock ImageScale node does (Lanczos).

    Args:
        images: B x H x W x C, 0..1; at most 100 megapixels each.
        longer_side: px after scaling, rounded to a multiple of 64.
        crop: True cuts the centre that has the new aspect, False changes the aspect by the rounding.

    Returns:
        B x h x w x 3, 0..1; h and w are multiples of 64.

    Raises:
        CamouflageError: no pictures, too large ones, or such long and thin ones that nothing would be left.
    """
    images = as_rgb(images, "image")
    check_megapixels(images, "image", min_side=1)
    height, width = working_size(images.shape[1], images.shape[2], longer_side)
    if (height, width) == images.shape[1:3]:
        return images
    scaled = comfy.utils.common_upscale(images.movedim(-1, 1), width, height, "lanczos",
                                        "center" if crop else "disabled")
    return scaled.movedim(1, -1)
