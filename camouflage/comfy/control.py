"""ControlNets: the scene controls as a chain, the identity control, and checks that stock nodes leave out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import comfy.latent_formats
import torch
from comfy.controlnet import ControlBase, ControlLora
from comfy.sd import VAE

from nodes import ControlNetApplyAdvanced

from ..errors import CamouflageError
from ..images import ASPECT_TOLERANCE, as_rgb
from ..method.light_adapter import text_width
from .memo import encode
from .messages import warn


@dataclass(frozen=True)
class SceneMap:
    """One control of the scene: a map, its ControlNet and how strongly it steers."""

    name: str
    image: torch.Tensor
    control_net: ControlBase
    strength: float
    end_percent: float = 1.0


def scene_map(name: str, image: torch.Tensor | None, control_net: ControlBase | None, strength: float,
              end_percent: float = 1.0) -> SceneMap | None:
    """A control from two optional sockets: None when both are empty.

    Raises:
        CamouflageError: one is connected and the other is not, or the map is no picture.
    """
    if image is None and control_net is None:
        return None
    if image is None or control_net is None:
        have, lack = ("map", "control_net") if control_net is None else ("control_net", "map")
        raise CamouflageError(f"'{name}_{have}' is connected, but '{name}_{lack}' is not. Connect both, or neither to "
                              "leave this control out.")
    return SceneMap(name, as_rgb(image, f"{name}_map"), control_net, strength, end_percent)


def apply_scene(positive: list, negative: list, maps: list[SceneMap], vae: VAE | None = None) -> tuple[list, list]:
    """Appends every map to both conditionings, in order; equal to a chain of ``ControlNetApplyAdvanced``.

    Positive and negative share each control, so the host evaluates both in one batch.

    Raises:
        CamouflageError: maps of different shapes or batches, or a ControlNet that belongs to another model family
            than the conditioning.
    """
    _check_maps_belong_together(maps)
    for scene in maps:
        check_family(scene.control_net, positive, f"{scene.name}_control_net")
        positive, negative = ControlNetApplyAdvanced().apply_controlnet(
            positive, negative, scene.control_net, scene.image, scene.strength, 0.0, scene.end_percent, vae=vae)
    return positive, negative


def apply_identity(conditioning: list, control_net: ControlBase, image: torch.Tensor, strength: float,
                   vae: VAE | None = None) -> list:
    """The identity control: ``conditioning`` plus a ControlNet that sees the original (paper section 3.1).

    Args:
        conditioning: of the empty prompt; no other control should be in it.
        control_net: three hint channels get the picture; four get its VAE encoding, in the model's latent scale
            (the host enlarges it x8, nearest, to where a ControlNet expects its hint).
        image: the original, B x H x W x C.
        strength: of the control, 1 is full.
        vae: needed for four channels, and by ControlNets that encode the picture themselves (SD3, Flux).
    """
    image = as_rgb(image, "image")
    check_family(control_net, conditioning, "control_net")
    channels = hint_channels(control_net)
    if channels == 4:
        if vae is None:
            raise CamouflageError("This identity ControlNet reads a VAE encoding (4 hint channels), but 'vae' is not "
                                  "connected. Connect the VAE that the sampled model uses.")
        latent = encode(vae, image)
        latent_format = comfy.latent_formats.SDXL if _context_width(control_net) == 2048 else comfy.latent_formats.SD15
        image, vae = latent_format().process_in(latent).movedim(1, -1), None
    elif channels != 3:
        raise CamouflageError(f"'control_net' takes a hint of {channels} channels; an identity control has 3 (it sees "
                              "the picture, like the public tile ControlNet) or 4 (it sees the VAE encoding).")
    return ControlNetApplyAdvanced().apply_controlnet(conditioning, [], control_net, image, strength, 0.0, 1.0,
                                                      vae=vae)[0]


def hint_channels(control_net: ControlBase) -> int:
    """Channels of the hint that a ControlNet reads, from its weights; 3 where it does not tell."""
    weight = _weights(control_net).get("input_hint_block.0.weight")
    return 3 if weight is None else weight.shape[1]


def check_family(control_net: ControlBase, conditioning: list, socket: str) -> None:
    """Refuses a ControlNet whose text width is not the conditioning's, before sampling fails in a matrix product."""
    wanted = _context_width(control_net)
    for embedding, _ in conditioning:
        if wanted is not None and embedding is not None and embedding.shape[-1] != wanted:
            families = {768: "SD 1.5", 1024: "SD 2", 2048: "SDXL"}
            raise CamouflageError(
                f"'{socket}' belongs to another model family: it reads text embeddings of width {wanted} "
                f"({families.get(wanted, 'unknown')}), but the conditioning has {embedding.shape[-1]} "
                f"({families.get(embedding.shape[-1], 'unknown')}). Use the checkpoint and ControlNets of one family.")


