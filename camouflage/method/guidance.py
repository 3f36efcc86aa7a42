"""Anonymization guidance: away from what the identity control predicts (paper section 3.1).

At every model call there are two denoised predictions: the text one, D_text, which classifier-free guidance has
already combined from positive and negative, and the identity one, D_id, which on its own would reconstruct the
original. Their combination is

    D = D_id + a_s * (D_text - D_id)

with the *anonymization scale* a_s: 0 gives D_id (the original comes back), 1 gives D_text (no guidance), above 1
moves past D_text, away from the original. The paper: 1.25. Both weights sum to one, so the same formula holds
on noise predictions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def anonymize(text: torch.Tensor, identity: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """Combines the two predictions.

    Args:
        text: D_text, any shape.
        identity: D_id, the same shape.
        scale: a_s, a number or a tensor that broadcasts to that shape (see :func:`scale_map`).

    Returns:
        D, the shape of ``text``. Where a_s is exactly 1 it is ``text`` to the last bit.
    """
    combined = identity + scale * (text - identity)
    return torch.where(scale == 1, text, combined) if isinstance(scale, torch.Tensor) else combined


def scale_map(mask: torch.Tensor, scale: float, shape: torch.Size) -> torch.Tensor:
    """Spreads a_s over the latent: ``scale`` where the mask is 1, 1 (no guidance) where it is 0, linear between.

    Args:
        mask: H x W or B x H x W in picture space, 0..1 (clamped); resized to the latent by area, so that a thin
            stroke weakens but never falls between two cells (our choice).
        scale: a_s.
        shape: of the latent, B x C x h x w or, for video models, B x C x T x h x w. B must be a multiple of the
            mask's batch; masks then repeat in order, as the host repeats pictures.

    Returns:
        B x 1 x h x w (or B x 1 x 1 x h x w), float32, on the mask's device.
    """
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).float().clamp(0.0, 1.0)
    mask = F.interpolate(mask, size=shape[-2:], mode="area")
    mask = mask.repeat(shape[0] // mask.shape[0], 1, 1, 1)
    scales = torch.lerp(torch.ones_like(mask), torch.full_like(mask, scale), mask)
    return scales.unsqueeze(2) if len(shape) == 5 else scales
