"""The training of the Light adapter (paper section 3.2): a T2I-Adapter that reads the attribute map.

The base model is frozen, the image prompt is on, as it is when the adapter is used, and the loss is the mean squared
error of the predicted noise. The image prompt is frozen too, or trained together with the adapter, as the authors do
(configs/light-authors.yaml). The maps are drawn by the code that the node Attribute Map calls.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.adapter import T2IAdapter
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from ..errors import CamouflageError
from ..files import file_sha256
from ..method.attribute_map import CHANNELS, ENCODINGS, AttributeMap, attribute_map
from ..method.faces import FORGOTTEN, Faces, Picture
from ..weights import FARL
from . import export, loop, networks, start
from .config import Light
from .dataset import Dataset, DatasetInfo, Sample
from .loop import Inputs, Job, ValidationResult
from .randomness import generator, timestep
from .validation import Sampler, exported

KIND = "light"
_NOISE_LEVELS = 4  # at which a validation looks


class LightModel(torch.nn.Module):
    """UNet and adapter: predicts the noise."""

    def __init__(self, unet: UNet2DConditionModel, adapter: T2IAdapter):
        super().__init__()
        self.unet, self.adapter = unet, adapter

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, maps: torch.Tensor,
                image: torch.Tensor | None = None) -> torch.Tensor:
        """Noise in ``noisy``.

        Args:
            noisy: B x 4 x h x w.
            timesteps: B, 0..999.
            text: B x 77 x 768.
            maps: B x 41 x h x w.
            image: B x width or B x states x width, what the image prompt projects; None where the UNet has none.
        """
        dtype = self.unet.conv_in.weight.dtype
        features = [feature.to(dtype) for feature in self.adapter(maps)]
        more = {} if image is None else {"added_cond_kwargs": {"image_embeds": [image[:, None].to(dtype)]}}
        return self.unet(noisy.to(dtype), timesteps, text.to(dtype), down_intrablock_additional_residuals=features,
                         return_dict=False, **more)[0]


def drop_attributes(picture: Picture, part: float, rng: torch.Generator) -> Picture:
    """Drops each attribute of each face with the probability ``part``: nothing known, 0 in the map."""
    drawn = torch.rand(len(picture.faces), len(FORGOTTEN), generator=rng)
    faces = (dataclasses.replace(face, attributes=tuple(
        None if lost else value for value, lost in zip(face.attributes, row.tolist(), strict=True)))
        for face, row in zip(picture.faces, drawn < part, strict=True))
    return dataclasses.replace(picture, faces=tuple(faces))


def draw_map(picture: Picture, sample: Sample, config: Light) -> torch.Tensor:
    """The map of a picture's faces at a sample's latent size, 41 x h x w: what the node Attribute Map gives."""
    height, width = sample.latent.shape[-2:]
    chosen = config.map
    return attribute_map(Faces((picture,)), height, width, chosen.region, chosen.grow, chosen.keypoint_radius,
                         encoding=ENCODINGS[chosen.encoding])[0]


class Conditions:
    """Text, image prompt and map of a batch, each sometimes left out, as config.dropout says.

    What is left out is what the node gives without it: the empty prompt, the image encoder's word for no picture, a
    map of zeros.
    """

    def __init__(self, config: Light, info: DatasetInfo, with_image: bool):
        self.config, self._with_image = config, with_image
        self.empty_text, self.empty_image = info.empty_text.float(), info.empty_image.float()

    def __call__(self, samples: Sequence[Sample], rngs: Sequence[torch.Generator]) -> Inputs:
        dropout = self.config.dropout
        texts, images, maps = [], [], []
        for sample, rng in zip(samples, rngs, strict=True):
            which, whether = torch.rand(2, generator=rng, dtype=torch.float64).tolist()
            both, no_text = which < dropout.both, which < dropout.both + dropout.text
            no_image = both or dropout.both + dropout.text <= which < dropout.both + dropout.text + dropout.image
            picture = drop_attributes(sample.picture, dropout.attribute, rng)
            drawn = draw_map(picture, sample, self.config)
            texts.append(self.empty_text if no_text else sample.text)
            images.append(self.empty_image if no_image else sample.image)
            maps.append(torch.zeros_like(drawn) if whether < dropout.map else drawn)
        return self._inputs(texts, images, maps)

    def of(self, sample: Sample, picture: Picture | None) -> Inputs:
        """One sample with everything, and with the map of a picture's faces; None: the empty map."""
        empty = torch.zeros(CHANNELS, *sample.latent.shape[-2:])
        drawn = empty if picture is None else draw_map(picture, sample, self.config)
        return self._inputs([sample.text], [sample.image], [drawn])

    def _inputs(self, texts: Sequence[torch.Tensor], images: Sequence[torch.Tensor],
                maps: Sequence[torch.Tensor]) -> Inputs:
        inputs = {"text": torch.stack(list(texts)), "maps": torch.stack(list(maps))}
        return inputs | ({"image": torch.stack(list(images))} if self._with_image else {})


@dataclasses.dataclass(frozen=True)
class MapUse:
    """Losses of pictures with their own map, with another picture's, and without: each one number a picture."""

    own: torch.Tensor
    other: torch.Tensor
    none: torch.Tensor

    def numbers(self) -> dict[str, float]:
        """For the log; of a single picture there is no other one's map."""
        numbers = {"loss": float(self.own.mean()), "loss_without_map": float(self.none.mean()),
                   "own_map_beats_none": float((self.own < self.none).float().mean())}
        if len(self.own) > 1:
            numbers |= {"loss_with_anothers_map": float(self.other.mean()),
                        "own_map_beats_anothers": float((self.own < self.other).float().mean())}
        return numbers


