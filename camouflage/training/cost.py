"""What a training costs: parameters, arithmetic and memory of a step at full size, computed without weights or a GPU.

The networks are built on torch's device "meta", which has shapes but no numbers; torch's own counter adds up the
multiplications and additions of a real forward and backward pass, and the tensors that autograd keeps are measured.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.adapter import T2IAdapter
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from ..method.attribute_map import CHANNELS
from .identity import IdentityModel
from .light import LightModel
from .networks import LATENT_CHANNELS, RES_BLOCKS

SD15: dict[str, Any] = {  # SD 1.5's UNet, as networks.unet_config reads it from a checkpoint
    "in_channels": 4, "out_channels": 4, "layers_per_block": RES_BLOCKS, "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768, "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3}
_STATE_BYTES = 4 + 4 + 8 + 4  # weight, gradient, AdamW's two moments, average: single precision
_KEPT_BYTES = 3  # bf16, but autocast normalises in single precision; measured: 2.9 to 3.1


@dataclass(frozen=True)
class Cost:
    """Of one training at one size.

    Attributes:
        trained, frozen: parameters.
        flops: additions and multiplications of one picture's forward and backward pass.
        kept: numbers that autograd keeps for one picture, with an attention that keeps no scores (as on a GPU).
    """

    trained: int
    frozen: int
    flops: float
    kept: int

    def memory(self, batch_size: int) -> float:
        """GB with bf16: frozen weights in two bytes, the trained state in single precision, what is kept in both."""
        return (2 * self.frozen + _STATE_BYTES * self.trained + _KEPT_BYTES * self.kept * batch_size) / 1e9


def model(kind: str) -> torch.nn.Module:
    """The networks of a training at full size, as shapes without weights; "light" or "identity"."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15).requires_grad_(False).eval()
        if kind == "light":
            return LightModel(unet, T2IAdapter(CHANNELS, list(SD15["block_out_channels"]), RES_BLOCKS, 1))
        return IdentityModel(unet, ControlNetModel.from_unet(unet, load_weights_from_unet=False,
                                                             conditioning_channels=LATENT_CHANNELS))


def cost(kind: str, resolution: int) -> Cost:
    """Counts one picture of resolution x resolution px. The IP-Adapter's 22 M parameters are left out."""
    net, cells = model(kind), resolution // 8
    inputs = {"noisy": torch.zeros(1, LATENT_CHANNELS, cells, cells, device="meta"),
              "timesteps": torch.zeros(1, dtype=torch.long, device="meta"),
              "text": torch.zeros(1, 77, 768, device="meta")}
    name, channels = ("maps", CHANNELS) if kind == "light" else ("latents", LATENT_CHANNELS)
    inputs[name] = torch.zeros(1, channels, cells, cells, device="meta")
    weights = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        heads, rows, columns = (1, 1, 1, *tensor.shape)[-3:]
        scores = heads == SD15["attention_head_dim"] and columns in (77, rows)
        if (key := tensor.untyped_storage()._cdata) not in weights and not scores:
            kept[key] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        net(**inputs).sum().backward()
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in net.parameters() if not p.requires_grad)
    return Cost(trained, frozen, counter.get_total_flops(), sum(kept.values()))


def main(options: argparse.Namespace) -> int:
    """The command ``cost``."""
    print(f"Computed from shapes, bf16, batches of {options.batch_size}; docs/performance.md has measured figures.")
    for kind in ("light", "identity"):
        for resolution in options.resolution:
            found = cost(kind, resolution)
            print(f"{kind:8} {resolution:4} px: {found.trained / 1e6:6.1f} M parameters trained, "
                  f"{found.frozen / 1e6:6.1f} M frozen; {found.flops / 1e12:5.2f} TFLOP a picture, "
                  f"{found.flops * options.batch_size / 1e12:6.1f} a step; "
                  f"about {found.memory(options.batch_size):5.1f} GB")
    return 0
