"""Bringing a photo to its working size with the host's own scaling."""

from __future__ import annotations

import comfy.utils
import torch

from ..images import as_rgb, centre_square, check_megapixels, working_size


def prepare(images: torch.Tensor, size: int, fit: str) -> torch.Tensor:
    """Scales pictures as the stock ImageScale node does (Lanczos).

    Args:
        images: B x H x W x C, 0..1; at most 100 megapixels each.
        size: px of the longer side after scaling, rounded to a multiple of 64.
        fit: "crop" cuts the centre that has the new aspect, "stretch" changes the aspect by the rounding, "square" cuts
            the square at the centre and makes it size x size px, as the authors' code does.

    Returns:
        B x h x w x 3, 0..1; h and w are multiples of 64.

    Raises:
        CamouflageError: no pictures, too large ones, or, but for "square", such long and thin ones that nothing
            would be left.
    """
    images = as_rgb(images, "image")
    check_megapixels(images, "image", min_side=1)
    if fit == "square":
        images = centre_square(images)
    height, width = working_size(images.shape[1], images.shape[2], size)
    if (height, width) == images.shape[1:3]:
        return images
    scaled = comfy.utils.common_upscale(images.movedim(-1, 1), width, height, "lanczos",
                                        "disabled" if fit == "stretch" else "center")
    return scaled.movedim(1, -1)