@torch.no_grad()
def map_use(model: torch.nn.Module, conditions: Conditions, samples: Sequence[Sample], config: Light,
            device: torch.device) -> MapUse:
    """Measures how far the adapter uses its map: the same noise with three maps.

    Every picture is looked at at four noise levels, spread as the training draws its time steps. Another's map is
    that of the next picture, drawn at this one's size.
    """
    schedule, losses = loop.noise_schedule(), []
    for place, sample in enumerate(samples):
        other = samples[(place + 1) % len(samples)].picture
        rng = generator(config.validation.seed, "noise", sample.source)
        noise = torch.randn(_NOISE_LEVELS, *sample.latent.shape, generator=rng)
        levels = [timestep((i + 0.5) / _NOISE_LEVELS, config.timestep_sampling) for i in range(_NOISE_LEVELS)]
        timesteps = torch.tensor(levels)
        latent = sample.latent.expand_as(noise)
        noisy = schedule.add_noise(latent, noise, timesteps)  # type: ignore[arg-type]
        row = []
        for picture in (sample.picture, other, None):
            inputs = {name: value.expand(_NOISE_LEVELS, *value.shape[1:]).to(device)
                      for name, value in conditions.of(sample, picture).items()}
            predicted = model(noisy=noisy.to(device), timesteps=timesteps.to(device), **inputs)
            row.append(torch.nn.functional.mse_loss(predicted.float().cpu(), noise))
        losses.append(torch.stack(row))
    return MapUse(*torch.stack(losses).unbind(1))


def job(config: Light, dataset: Dataset, base_model: Path, image_prompt: Path | None = None,
        sampler: Sampler | None = None) -> Job:
    """The networks, inputs and validation of this training.

    Args:
        base_model: an SD 1.5 checkpoint.
        image_prompt: file of an IP-Adapter; None where config.image_prompt wants a new one, or none.
        sampler: paints the validation's pictures; None: numbers only.
    """
    unet = networks.load_unet(base_model)
    adapter = networks.new_light_adapter(unet, Path(config.init) if config.init else None, config.seed)
    trained = dict(adapter.named_parameters())
    described = start.described(KIND, base_model, dataset, config.init)
    described |= ENCODINGS[config.map.encoding].metadata
    with_image = config.image_prompt.use
    if with_image:
        prompt, more = _image_prompt(config, dataset, unet, image_prompt)
        described |= more
        trained |= prompt if config.image_prompt.train else {}
    networks.convert(unet, loop.compute_dtype(config))  # after a new image prompt has copied what is not yet rounded
    if config.map.region == "landmarks" and not dataset.info.faces.get("landmarks"):
        print("The dataset was prepared without --landmarks: of faces that have none the box is drawn.", flush=True)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    model = LightModel(unet, adapter)
    conditions = Conditions(config, dataset.info, with_image)

    def validate(step: int, tensors: Mapping[str, torch.Tensor], samples: Sequence[Sample],
                 device: torch.device) -> ValidationResult:
        with start.swapped(trained, tensors):
            report = ValidationResult(map_use(model, conditions, samples, config, device).numbers())
        shown = samples[:config.validation.pictures]
        if sampler is not None and shown:
            encoding = ENCODINGS[config.map.encoding]
            maps = [AttributeMap(draw_map(sample.picture, sample, config)[None], encoding) for sample in shown]
            mine, prompts = export.split_image_prompt(tensors)
            with exported(mine) as file, exported(prompts) as tuned:
                report.pictures = loop.numbered(sampler.light(file, shown, maps, dataset.info, config,
                                                              tuned if prompts else None))
        return report

    return Job(model, trained, conditions, validate, described)


def _image_prompt(config: Light, dataset: Dataset, unet: UNet2DConditionModel,
                  file: Path | None) -> tuple[dict[str, torch.nn.Parameter], dict[str, Any]]:
    """Puts the image prompt into the UNet: its parameters, and what checkpoints say of it."""
    chosen, info = config.image_prompt, dataset.info
    if info.image != config.prepare.image:
        raise CamouflageError(f"The dataset holds '{info.image}' of every picture, but prepare.image is "
                              f"'{config.prepare.image}'. Prepare the photos again with the settings of this training "
                              "(--config), or train with those of the dataset.")
    if file is not None:
        name, prompt = file.name, networks.read_image_prompt(file)
    elif len(info.image_shape) == 2:
        name, prompt = "The new image prompt", networks.new_image_prompt(unet, info.image_shape[1], chosen.queries,
                                                                         chosen.depth, config.seed)
    else:
        raise CamouflageError("image_prompt.new is true, but prepare.image is 'CLIP embedding': a new image prompt "
                              "reads hidden states. Prepare and train with prepare.image 'FaRL states' "
                              "(light-authors.yaml) or 'CLIP states'.")
    states = prompt.layout.resampler is not None
    if states != (len(info.image_shape) == 2) or prompt.layout.width != info.image_shape[-1]:
        raise CamouflageError(f"{name} projects {'hidden states' if states else 'image embeddings'} of width "
                              f"{prompt.layout.width}, but the dataset holds '{info.image}' of width "
                              f"{info.image_shape[-1]}. Prepare the photos with the image encoder that it was trained "
                              "with (--image-encoder, prepare.image).")
    parameters = networks.add_image_prompt(unet, prompt, name, chosen.scale)
    for parameter in parameters.values():
        parameter.requires_grad_(chosen.train)
    described = {"image_prompt": "new" if file is None else file_sha256(file)}
    if info.image == "FaRL states":
        described |= {"image_encoder": FARL, "image_encoder_sha256": info.image_encoder}
    return parameters, described


def main(options: argparse.Namespace) -> int:
    """The command ``light``: trains, or goes on training."""
    return start.command(KIND, options, job, lambda config: config.image_prompt.use and not config.image_prompt.new)
