"""The networks of a training, in diffusers, from files in the published layouts; and back again.

A training only loads what it differentiates through: the UNet of an SD 1.5 checkpoint, an IP-Adapter, and the network
that is trained. What VAE and CLIP see in the photos is in the prepared dataset.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from diffusers.models.adapter import T2IAdapter
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import SafetensorError, safe_open

from ..errors import CamouflageError
from ..method import light_adapter
from ..method.attribute_map import CHANNELS
from ..method.image_prompt import ImagePromptLayout, ResamplerLayout, published_numbers, read_layout
from ..method.projections import projection

LATENT_CHANNELS = 4
RES_BLOCKS = 2  # of each level of SD 1.5, and so of its T2I-Adapters
_UNET = "model.diffusion_model."
_HEADS = 8
_TEXT_WIDTH = 768

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class ImagePromptWeights:
    """An IP-Adapter: its layout, and its tensors under their published names."""

    layout: ImagePromptLayout
    state: State


def read(file: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file whose keys begin with ``prefix``, without it.

    Raises:
        CamouflageError: another kind of file (pickles can contain code), or a damaged one.
    """
    if file.suffix.lower() != ".safetensors":
        raise CamouflageError(f"{file} is not a .safetensors file; others can contain code and are not loaded. Use the "
                              "safetensors file, which every published model has.")
    try:
        with safe_open(file, framework="pt") as opened:
            return {key.removeprefix(prefix): opened.get_tensor(key) for key in opened.keys()  # noqa: SIM118
                    if key.startswith(prefix)}
    except (OSError, SafetensorError) as error:
        raise CamouflageError(f"{file} cannot be read ({error}). Is it there, and complete?") from error


def unet_config(state: State, file: str) -> dict[str, Any]:
    """diffusers' configuration of an SD 1.x UNet, from the shapes of its tensors in the original layout.

    The number of levels and where attention stands are read, the widths too; 8 heads and 2 residual blocks a level
    are SD 1.x's.

    Args:
        state: tensors without the prefix ``model.diffusion_model.``.
        file: its name, for the error.

    Raises:
        CamouflageError: it has no UNet, or one of another family (SD 2, SDXL, inpainting).
    """
    first, text = state.get("input_blocks.0.0.weight"), light_adapter.text_width(state)
    if first is None or first.shape[1] != LATENT_CHANNELS or text != _TEXT_WIDTH or "label_emb.0.0.weight" in state:
        found = "no UNet in the original layout" if first is None else (
            f"a UNet of {first.shape[1]} latent channels and text width {text}")
        raise CamouflageError(f"{file} holds {found}; wanted is a checkpoint of the SD 1.5 family (4 latent channels, "
                              f"text width {_TEXT_WIDTH}), such as Realistic Vision V5.1. Choose it with --base-model.")
    widths: list[int] = []
    attention: list[bool] = []
    last = max(int(key.split(".")[1]) for key in state if key.startswith("input_blocks."))
    for block in range(1, last + 1, RES_BLOCKS + 1):
        widths.append(state[f"input_blocks.{block}.0.out_layers.3.weight"].shape[0])
        attention.append(f"input_blocks.{block}.1.norm.weight" in state)
    return {
        "in_channels": LATENT_CHANNELS, "out_channels": LATENT_CHANNELS, "layers_per_block": RES_BLOCKS,
        "block_out_channels": tuple(widths), "cross_attention_dim": text, "attention_head_dim": _HEADS,
        "down_block_types": tuple("CrossAttnDownBlock2D" if there else "DownBlock2D" for there in attention),
        "up_block_types": tuple("CrossAttnUpBlock2D" if there else "UpBlock2D" for there in reversed(attention)),
    }


def load_unet(checkpoint: Path) -> UNet2DConditionModel:
    """The UNet of an SD 1.5 checkpoint, frozen, single precision, on the CPU."""
    state = read(checkpoint, _UNET)
    config = unet_config(state, checkpoint.name)
    unet = UNet2DConditionModel(**config)
    converted = convert_ldm_unet_checkpoint({_UNET + key: value for key, value in state.items()}, dict(unet.config))
    _load(unet, converted, checkpoint)
    return unet.eval().requires_grad_(False)


