"""What we put into the host's ``transformer_options`` of a model call, and read from there."""

from __future__ import annotations

from typing import Any

import torch

IDENTITY_BRANCH = "camouflage_identity_branch"
"""True in the call that evaluates the identity, for patches that must leave it alone."""
SIGMA = "camouflage_sigma"
"""The noise level as a number."""
REUSE = "camouflage_reuse"
"""True in the calls that take from the calls before what changes little (fast mode)."""
SAME_LATENTS = "camouflage_same_latents"
"""True in the calls whose batch is the same latents once for every conditioning."""
WITHOUT_IDENTITY = "camouflage_without_identity"
"""True in the calls for which the identity is left out (fast mode)."""
GIVEN = "camouflage_given"
"""In recorded calls: tensors of the patches, by name, in the places that the recording reads."""


def with_options(model_options: dict | None, **options: Any) -> dict:
    """A copy of a call's model options with more transformer options."""
    model_options = model_options or {}
    return {**model_options, "transformer_options": {**model_options.get("transformer_options", {}), **options}}


def publish(model_options: dict | None, sigmas: torch.Tensor) -> dict:
    """A copy of a call's model options in which :func:`noise_level` finds the number.

    Reading it waits for what the device was asked before, so this belongs to the start of a call, where nothing of the
    call is under way yet.

    Args:
        model_options: of the host's ``predict_noise``.
        sigmas: its ``timestep``: one noise level a picture, all the same.
    """
    return with_options(model_options, **{SIGMA: float(sigmas[0])})


def noise_level(transformer_options: dict[str, Any], sigmas: torch.Tensor) -> float:
    """The noise level: as published, else read from ``sigmas``."""
    published = transformer_options.get(SIGMA)
    return float(sigmas[0]) if published is None else published
