"""Annotators of controlnet_aux: surface normals, pose, lineart. Its detectors take one picture a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...packages import require
from ..networks import GIGABYTE, Network, loaded
from ..weights import checked, find
from .common import from_uint8, map_each_picture, to_uint8


def _load(role: str, detector: str, modules: Callable[[Any], list[torch.nn.Module]]) -> Network[Any]:
    controlnet_aux = require("controlnet_aux", "controlnet-aux", f"The {role} annotator")
    files = find(role)

    def build() -> Network[Any]:
        tool = checked(files, lambda: getattr(controlnet_aux, detector).from_pretrained(str(files[0].parent)))
        return Network(tool, modules(tool))

    return loaded(role, files, build)


def _detect(images: torch.Tensor, resolution: int, detector: Callable[..., Any], network: Network[Any] | None,
            **options: Any) -> torch.Tensor:
    def one(pictures: list[torch.Tensor]) -> torch.Tensor:
        image, = pictures
        if network is not None:
            network.on_device(activation_bytes=GIGABYTE)
        # The picture already has its working size: detect at exactly that, so that the library resizes nothing.
        side = min(image.shape[1:3])
        sizes = {"detect_resolution": side, "image_resolution": side} if network else {"detect_resolution": side}
        return from_uint8(detector(to_uint8(image), output_type="np", **sizes, **options))

    name = network.identity if network is not None else type(detector).__name__
    return map_each_picture(images, one, resolution, (name, *sorted(options.items())))


def normal_maps(images: torch.Tensor, resolution: int) -> torch.Tensor:
    """Surface normals of NormalBae: B x H x W x C, 0..1, to B x H x W x 3 (x, y, z as red, green, blue)."""
    network = _load("normal", "NormalBaeDetector", lambda tool: [tool.model])
    return _detect(images, resolution, network.tool, network)


def pose_maps(images: torch.Tensor, resolution: int, hands: bool, face: bool) -> torch.Tensor:
    """OpenPose skeletons on black: B x H x W x C, 0..1, to B x H x W x 3; black where nobody is found."""
    network = _load("pose", "OpenposeDetector",
                    lambda tool: [part.model for part in (tool.body_estimation, tool.hand_estimation,
                                                          tool.face_estimation)])
    return _detect(images, resolution, network.tool, network, include_hand=hands, include_face=face)


def lineart_maps(images: torch.Tensor, resolution: int, style: str) -> torch.Tensor:
    """White lines on black.

    Args:
        images: B x H x W x C, 0..1.
        resolution: px of the shorter side that the annotator sees.
        style: "fine" or "coarse" (networks), or "standard" (difference from a blur; no weights).

    Returns:
        B x H x W x 3, 0..1.
    """
    if style == "standard":
        module = require("controlnet_aux", "controlnet-aux", "The lineart annotator")
        return _detect(images, resolution, module.LineartStandardDetector(), None)
    network = _load("lineart", "LineartDetector", lambda tool: [tool.model, tool.model_coarse])
    return _detect(images, resolution, network.tool, network, coarse=style == "coarse")
