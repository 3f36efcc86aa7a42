"""How a training starts: which files, which device, and what both trainings share."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..comfy.installed import default_comfyui, first_file, model_folders
from ..errors import CamouflageError
from ..files import file_sha256
from ..weights import of_role
from . import loop
from .config import load
from .dataset import Dataset
from .loop import Job
from .validation import Sampler

Build = Callable[[Any, Dataset, Path, Path | None, Sampler | None], Job]


def command(kind: str, options: argparse.Namespace, build: Build, wants_image_prompt: Callable[[Any], bool]) -> int:
    """Runs a training command; the options are those of ``camouflage/commands/train.py``.

    Args:
        kind: "light" or "identity".
        build: makes the job from config, dataset, base model, IP-Adapter and sampler.
        wants_image_prompt: whether a config needs the IP-Adapter's file.
    """
    config = load(kind, options.config, options.set)
    dataset = Dataset.open(options.dataset)
    base_model = find("checkpoint", options.base_model, options, "--base-model")
    if file_sha256(base_model) != dataset.info.base_model:
        raise CamouflageError(f"The dataset in {options.dataset} was prepared with another base model than {base_model}"
                              " (its SHA-256 differs), so its captions are encoded for that one. Name the one it was "
                              "prepared with in --base-model, or prepare the photos again.")
    image_prompt = None
    if wants_image_prompt(config):
        image_prompt = find("image prompt", options.image_prompt, options, "--image-prompt")
    elif getattr(options, "image_prompt", None):
        raise CamouflageError("--image-prompt names a file, but the settings want none: image_prompt.new is true, or "
                              "image_prompt.use is false. Leave out the option, or change the settings.")
    accelerator = loop.make_accelerator(config, options.cpu)
    sampler = None
    if config.validation.every and accelerator.is_main_process:
        vae = find("vae", options.vae, options, "--vae") if config.validation.pictures else options.vae
        sampler = Sampler(base_model, vae, image_prompt, options)
    job = build(config, dataset, base_model, image_prompt, sampler)
    last = loop.train(job, dataset, config, options.output, accelerator)
    if accelerator.is_main_process:
        print(f"Done: {last}. Now: python run.py train export {options.output} --output NAME.safetensors")
    accelerator.end_training()
    return 0


def find(role: str, given: Path | None, options: argparse.Namespace, option: str) -> Path:
    """The file of an option, or else the registry's file of a role in the models folders.

    Raises:
        CamouflageError: it is in none of them.
    """
    if given is not None:
        return given
    weight, = of_role(role)
    folders = [*(folder / weight.folder for folder in options.models),
               *model_folders(default_comfyui(), weight.folder)]
    found = first_file(folders, weight)
    if found is None:
        raise CamouflageError(f"{weight.file} is in none of the folders {', '.join(map(str, folders))}. Put it there, "
                              f"from {weight.url} (licence: {weight.licence}), or name a file with {option}.")
    return found


def described(kind: str, base_model: Path, dataset: Dataset, init: str) -> dict[str, Any]:
    """What every checkpoint says of its training. The dataset knows the digest of the base model, which is large."""
    return {"kind": kind, "base_model": {"name": base_model.name, "sha256": dataset.info.base_model},
            "init": file_sha256(Path(init)) if init else ""}


@contextlib.contextmanager
def swapped(parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Other values in parameters for a while; afterwards they are what they were, to the bit."""
    before = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = tensors[name].to(parameter.device, parameter.dtype)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = before[name]
