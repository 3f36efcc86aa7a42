"""Very small networks for the tests of training: a UNet in the layout of SD 1.5's checkpoints, 1.6 M parameters.

The host takes an SD 1.5 model at its full width only, so what has to be sampled uses the miniature weights; what is
trained alone is faster with this one. The layout is the host's own: its UNet is asked for the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

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
                         transformer_depth=[1, 1] + [0, 0] * more,
                         transformer_depth_output=[1, 1, 1] + [0, 0, 0] * more,
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


def train_a_little(checkpoint: Path, latents: torch.Tensor, steps: int = 200, batch: int = 16) -> Path:
    """Teaches a checkpoint's UNet to find the noise in latents (N x 4 x h x w), so that there is something to steer."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    from camouflage.training import loop, networks

    schedule, rng = loop.noise_schedule(), torch.Generator().manual_seed(0)
    unet = networks.load_unet(checkpoint).requires_grad_(True)
    optimizer, text = torch.optim.AdamW(unet.parameters(), lr=2e-3), torch.zeros(batch, 77, TEXT)
    for _ in range(steps):
        chosen = latents[torch.randint(len(latents), (batch,), generator=rng)]
        noise = torch.randn(chosen.shape, generator=rng)
        timesteps = torch.randint(1000, (batch,), generator=rng)
        predicted = unet(schedule.add_noise(chosen, noise, timesteps), timesteps, text, return_dict=False)[0]
        torch.nn.functional.mse_loss(predicted, noise).backward()
        optimizer.step()
        optimizer.zero_grad()
    before = load_file(checkpoint)
    converted = convert_ldm_unet_checkpoint(before, dict(unet.config))
    names = {value.data_ptr(): key for key, value in before.items()}  # it renames tensors and copies none
    after = {names[converted[key].data_ptr()]: value.detach().half().contiguous()
             for key, value in unet.state_dict().items()}
    save_file({key: value.view(before[key].shape) for key, value in after.items()}, checkpoint)
    return checkpoint
