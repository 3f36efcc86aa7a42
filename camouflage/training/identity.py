"""The training of the identity ControlNet (paper section 3.1): from the VAE encoding of a picture back to the picture.

A ControlNet that starts as a copy of the UNet's encoder reads the original's latent, enlarged x8 (nearest: what the
host does with a hint of four channels), with the empty prompt. The base model is frozen. The better it reconstructs,
the better the guidance knows what to keep away from.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from . import export, loop, networks, start
from .config import Identity
from .dataset import Dataset, Sample
from .loop import Inputs, Job, ValidationResult
from .validation import Sampler, exported

KIND = "identity"
HINT_SCALE = 8


class IdentityModel(torch.nn.Module):
    """UNet and ControlNet: predicts the noise from the noisy latent and the clean one."""

    def __init__(self, unet: UNet2DConditionModel, control_net: ControlNetModel):
        super().__init__()
        self.unet, self.control_net = unet, control_net

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor,
                latents: torch.Tensor) -> torch.Tensor:
        """Noise in ``noisy``.

        Args:
            noisy: B x 4 x h x w.
            timesteps: B, 0..999.
            text: B x 77 x 768, the empty prompt.
            latents: B x 4 x h x w, without noise.
        """
        hint = torch.nn.functional.interpolate(latents, scale_factor=HINT_SCALE, mode="nearest")
        down, middle = self.control_net(noisy, timesteps, text, hint, return_dict=False)
        dtype = self.unet.conv_in.weight.dtype
        return self.unet(noisy.to(dtype), timesteps, text.to(dtype),
                         down_block_additional_residuals=[part.to(dtype) for part in down],
                         mid_block_additional_residual=middle.to(dtype), return_dict=False)[0]


def distance(found: torch.Tensor, original: torch.Tensor) -> float:
    """Root mean square of the difference of two latents; those of photos have a standard deviation of about 1."""
    return float((found - original).square().mean().sqrt())


def job(config: Identity, dataset: Dataset, base_model: Path, image_prompt: Path | None = None,
        sampler: Sampler | None = None) -> Job:
    """The networks, inputs and validation of this training.

    Args:
        base_model: an SD 1.5 checkpoint.
        image_prompt: not used; both trainings are built with the same arguments.
        sampler: reconstructs the held-out pictures; None: no validation.
    """
    unet = networks.load_unet(base_model)
    control_net = networks.new_identity(unet, Path(config.init) if config.init else None, config.seed)
    networks.convert(unet, loop.compute_dtype(config))
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        control_net.enable_gradient_checkpointing()
    empty_text = dataset.info.empty_text.float()
    described = start.described(KIND, base_model, dataset, config.init)

    def conditions(samples: Sequence[Sample], _: Sequence[torch.Generator]) -> Inputs:
        return {"text": empty_text.expand(len(samples), -1, -1),
                "latents": torch.stack([sample.latent for sample in samples])}

    def validate(step: int, tensors: Mapping[str, torch.Tensor], samples: Sequence[Sample],
                 device: torch.device) -> ValidationResult:
        if sampler is None:
            return ValidationResult()
        with exported(export.network(KIND, tensors)) as file:
            found = sampler.identity(file, samples, empty_text, config)
        far = [distance(latent, sample.latent) for latent, sample in zip(found, samples, strict=True)]
        report = ValidationResult({"reconstruction_distance": sum(far) / len(far),
                                   "reconstruction_distance_worst": max(far)})
        if shown := config.validation.pictures:
            before, after = (sampler.decode(latents[:shown])
                             for latents in ([sample.latent for sample in samples], found))
            report.pictures = loop.side_by_side(before, after)
        return report

    return Job(IdentityModel(unet, control_net), dict(control_net.named_parameters()), conditions, validate, described)


def main(options: argparse.Namespace) -> int:
    """The command ``identity``: trains, or goes on training."""
    return start.command(KIND, options, job, lambda config: False)
