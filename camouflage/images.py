"""Pictures as tensors: checks, flattening, working sizes. Layout is the host's: B x H x W x C, float, 0 to 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .errors import CamouflageError

MIN_SIDE = 64
MAX_SIDE = 4096
ASPECT_TOLERANCE = 0.03
"""By how much the shapes of two pictures of one scene may differ: sides get rounded to multiples of 64 px."""


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
        raise CamouflageError(f"'{socket}' wants pictures (batch x height x width x 1, 3 or 4 channels), "
                              f"but got a tensor of shape {tuple(images.shape)}.")
    if images.numel() == 0:
        raise CamouflageError(f"'{socket}' is empty: {tuple(images.shape)}. Connect at least one picture.")
    images = images.float()
    if not torch.isfinite(images).all():
        bad = [i for i, image in enumerate(images) if not torch.isfinite(image).all()]
        raise CamouflageError(f"'{socket}' has NaN or infinite pixels in picture {', '.join(map(str, bad))} "
                              "(counted from 0). An earlier node failed; look at its output (a VAE in half "
                              "precision is a common cause: start ComfyUI with --fp32-vae).")
    images = images.clamp(0.0, 1.0)
    if images.shape[-1] == 4:
        alpha = images[..., 3:]
        return images[..., :3] * alpha + (1.0 - alpha)
    return images.expand(-1, -1, -1, 3) if images.shape[-1] == 1 else images


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
