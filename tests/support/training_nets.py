"""Very small networks for the tests of training: a UNet in the layout of SD 1.5's checkpoints, 1.6 M parameters.

The host takes an SD 1.5 model at its full width only, so what has to be sampled uses the miniature weights; what is
trained alone is faster with this one. The layout is the host's own: its UNet is asked for the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from in_host import enter_host
from light_weights import ip_adapter, save

WIDTHS = (32, 64)
TEXT, IMAGE = 768, 768


def tiny_checkpoint(path: Path, seed: int = 0, widths: Sequence[int] = WIDTHS) -> Path:
    """A checkpoint with a UNet and nothing else, half precision; attention at the first level and in the middle."""
    enter_host()
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        more = len(widths) - 1  # levels without attention
        unet = UNetModel(image_size=32, in_channels=4, out_channels=4, model_channels=widths[0],
                         channel_mult=tuple(width // widths[0] for width in widths), num_res_blocks=[2] * len(widths),
                         num_heads=8, use_spatial_transformer=True, context_dim=TEXT,
                         transformer_depth=[1, 1] + [0, 0] * more, transformer_depth_output=[1, 1, 1] + [0, 0, 0] * more,
                         transformer_depth_middle=1, dtype=torch.float32, device="cpu")
        for parameter in unet.parameters():  # torch leaves the host's layers as they lie in memory
            torch.nn.init.normal_(parameter, std=0.7 / max(1, parameter[0].numel())**0.5)
        for name, parameter in unet.named_parameters():
            if parameter.ndim == 1:
                torch.nn.init.constant_(parameter, float(name.endswith("weight")))
    save_file({f"model.diffusion_model.{key}": value.half() for key, value in unet.state_dict().items()}, path)
    return path


def tiny_ip_adapter(path: Path) -> Path:
    """An IP-Adapter for it."""
    return save(ip_adapter([WIDTHS[0]] * 5 + [WIDTHS[1]], IMAGE), path)
