"""Few-step LoRAs in miniature, in the layout of Hyper-SD's files for SD1.5.

That layout is kohya's, with diffusers' names: for every layer of the UNet's blocks, and for nothing else,
``lora_down``, ``lora_up`` and ``alpha``, in single precision. Their rank is 64; 834 such tensors take exactly the
published size.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from .diffusion import RES_BLOCKS, unet_shapes
from .tensors import State, file_of, generator, random_tensor

RANK = 4
ALPHA = 2.0
"""Not the rank, so that a loader that drops it is noticed."""
_GAIN = 0.25

_RES_BLOCK = {"in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.3": "conv2",
              "skip_connection": "conv_shortcut"}
_RESIZING = {"op": "downsamplers.0.conv", "conv": "upsamplers.0.conv"}


def lora_layers() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name in the file (before ``.lora_down``) and shape ``[out, in, ...]`` of every layer that a LoRA changes."""
    for key, shape in unet_shapes(""):
        if len(shape) > 1 and key.startswith(("input_blocks", "middle_block", "output_blocks")):
            name = key.removesuffix(".weight")
            if name != "input_blocks.0.0":
                yield "lora_unet_" + _diffusers_name(name).replace(".", "_"), shape


def _diffusers_name(layer: str) -> str:
    """What diffusers calls a layer of a block: ``down_blocks.0.resnets.0.conv1`` for input_blocks.1.0.in_layers.2."""
    side, index, *inner = layer.split(".")
    if side == "middle_block":
        block, place = "mid_block", int(index) // 2
    else:
        level, place = divmod(int(index) - (side == "input_blocks"), RES_BLOCKS + 1)
        block, inner = f"{'down' if side == 'input_blocks' else 'up'}_blocks.{level}", inner[1:]
    part = ".".join(inner)
    if part in _RESIZING:
        return f"{block}.{_RESIZING[part]}"
    if part in _RES_BLOCK:
        return f"{block}.resnets.{place}.{_RES_BLOCK[part]}"
    return f"{block}.attentions.{place}.{part}"


def few_step_loras(models: Path, seed: int) -> None:
    """Write both few-step LoRAs of the registry, each with weights of its own."""
    for role in ("few-step lora", "few-step lora (12 steps)"):
        path = file_of(models, role)
        rng = generator(seed, path)
        state: State = {}
        for name, (outer, *inner) in lora_layers():
            kernel = (1,) * len(inner[1:])
            state[f"{name}.lora_down.weight"] = random_tensor(name, (RANK, *inner), rng)
            state[f"{name}.lora_up.weight"] = random_tensor(name, (outer, RANK, *kernel), rng, _GAIN)
            state[f"{name}.alpha"] = torch.tensor(ALPHA)
        save_file(state, path)