def check_fit(conds: dict[str, list[dict]], identity: str, shape: torch.Size) -> None:
    """Compares the pictures behind all controls with the latent that is about to be sampled.

    The host resizes a hint to the latent and crops what does not fit, and repeats a batch that is too short, without
    a word. For a scene map that is a warning; for the identity it is an error, since guidance away from a displaced
    or foreign original anonymizes nothing.

    Args:
        conds: the guider's, by name; each entry may have a "control" chain.
        identity: the name of the identity conds.
        shape: of the noise, B x C x h x w; other ranks are not compared.
    """
    if len(shape) != 4:
        return
    for control, owner in _controls(conds):
        hint = getattr(control, "cond_hint_original", None)
        if hint is None or hint.ndim != 4:
            continue
        height, width = hint.shape[-2:]
        stretch = (width / height) / (shape[-1] / shape[-2])
        problem = ""
        if abs(stretch - 1) > ASPECT_TOLERANCE:
            problem = f"is {width} x {height}, another shape than the latent ({shape[-1]} x {shape[-2]})"
        elif shape[0] % hint.shape[0]:
            problem = f"has {hint.shape[0]} pictures, but the latent has {shape[0]}"
        if problem and owner == identity:
            raise CamouflageError(f"The original behind the identity control {problem}. Connect the same prepared "
                                  "picture everywhere and take width, height and batch size of the latent from it.")
        if problem:
            warn(f"A control's map {problem}: the host crops or repeats it, and it may not lie where it should.")


def _controls(conds: dict[str, list[dict]]) -> Iterator[tuple[ControlBase, str]]:
    seen = set()
    for owner, entries in conds.items():
        for entry in entries:
            control = entry.get("control")
            while control is not None and id(control) not in seen:
                seen.add(id(control))
                yield control, owner
                control = control.previous_controlnet


def _check_maps_belong_together(maps: list[SceneMap]) -> None:
    for scene in maps[1:]:
        first, this = maps[0].image.shape, scene.image.shape
        if abs((this[2] / this[1]) / (first[2] / first[1]) - 1) > ASPECT_TOLERANCE:
            raise CamouflageError(f"'{scene.name}_map' is {this[2]} x {this[1]} px and '{maps[0].name}_map' "
                                  f"{first[2]} x {first[1]} px: they cannot show the same picture. Make all maps from "
                                  "one prepared picture.")
        if this[0] != first[0] and 1 not in (this[0], first[0]):
            raise CamouflageError(f"'{scene.name}_map' has {this[0]} pictures and '{maps[0].name}_map' {first[0]}. "
                                  "Make all maps from the same batch.")


def _weights(control_net: ControlBase) -> dict[str, torch.Tensor]:
    if isinstance(control_net, ControlLora):
        return control_net.control_weights
    model = getattr(control_net, "control_model", None)
    return {} if model is None else model.state_dict()


def _context_width(control_net: ControlBase) -> int | None:
    """Width of the text embeddings that a UNet ControlNet reads; None for other kinds."""
    return text_width(_weights(control_net))
