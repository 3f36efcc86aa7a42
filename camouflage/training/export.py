"""From a checkpoint to the safetensors file that the nodes load."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from .. import VERSION
from ..errors import CamouflageError
from ..files import whole
from . import checkpoints
from .checkpoints import EMA, WEIGHTS, Checkpoint
from .networks import original_keys

State = Mapping[str, torch.Tensor]
_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_IMAGE_PROMPT = ("image_proj.", "ip_adapter.")
NOT_STATED = "not stated"
_OF_NETWORK = ("encoding", "encoding_version", "image_encoder", "image_encoder_sha256")  # what the nodes check


def main(options: argparse.Namespace) -> int:
    """The command ``export``; the options are those of ``camouflage/commands/train.py``."""
    checkpoint = find(options.run, options.step)
    name = WEIGHTS if options.weights == "raw" else EMA
    if name not in checkpoint.state["sha256"]:
        raise CamouflageError(f"{checkpoint.path} has no moving average, since 'ema.use' was false. Export the weights "
                              "themselves with --no-ema.")
    tensors = checkpoint.tensors(name)
    described = metadata(checkpoint.state, options.licence or NOT_STATED)
    rest, prompt = split_image_prompt(tensors)
    files = {options.output: network(checkpoint.state["kind"], rest)}
    if prompt:
        files[options.output.with_name(f"{options.output.stem}_image_prompt.safetensors")] = prompt
    write_new(files, described, _DTYPES[options.dtype])
    for path, state in files.items():
        print(f"{path}: {sum(value.numel() for value in state.values()) / 1e6:.1f} M parameters, {options.dtype}, step "
              f"{checkpoint.step}")
    print(ADVICE[checkpoint.state["kind"]])
    return 0


ADVICE = {
    "light": "Put it into ComfyUI's models/camouflage/light/ folder and choose it in 'Load Light Adapter' "
             "(a file ..._image_prompt belongs into models/ipadapter/).",
    "identity": "Put it into ComfyUI's models/controlnet/ folder and choose it in the stock 'Load ControlNet Model', "
                "connected to 'Identity Control' together with the VAE.",
}


def find(run: Path, step: int | None) -> Checkpoint:
    """A checkpoint: the folder of one, or of a run (its newest whole one, or that of a step).

    Raises:
        CamouflageError: there is none, or it is not whole.
    """
    if (run / "state.json").is_file():
        found = checkpoints.load(run)
        if step not in (None, found.step):
            raise CamouflageError(f"{run} is the checkpoint of step {found.step}, but --step is {step}. Name the run's "
                                  "folder, or leave out --step.")
        return found
    folder = run / "checkpoints"
    there = checkpoints.steps(folder)
    if step is not None and there:
        if step not in there:
            raise CamouflageError(f"There is no checkpoint of step {step} in {folder}, only of "
                                  f"{', '.join(map(str, there))}.")
        return checkpoints.load(folder / f"step-{step:08d}")
    found = checkpoints.latest(folder)
    if found is None:
        raise CamouflageError(f"There is no whole checkpoint in {folder}. Name the --output folder of a training, or "
                              "one of its checkpoints.")
    return found


def metadata(state: Mapping[str, Any], licence: str) -> dict[str, str]:
    """What the file says of itself; ``state`` is a checkpoint's."""
    described = {
        "camouflage_version": VERSION, "camouflage_network": state["kind"], "licence": licence,
        "base_model": state["base_model"]["name"], "base_model_sha256": state["base_model"]["sha256"],
        "step": str(state["step"]), "resolution": str(state["dataset"]["resolution"]),
        "dataset_size": str(state["dataset"]["trained_on"]), "git_revision": state["git_revision"],
    }
    return described | {key: state[key] for key in _OF_NETWORK if key in state}


def network(kind: str, tensors: State) -> dict[str, torch.Tensor]:
    """Trained tensors under the names that loaders know: diffusers' for Light, the original ones for ControlNets."""
    if kind == "light":
        return dict(tensors)
    names = original_keys(tensors)
    return {names[key]: value for key, value in tensors.items()}


def split_image_prompt(tensors: State) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The trained network, and the IP-Adapter that was trained with it (empty if none was)."""
    prompt = {key: value for key, value in tensors.items() if key.startswith(_IMAGE_PROMPT)}
    return {key: value for key, value in tensors.items() if key not in prompt}, prompt


def write_new(files: Mapping[Path, State], described: dict[str, str], dtype: torch.dtype | None = None) -> None:
    """Writes files that are not there yet, all or none.

    Args:
        dtype: of all tensors; None: half precision for a file that holds nothing else, single for any other.

    Raises:
        CamouflageError: one is there already; or as :func:`write`.
    """
    for path in files:
        if path.exists():
            raise CamouflageError(f"{path} is there already. Choose another --output; nothing is overwritten.")
    try:
        for path, state in files.items():
            half = all(value.dtype == torch.float16 for value in state.values())
            write(state, path, described, dtype or (torch.float16 if half else torch.float32))
    except CamouflageError:
        for path in files:  # none of them was there before
            path.unlink(missing_ok=True)
        raise


def write(state: State, path: Path, described: dict[str, str], dtype: torch.dtype = torch.float32) -> None:
    """Writes a file whole or not at all.

    Raises:
        CamouflageError: numbers that are not finite in this format, or no room on the disk.
    """
    converted = {key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items()}
    broken = next((key for key, value in converted.items() if not torch.isfinite(value).all()), None)
    if broken:
        raise CamouflageError(f"{broken} is not finite as {dtype}; nothing was written. Export float32 weights, or an "
                              "earlier step with --step.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            save_file(converted, temporary, described)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
        raise CamouflageError(f"{path} could not be written ({error}). Is there room, and may you write "
                              "there?") from error
