"""The loop that all annotators share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch

from ...images import BAND, annotation_size, as_rgb, bands, check_sides, resize
from .. import memo

T = TypeVar("T", torch.Tensor, str)


def pictures(images: torch.Tensor) -> torch.Tensor:
    """B x H x W x C as pictures that can be annotated: B x H x W x 3, 0..1; refuses what cannot."""
    images = as_rgb(images, "image")
    check_sides(images, "image")
    return images


def each_picture(images: torch.Tensor, annotate: Callable[[list[torch.Tensor]], Iterable[T]], key: Hashable,
                 at_once: int = 1) -> list[T]:
    """Annotates the pictures that are not known yet, each once; shows progress and obeys Cancel between the calls.

    Args:
        images: B x H x W x 3, 0..1.
        annotate: a list of up to ``at_once`` pictures, each 1 x H x W x 3, to a map or a text for each.
        key: what the results depend on besides the picture: network, working size, settings.
        at_once: pictures a call.

    Returns:
        A result for each picture; a picture that comes twice has the same object twice.
    """
    digests = [memo.picture_sha256(image) for image in images]
    results = {digest: known for digest in digests if (known := memo.recall((key, digest))) is not None}
    new = {digest: image for digest, image in zip(digests, images.split(1), strict=True) if digest not in results}
    progress = comfy.utils.ProgressBar(len(new))
    with torch.no_grad():
        for start in range(0, len(new), at_once):
            mm.throw_exception_if_processing_interrupted()
            part = list(new)[start:start + at_once]
            for digest, result in zip(part, annotate([new[digest] for digest in part]), strict=True):
                memo.keep((key, digest), result)
                results[digest] = result
            progress.update(len(part))
    return [results[digest] for digest in digests]


def map_each_picture(images: torch.Tensor, annotate: Callable[[list[torch.Tensor]], torch.Tensor], resolution: int,
                     key: Hashable, multiple: int = 64, mode: str = "bilinear", most: int = 1) -> torch.Tensor:
    """Annotates every picture at a working size and brings the map back to the picture's own.

    Args:
        images: B x H x W x C.
        annotate: N pictures, each 1 x h x w x 3 in 0..1, to their maps N x h x w x 3 in 0..1.
        resolution: px of the shorter side that the annotator sees.
        key: what the maps depend on besides picture and working size: network, settings.
        multiple: of px that both working sides must be.
        mode: interpolation of the map on its way back.
        most: pictures that ``annotate`` takes at once; fewer where they have more than 2 million pixels together,
            but for a single one.

    Returns:
        B x H x W x 3, 0..1, float32, on the host's intermediate device; storage of its own.
    """
    images = pictures(images)
    height, width = images.shape[1:3]
    size = annotation_size(height, width, resolution, multiple)

    def some(whole: list[torch.Tensor]) -> Iterable[torch.Tensor]:
        maps = annotate([resize(image, *size).clamp(0.0, 1.0) for image in whole])
        return maps.to(mm.intermediate_device(), torch.float32).split(1)

    maps = each_picture(images, some, (key, size), max(1, min(most, BAND // (size[0] * size[1]))))
    return torch.cat([resize(one.to(mm.intermediate_device()), height, width, mode).clamp(0.0, 1.0) for one in maps])


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
