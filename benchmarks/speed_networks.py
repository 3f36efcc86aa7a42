"""Networks of SD 1.5's topology for counting and for rehearsals: of its real shapes without numbers, or narrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.base import SCENE
from benchmarks.flops import sd15
from benchmarks.host import SHAPES, unet_config
from testing.counting import hollow

NARROW = 32  # channels of the outermost level, not 320


def hollow_networks() -> tuple[Any, dict[str, Any]]:
    """MODEL and CONTROL_NETs of the real shapes and half precision on the CPU, whose weights take no memory."""
    model = sd15(320, "meta")
    hollow(model.model)
    return model, _control_nets(unet_config(SHAPES["full"]), hollow)


def narrow_networks() -> tuple[Any, dict[str, Any]]:
    """MODEL and CONTROL_NETs with a tenth of the channels, random, in single precision on the CPU."""

    def filled(module: torch.nn.Module) -> torch.nn.Module:
        for parameter in module.float().parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return module.eval().requires_grad_(False)

    model = sd15(NARROW, "cpu")
    filled(model.model.diffusion_model)
    model.model.diffusion_model.dtype = torch.float32
    config = {**unet_config(SHAPES["full"]), "model_channels": NARROW, "dtype": torch.float32, "device": "cpu"}
    return model, _control_nets(config, filled)


def _control_nets(config: dict[str, Any], filled: Callable[[torch.nn.Module], torch.nn.Module]) -> dict[str, Any]:
    import comfy.cldm.cldm
    import comfy.controlnet

    def one() -> Any:
        net = filled(comfy.cldm.cldm.ControlNet(**config, hint_channels=3))
        return comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))
    return {name: one() for name in (*SCENE, "identity")}
