"""The noise level of a model call as a number, read from the device once a call."""

from __future__ import annotations

from typing import Any

import torch

_SIGMA = "camouflage_sigma"


def publish(model_options: dict | None, sigmas: torch.Tensor) -> dict:
    """A copy of a call's model options in which :func:`noise_level` finds the number.

    Reading it waits for what the device was asked before, so this belongs to the start of a call, where nothing of the
    call is under way yet.

    Args:
        model_options: of the host's ``predict_noise``.
        sigmas: its ``timestep``: one noise level a picture, all the same.
    """
    options = model_options or {}
    return {**options, "transformer_options": {**options.get("transformer_options", {}), _SIGMA: float(sigmas[0])}}


def noise_level(transformer_options: dict[str, Any], sigmas: torch.Tensor) -> float:
    """The noise level: as published, else read from ``sigmas``."""
    published = transformer_options.get(_SIGMA)
    return float(sigmas[0]) if published is None else published
