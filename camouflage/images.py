"""Pictures as tensors: checks, flattening, working sizes. Layout is the host's: B x H x W x C, float, 0 to 1."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from .errors import CamouflageError

MIN_SIDE = 64
MAX_SIDE = 4096
MAX_PIXELS = 100_000_000
"""Of a picture that is verified, redacted, saved or scaled: 11,648 x 8,736 from a 100 MP camera is just too large."""
LONGEST_SIDE = 65_535
"""px; where 16 bits for a side end."""
ASPECT_TOLERANCE = 0.03
"""By how much the shapes of two pictures of one scene may differ: sides get rounded to multiples of 64 px."""
BAND = 1 << 21
"""Pixels that are worked on at once where a whole picture would take too much memory."""
NEAR, NEARLY_ALL = 3, 0.99  # grey levels, share of pixels: of a picture that is nearly one colour


def as_rgb(images: torch.Tensor, socket: str) -> torch.Tensor:
    """Checks a batch of pictures and brings it to three channels.

    Args:
        images: B x H x W x C, C in {1, 3, 4}. Greyscale is repeated; RGBA is flattened on white, so that what a
            transparent pixel hides does not come back.
        socket: name of the input, for the error text.

    Returns:
        B x H x W x 3, float32, clamped to 0..1; never the same storage as the input unless nothing had to change.

    Raises:
        CamouflageError: not a batch of pictures, no pictures, or NaN/infinite pixels.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise CamouflageError(f"'{socket}' must be pictures (batch x height x width x 1, 3 or 4 channels), "
                              f"but got a tensor of shape {tuple(images.shape)}.")
    if images.numel() == 0:
        raise CamouflageError(f"'{socket}' is empty: {tuple(images.shape)}. Connect at least one picture.")
    ranges = [_range(image) for image in images]
    bad = [i for i, limits in enumerate(ranges) if not np.isfinite(limits).all()]
    if bad:
        raise CamouflageError(f"'{socket}' has NaN or infinite pixels in picture {', '.join(map(str, bad))} "
                              "(counted from 0). An earlier node failed; look at its output (a VAE in half "
                              "precision is a common cause: start ComfyUI with --fp32-vae).")
    within = all(low >= 0.0 and high <= 1.0 for low, high in ranges)
    if images.shape[-1] == 4:
        images = _flattened(images)
    elif images.dtype != torch.float32 or not within:
        images = images.to(torch.float32, copy=True).clamp_(0.0, 1.0)
    return images.expand(-1, -1, -1, 3) if images.shape[-1] == 1 else images


