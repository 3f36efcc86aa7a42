"""The square of Prepare Image, beside Pillow's own scaling of the square at the centre."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from in_host import difference, pictures

LANCZOS = Image.Resampling.LANCZOS


def grey_levels(batch: int, height: int, width: int) -> np.ndarray:
    """B x H x W x 3, uint8, with large areas and sharp grain."""
    smooth = (pictures(height, batch, height, width).numpy() * 200).astype(np.uint8)
    return smooth + np.random.default_rng(width).integers(0, 55, smooth.shape, np.uint8)


def as_pictures(levels: np.ndarray) -> torch.Tensor:
    """The host cuts the fraction off when it goes back to grey levels; in the middle of a level nothing is lost."""
    return (torch.from_numpy(levels).float() + 0.5) / 255


@pytest.mark.parametrize(("height", "width"), [(200, 300), (301, 190), (190, 301), (97, 400), (33, 34), (128, 128)])
def test_the_square_at_the_centre_is_scaled_as_pillow_does(host, height, width):
    levels = grey_levels(2, height, width)
    ours, *counts = host.run("CamouflagePrepareImage", image=as_pictures(levels), size=128, fit="square")
    assert counts == [128, 128, 2] and ours.shape == (2, 128, 128, 3)
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    for picture, whole in zip(ours, levels, strict=True):
        square = Image.fromarray(whole).crop((left, top, left + side, top + side))
        if side == 128:
            assert torch.equal(picture, as_pictures(np.asarray(square))), "what has its size is not touched"
        else:
            scaled = torch.from_numpy(np.asarray(square.resize((128, 128), LANCZOS)).astype(np.float32) / 255)
            assert difference(picture, scaled) == 0.0


@pytest.mark.parametrize(("height", "width"), [(200, 300), (301, 190), (190, 301)])
def test_scaling_first_and_cutting_afterwards_shows_the_same(host, height, width):
    """The order of the authors' code. The grid lies up to half a pixel of the original aside, so it is not equal."""
    smooth = (pictures(3, 1, height, width).numpy()[0] * 255).astype(np.uint8)
    ours, *_ = host.run("CamouflagePrepareImage", image=as_pictures(smooth)[None], size=128, fit="square")
    scale = 128 / min(height, width)
    scaled = Image.fromarray(smooth).resize((round(width * scale), round(height * scale)), LANCZOS)
    left, top = (scaled.width - 128) // 2, (scaled.height - 128) // 2
    theirs = torch.from_numpy(np.asarray(scaled.crop((left, top, left + 128, top + 128))).astype(np.float32) / 255)
    assert difference(ours[0], theirs) < 4 / 255
    aside, *_ = host.run("CamouflagePrepareImage", image=as_pictures(smooth)[None].roll((4, 4), (1, 2)), size=128,
                         fit="square")
    inner = slice(16, -16)
    assert difference(aside[0, inner, inner], theirs[inner, inner]) > 12 / 255, "the check sees a shift of four pixels"


def test_what_lies_outside_of_the_square_is_not_in_the_result(host):
    image = torch.full((1, 60, 200, 3), 0.5)
    image[:, :, :70], image[:, :, 130:] = 1.0, 0.0
    ours, *_ = host.run("CamouflagePrepareImage", image=image, size=128, fit="square")
    assert difference(ours, torch.full_like(ours, 127 / 255)) == 0.0
    whole, width, height, _ = host.run("CamouflagePrepareImage", image=image, size=128)
    assert (width, height) == (128, 64) and whole.max() == 1.0 and whole.min() == 0.0


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_the_longer_side_stays_what_it_was(host, fit):
    image = pictures(1, 2, 201, 300)
    ours, width, height, batch = host.run("CamouflagePrepareImage", image=image, size=256, fit=fit)
    stock, = host.run("ImageScale", image=image, upscale_method="lanczos", width=256, height=192,
                      crop="center" if fit == "crop" else "disabled")
    assert (width, height, batch) == (256, 192, 2) and torch.equal(ours, stock)


@pytest.mark.parametrize(("height", "width"), [(1, 4000), (4000, 1), (4, 1), (64, 4096)])
def test_a_strip_has_a_square_too(host, height, width):
    ours, *counts = host.run("CamouflagePrepareImage", image=pictures(0, 1, height, width), size=100, fit="square")
    assert counts == [128, 128, 1] and ours.shape == (1, 128, 128, 3), "100 px are rounded to a multiple of 64"


def test_other_choices_and_pictures_that_are_too_large_are_refused(host):
    with pytest.raises(ValueError, match="'fit' is 'circle', but must be one of: crop, stretch, square"):
        host.run("CamouflagePrepareImage", image=pictures(0), fit="circle")
    with pytest.raises(ValueError, match=r"'image' is 10000 x 10001 px, 100\.0 megapixels"):
        host.run("CamouflagePrepareImage", image=torch.zeros(1).expand(1, 10_001, 10_000, 3), fit="square")
