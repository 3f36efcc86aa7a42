"""What a training costs: parameters, arithmetic and memory of a step at full size, computed without weights or a GPU.

The networks are built on torch's device "meta", which has shapes but no numbers; torch's own counter adds up the
multiplications and additions of a real forward and backward pass, and the tensors that autograd keeps are measured.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ControlNetModel, T2IAdapter, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from camouflage.attribute_map import CHANNELS
from training.identity import IdentityModel
from training.light import LightModel
from training.networks import LATENT_CHANNELS, RES_BLOCKS

SD15: dict[str, Any] = {  # SD 1.5's UNet, as training.networks.unet_config reads it from a checkpoint
    "in_channels": 4, "out_channels": 4, "layers_per_block": RES_BLOCKS, "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768, "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3}
IMAGES = (100_000, 1_000_000)  # pictures seen, of which the time is estimated
_STATE_BYTES = 4 + 4 + 8 + 4  # weight, gradient, AdamW's two moments, average: single precision


@dataclass(frozen=True)
class Cost:
    """Of one training at one size.

    Attributes:
        trained, frozen: parameters.
        flops: additions and multiplications of one picture's forward and backward pass.
        kept: numbers that autograd keeps for one picture.
    """

    trained: int
    frozen: int
    flops: float
    kept: int

    def memory(self, batch_size: int) -> float:
        """GB with bf16: frozen weights and what is kept in two bytes, the trained state in single precision."""
        return (2 * self.frozen + _STATE_BYTES * self.trained + 2 * self.kept * batch_size) / 1e9


def model(kind: str, device: str = "meta") -> torch.nn.Module:
    """The networks of a training at full size, without weights of use; "light" or "identity"."""
    with torch.device(device):
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
        if (key := tensor.untyped_storage()._cdata) not in weights:
            kept[key] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        net(**inputs).sum().backward()
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in net.parameters() if not p.requires_grad)
    return Cost(trained, frozen, counter.get_total_flops(), sum(kept.values()))


def main(options: argparse.Namespace) -> int:
    """The command ``cost``."""
    print(f"Computed from shapes, bf16, batches of {options.batch_size}; your GPU does a third to a half of its bf16 "
          "TFLOP/s here.")
    for kind in ("light", "identity"):
        for resolution in options.resolution:
            found = cost(kind, resolution)
            print(f"{kind:8} {resolution:4} px: {found.trained / 1e6:6.1f} M parameters trained, "
                  f"{found.frozen / 1e6:6.1f} M frozen; {found.flops / 1e12:5.2f} TFLOP a picture, "
                  f"{found.flops * options.batch_size / 1e12:6.1f} a step; "
                  f"about {found.memory(options.batch_size):5.1f} GB")
    return 0