def bands(height: int, width: int) -> Iterator[slice]:
    """Rows of a picture, from top to bottom, about :data:`BAND` pixels at a time."""
    rows = max(1, BAND // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _range(image: torch.Tensor) -> tuple[float, float]:
    """Lowest and highest value of H x W x C as float32; NaN if there is one."""
    limits = torch.stack([torch.stack(image[rows].float().aminmax()) for rows in bands(*image.shape[:2])])
    return limits[:, 0].amin().item(), limits[:, 1].amax().item()


def _flattened(images: torch.Tensor) -> torch.Tensor:
    """B x H x W x 4 on white: B x H x W x 3, float32, 0..1."""
    flat = torch.empty((*images.shape[:3], 3), dtype=torch.float32, device=images.device)
    for i in range(len(images)):
        for rows in bands(*images.shape[1:3]):
            band = images[i, rows].float().clamp(0.0, 1.0)
            alpha = band[..., 3:]
            flat[i, rows] = band[..., :3] * alpha + (1.0 - alpha)
    return flat


def check_sides(images: torch.Tensor, socket: str) -> None:
    """Refuses pictures with a side outside 64..4096 px (our choice: below, no annotator sees anything).

    Args:
        images: B x H x W x C.
        socket: name of the input, for the error text.
    """
    height, width = images.shape[1:3]
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
        raise CamouflageError(f"'{socket}' is {width} x {height} px, but both sides must lie between {MIN_SIDE} and "
                              f"{MAX_SIDE} px. Scale or crop the picture first (for instance with "
                              "'Prepare Image' from CAMOUFLaGE/annotate).")


def check_megapixels(images: torch.Tensor, socket: str, min_side: int = MIN_SIDE) -> None:
    """Refuses pictures that are too large or too small to be verified or scaled (our choice).

    Allowed are 64 px a side up to 100 million pixels, no side beyond 65,535 px: photos of every common camera.

    Args:
        images: B x H x W x C.
        socket: name of the input, for the error text.
        min_side: px that the shorter side must have.

    Raises:
        CamouflageError: outside of that.
    """
    height, width = images.shape[1:3]
    if min(height, width) < min_side:
        raise CamouflageError(f"'{socket}' is {width} x {height} px, but both sides must have at least {min_side} px. "
                              "Take a larger picture, or scale this one up first (for instance with 'Prepare Image' "
                              "from CAMOUFLaGE/annotate).")
    if height * width > MAX_PIXELS or max(height, width) > LONGEST_SIDE:
        raise CamouflageError(f"'{socket}' is {width} x {height} px, {height * width / 1e6:.1f} megapixels, but at "
                              f"most {MAX_PIXELS // 1_000_000} megapixels and {LONGEST_SIDE} px a side are taken. "
                              "Scale it down first (for instance with 'Scale Image to Total Pixels'), or cut it into "
                              "parts.")


def working_size(height: int, width: int, longer_side: int, multiple: int = 64) -> tuple[int, int]:
    """Height and width that a picture is sampled at: its longer side is ``longer_side``, its aspect is kept.

    Both sides are rounded to ``multiple`` px (64: eight latent cells, which every SD 1.5 adapter can divide), the
    shorter one to at least one ``multiple``. Paper section 4: 768 px; how other aspects map to it is our choice.

    Raises:
        CamouflageError: so long and thin that the shorter side would be less than half a ``multiple``.
    """
    longer = max(multiple, round(longer_side / multiple) * multiple)
    shorter = longer * min(height, width) / max(height, width)
    if shorter < multiple / 2:
        raise CamouflageError(f"The picture is {width} x {height} px: at {longer} px on its longer side the other "
                              f"would be {shorter:.0f} px, and {multiple} px is the least that can be sampled. "
                              "Crop it to a less extreme shape first.")
    shorter = max(multiple, round(shorter / multiple) * multiple)
    return (longer, shorter) if height >= width else (shorter, longer)


def centre_square(images: torch.Tensor) -> torch.Tensor:
    """The largest square in the middle of pictures: B x H x W x C to B x s x s x C, s the shorter side; a view.

    Where an odd number of rows or columns has to go, one more goes at the bottom or on the right. The authors' code
    works on centre squares; it scales the picture first.
    """
    top, left, side = centre_square_place(*images.shape[1:3])
    return images[:, top:top + side, left:left + side]


def centre_square_place(height: int, width: int) -> tuple[int, int, int]:
    """Top, left and side of :func:`centre_square`, px."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def annotation_size(height: int, width: int, shorter_side: int, multiple: int = 64,
                    longest_side: int = 2048) -> tuple[int, int]:
    """Height and width that an annotator works at: shorter side about ``shorter_side``, aspect kept.

    Sides are multiples of ``multiple`` px, at least one, at most ``longest_side`` px, so that a panorama of
    64 x 4096 px costs no more memory than a photo (our choice).
    """
    scale = min(shorter_side / min(height, width), longest_side / max(height, width))
    return (max(multiple, round(height * scale / multiple) * multiple),
            max(multiple, round(width * scale / multiple) * multiple))


def resize(images: torch.Tensor, height: int, width: int, mode: str = "bilinear") -> torch.Tensor:
    """B x H x W x C to B x height x width x C; antialiased unless ``mode`` is "nearest-exact"."""
    if images.shape[1:3] == (height, width):
        return images
    antialias = {} if mode == "nearest-exact" else {"antialias": True, "align_corners": False}
    return F.interpolate(images.movedim(-1, 1), (height, width), mode=mode, **antialias).movedim(1, -1)


def normalise(values: torch.Tensor) -> torch.Tensor:
    """Stretches each picture of B x H x W to 0..1; a constant one becomes 0."""
    low = values.amin(dim=(1, 2), keepdim=True)
    span = values.amax(dim=(1, 2), keepdim=True) - low
    return (values - low) / torch.where(span > 0, span, torch.ones_like(span))


def nearly_one_colour(pixels: np.ndarray) -> bool:
    """Whether a picture is (nearly) plain, as one that was clipped to white or black while it was loaded.

    At least 99 % of the pixels lie within 3 grey levels of the median colour in every channel (our choice). A photo in
    16-bit grey that the host's loader clips keeps 0.1 % of other pixels at most, unless parts of it are pure black; a
    page with text has several percent of ink, and no photo that is not clipped comes near.

    Args:
        pixels: H x W x 3, uint8; of a large one a grid of about four million pixels is looked at.
    """
    colours = _grid(pixels)
    near = np.abs(colours.astype(np.int16) - _median(colours)).max(axis=-1) <= NEAR
    return bool(near.mean() >= NEARLY_ALL)


def colour_name(pixels: np.ndarray) -> str:
    """The median colour of H x W x 3, uint8: "black", "white", or red, green and blue, such as "rgb(9, 80, 255)"."""
    red, green, blue = (int(value) for value in _median(_grid(pixels)))
    if max(red, green, blue) <= NEAR:
        return "black"
    return "white" if min(red, green, blue) >= 255 - NEAR else f"rgb({red}, {green}, {blue})"


def _grid(pixels: np.ndarray) -> np.ndarray:
    """N x 3: every pixel of a picture, or of every k-th row every k-th, so that it is not much more than 4 million."""
    step = max(1, round((pixels.shape[0] * pixels.shape[1] / 4e6) ** 0.5))
    return pixels[::step, ::step].reshape(-1, 3)


def _median(colours: np.ndarray) -> np.ndarray:
    """Of every channel of N x 3, rounded down."""
    return np.median(colours, axis=0).astype(np.int16)