def convert(net: torch.nn.Module, dtype: torch.dtype) -> None:
    """Brings what is frozen of a network to another precision."""
    for parameter in net.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def new_light_adapter(unet: UNet2DConditionModel, init: Path | None, seed: int) -> T2IAdapter:
    """A Light adapter for a UNet: the weights of a file, or new ones drawn from ``seed``."""
    channels = tuple(unet.config["block_out_channels"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = T2IAdapter(in_channels=CHANNELS, channels=list(channels), num_res_blocks=RES_BLOCKS,
                             downscale_factor=1, adapter_type="full_adapter")
    if init is not None:
        state = read(init)
        layout = light_adapter.read_layout({key: tuple(value.shape) for key, value in state.items()}, init.name)
        if layout != light_adapter.Layout(channels, RES_BLOCKS):
            raise CamouflageError(f"{init.name} is for a UNet of widths {list(layout.channels)}, but the base model "
                                  f"has {list(channels)}. Choose another file in 'init', or another base model.")
        adapter.load_state_dict(state)
    return adapter.float()


def cross_attention(unet: UNet2DConditionModel) -> list[Any]:
    """The UNet's cross-attention layers, in the order of the published IP-Adapters: down, up, middle."""
    return [unet.get_submodule(name.removesuffix(".processor")) for name in unet.attn_processors
            if name.endswith("attn2.processor")]


def read_image_prompt(file: Path) -> ImagePromptWeights:
    """An IP-Adapter in a published layout, plain or Plus."""
    state = read(file)
    return ImagePromptWeights(read_layout({key: tuple(value.shape) for key, value in state.items()}, file.name), state)


def new_image_prompt(unet: UNet2DConditionModel, width: int, queries: int, depth: int, seed: int) -> ImagePromptWeights:
    """One of the Plus kind, as the authors begin: keys and values copied from the UNet's, the Resampler drawn anew.

    Args:
        width: of the hidden states that it reads.
        queries: tokens that it makes of a picture.
        depth: layers of the Resampler. Its widths are the text's, in heads of 64 (IP-Adapter-Plus).
    """
    layers, context = cross_attention(unet), unet.config["cross_attention_dim"]
    layout = ImagePromptLayout(width, context, queries, tuple(layer.to_q.out_features for layer in layers),
                               published_numbers(len(layers)), ResamplerLayout(context, context, depth, 4 * context))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = projection(layout)
        torch.nn.init.normal_(net.get_parameter("latents"), std=context**-0.5)
    state = {f"image_proj.{key}": value for key, value in net.state_dict().items()}
    for number, layer in zip(layout.numbers, layers, strict=True):
        state |= {f"ip_adapter.{number}.{part}_ip.weight": getattr(layer, part).weight.detach().float()
                  for part in ("to_k", "to_v")}
    return ImagePromptWeights(layout, state)


def add_image_prompt(unet: UNet2DConditionModel, prompt: ImagePromptWeights, name: str,
                     scale: float) -> dict[str, torch.nn.Parameter]:
    """Lets the UNet's cross-attention see a picture.

    The UNet then needs ``added_cond_kwargs={"image_embeds": [B x 1 x width, or B x 1 x states x width]}``.

    Args:
        name: of the IP-Adapter, for the error.
        scale: of the image attention beside the text's, 1 as published.

    Returns:
        The IP-Adapter's parameters by their published names; frozen, as all of the UNet.
    """
    layout, widths = prompt.layout, [layer.to_q.out_features for layer in cross_attention(unet)]
    if widths != list(layout.layers):
        raise CamouflageError(f"{name} is for {len(layout.layers)} cross-attention layers of widths "
                              f"{list(layout.layers)}, but the base model has {len(widths)}: {widths}. Choose an "
                              "IP-Adapter of the same family with --image-prompt.")
    net = projection(layout)
    named = {f"image_proj.{key}": parameter for key, parameter in net.named_parameters()}
    processors: dict[str, Any] = {name: AttnProcessor2_0() for name in unet.attn_processors}
    places = [name for name in processors if name.endswith("attn2.processor")]
    for place, width, number in zip(places, widths, layout.numbers, strict=True):
        processors[place] = IPAdapterAttnProcessor2_0(hidden_size=width, cross_attention_dim=layout.context,
                                                      num_tokens=(layout.tokens,), scale=scale)
        named[f"ip_adapter.{number}.to_k_ip.weight"] = processors[place].to_k_ip[0].weight
        named[f"ip_adapter.{number}.to_v_ip.weight"] = processors[place].to_v_ip[0].weight
    with torch.no_grad():
        for key, parameter in named.items():
            parameter.copy_(prompt.state[key])
            parameter.requires_grad_(False)
    unet.set_attn_processor(processors)
    unet.encoder_hid_proj = MultiIPAdapterImageProjection([net])
    unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
    return named


def new_identity(unet: UNet2DConditionModel, init: Path | None, seed: int) -> ControlNetModel:
    """An identity ControlNet with a 4-channel hint: a copy of the UNet's encoder, or the weights of a file.

    The hint's first layers are drawn from ``seed``; the last one and all that lead back into the UNet are zero, so
    that a new one changes nothing (ControlNet, arXiv 2302.05543).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(unet, conditioning_channels=LATENT_CHANNELS)
    if init is not None:
        given, keys = read(init), original_keys(net.state_dict())
        _load(net, {key: given[name] for key, name in keys.items() if name in given}, init)
    return net.float().train().requires_grad_(True)


def original_keys(keys: Iterable[str]) -> dict[str, str]:
    """diffusers' names of a ControlNet's tensors -> those of the original layout, which every loader reads."""
    return {key: "control_model." + _original(key) for key in keys}


_RENAMED = (  # places in diffusers -> in the original layout; numbers are filled in below
    (r"time_embedding\.linear_(\d)", lambda m: f"time_embed.{2 * int(m[1]) - 2}"),
    (r"controlnet_cond_embedding\.conv_in", lambda m: "input_hint_block.0"),
    (r"controlnet_cond_embedding\.blocks\.(\d+)", lambda m: f"input_hint_block.{2 * int(m[1]) + 2}"),
    (r"controlnet_cond_embedding\.conv_out", lambda m: "input_hint_block.14"),
    (r"controlnet_down_blocks\.(\d+)", lambda m: f"zero_convs.{m[1]}.0"),
    (r"controlnet_mid_block", lambda m: "middle_block_out.0"),
    (r"conv_in", lambda m: "input_blocks.0.0"),
    (r"down_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"input_blocks.{_block(m[1], m[2])}.0"),
    (r"down_blocks\.(\d+)\.attentions\.(\d+)", lambda m: f"input_blocks.{_block(m[1], m[2])}.1"),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{_block(m[1], RES_BLOCKS)}.0.op"),
    (r"mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}"),
    (r"mid_block\.attentions\.0", lambda m: "middle_block.1"),
)
_RES_BLOCK = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
              "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def _block(level: str, place: str | int) -> int:
    return 1 + int(level) * (RES_BLOCKS + 1) + int(place)


def _original(key: str) -> str:
    for pattern, name in _RENAMED:
        if match := re.match(pattern + r"\.", key):
            rest = key[match.end():]
            if ".resnets." in key:
                part, end = rest.rsplit(".", 1)
                rest = f"{_RES_BLOCK[part]}.{end}"
            return f"{name(match)}.{rest}"
    raise CamouflageError(f"{key} is not a tensor of a ControlNet for SD 1.5.")


def _load(net: torch.nn.Module, state: State, file: Path) -> None:
    try:
        net.load_state_dict({key: value.float() for key, value in state.items()})
    except (RuntimeError, AttributeError) as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
        raise CamouflageError(f"{file.name} does not have the tensors of an SD 1.5 {type(net).__name__}: "
                              f"{first[:300]}") from error
