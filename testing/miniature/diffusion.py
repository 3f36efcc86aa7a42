"""Stable Diffusion 1.5 in miniature: checkpoint, VAE and ControlNets, in the layouts of the published files.

The UNet keeps SD1.5's widths and loses two of its four levels; the host and diffusers read the number of levels
from the keys. The text encoder has its full size, because both take that for granted. The VAE has the layout of
TAESD: the host builds an AutoencoderKL at full size whatever the weights say, which takes seconds a picture here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from .tensors import State, file_of, generator, random_state, random_tensor

CHANNELS = 320
CHANNEL_MULT = (1, 2)
RES_BLOCKS = 2
LEVEL_DEPTH = (1, 0)
CONTEXT = 768
HEADS = 8
EMBEDDING = 4 * CHANNELS
LATENT = 4
HINT_WIDTHS = (16, 16, 32, 32, 96, 96, 256, CHANNELS)
VAE_SCALE = 0.18215
TEXT_TOKENS, TEXT_POSITIONS, TEXT_LAYERS = 49408, 77, 12

CONTROLNET_ROLES = {
    "depth controlnet": 3,
    "normal controlnet": 3,
    "segmentation controlnet": 3,
    "pose controlnet": 3,
    "lineart controlnet": 3,
    "identity controlnet": 3,
    "identity controlnet (4-channel)": 4,
}
"""Role in the registry -> hint channels."""

_UNET_GAINS = {"model.diffusion_model.out.2": 0.3}
_NOISE_GAIN = 6.5
_CONTROLNET_GAINS = {"zero_convs": 0.3, "middle_block_out": 0.3, "input_hint_block": 2.0}
_VAE_GAINS = {"taesd_encoder.14": 1.5, "taesd_decoder.19": 0.1, "conv.4": 0.4, "weight": 1.4}

Shape = tuple[str, tuple[int, ...]]


def diffusers_configs() -> dict[str, dict]:
    """Arguments of diffusers' ``UNet2DConditionModel`` ("unet") and ``ControlNetModel`` ("controlnet").

    With them diffusers' own converters turn these files into models equal to the host's. diffusers calls the number
    of heads ``attention_head_dim``. A ControlNet's ``conditioning_channels`` stands in ``CONTROLNET_ROLES``.
    """
    common = {
        "in_channels": LATENT,
        "block_out_channels": tuple(CHANNELS * mult for mult in CHANNEL_MULT),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "layers_per_block": RES_BLOCKS,
        "cross_attention_dim": CONTEXT,
        "attention_head_dim": HEADS,
    }
    unet = {"out_channels": LATENT, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    return {"unet": common | unet, "controlnet": dict(common)}


def layer(key: str, *shape: int, bias: bool = True) -> Iterator[Shape]:
    """Weight ``[out, in, ...]`` and bias ``[out]``; a single number is a norm's width."""
    yield f"{key}.weight", shape
    if bias:
        yield f"{key}.bias", shape[:1]


def _res_block(key: str, inner: int, outer: int) -> Iterator[Shape]:
    yield from layer(f"{key}.in_layers.0", inner)
    yield from layer(f"{key}.in_layers.2", outer, inner, 3, 3)
    yield from layer(f"{key}.emb_layers.1", outer, EMBEDDING)
    yield from layer(f"{key}.out_layers.0", outer)
    yield from layer(f"{key}.out_layers.3", outer, outer, 3, 3)
    if inner != outer:
        yield from layer(f"{key}.skip_connection", outer, inner, 1, 1)


def _transformer(key: str, width: int) -> Iterator[Shape]:
    """Spatial transformer with one block; its projections are 1x1 convolutions in SD1.5."""
    yield from layer(f"{key}.norm", width)
    yield from layer(f"{key}.proj_in", width, width, 1, 1)
    block = f"{key}.transformer_blocks.0"
    for attention, context in (("attn1", width), ("attn2", CONTEXT)):
        yield from layer(f"{block}.{attention}.to_q", width, width, bias=False)
        yield from layer(f"{block}.{attention}.to_k", width, context, bias=False)
        yield from layer(f"{block}.{attention}.to_v", width, context, bias=False)
        yield from layer(f"{block}.{attention}.to_out.0", width, width)
    yield from layer(f"{block}.ff.net.0.proj", 8 * width, width)
    yield from layer(f"{block}.ff.net.2", width, 4 * width)
    for norm in ("norm1", "norm2", "norm3"):
        yield from layer(f"{block}.{norm}", width)
    yield from layer(f"{key}.proj_out", width, width, 1, 1)


def _skip_widths() -> list[int]:
    """Width of every input block's output, in order: what the output blocks and the zero-convs see."""
    widths = [CHANNELS]
    for level, mult in enumerate(CHANNEL_MULT):
        down = level + 1 < len(CHANNEL_MULT)
        widths += [CHANNELS * mult] * (RES_BLOCKS + down)
    return widths


def _encoder(prefix: str) -> Iterator[Shape]:
    """Time embedding, input blocks and middle block, which UNet and ControlNet have in common."""
    yield from layer(f"{prefix}time_embed.0", EMBEDDING, CHANNELS)
    yield from layer(f"{prefix}time_embed.2", EMBEDDING, EMBEDDING)
    yield from layer(f"{prefix}input_blocks.0.0", CHANNELS, LATENT, 3, 3)
    width, block = CHANNELS, 1
    for level, mult in enumerate(CHANNEL_MULT):
        for _ in range(RES_BLOCKS):
            yield from _res_block(f"{prefix}input_blocks.{block}.0", width, CHANNELS * mult)
            width = CHANNELS * mult
            if LEVEL_DEPTH[level]:
                yield from _transformer(f"{prefix}input_blocks.{block}.1", width)
            block += 1
        if level + 1 < len(CHANNEL_MULT):
            yield from layer(f"{prefix}input_blocks.{block}.0.op", width, width, 3, 3)
            block += 1
    yield from _res_block(f"{prefix}middle_block.0", width, width)
    yield from _transformer(f"{prefix}middle_block.1", width)
    yield from _res_block(f"{prefix}middle_block.2", width, width)


def unet_shapes(prefix: str = "model.diffusion_model.") -> Iterator[Shape]:
    """Keys and shapes of the UNet in the original (ldm) layout."""
    yield from _encoder(prefix)
    skips = _skip_widths()
    width, block = skips[-1], 0
    for level, mult in reversed(list(enumerate(CHANNEL_MULT))):
        for index in range(RES_BLOCKS + 1):
            key = f"{prefix}output_blocks.{block}"
            yield from _res_block(f"{key}.0", width + skips.pop(), CHANNELS * mult)
            width = CHANNELS * mult
            if LEVEL_DEPTH[level]:
                yield from _transformer(f"{key}.1", width)
            if level and index == RES_BLOCKS:
                yield from layer(f"{key}.{1 + LEVEL_DEPTH[level]}.conv", width, width, 3, 3)
            block += 1
    yield from layer(f"{prefix}out.0", width)
    yield from layer(f"{prefix}out.2", LATENT, width, 3, 3)


def controlnet_shapes(hint_channels: int, prefix: str = "control_model.") -> Iterator[Shape]:
    """Keys and shapes of a ControlNet in the original layout; the hint has ``hint_channels`` at picture size."""
    yield from _encoder(prefix)
    width = hint_channels
    for index, outer in enumerate(HINT_WIDTHS):
        yield from layer(f"{prefix}input_hint_block.{2 * index}", outer, width, 3, 3)
        width = outer
    for index, width in enumerate(_skip_widths()):
        yield from layer(f"{prefix}zero_convs.{index}.0", width, width, 1, 1)
    yield from layer(f"{prefix}middle_block_out.0", width, width, 1, 1)


def clip_layers(prefix: str, width: int, count: int) -> Iterator[Shape]:
    """Keys and shapes of CLIP's transformer layers, in its text and in its image encoder."""
    for index in range(count):
        key = f"{prefix}encoder.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from layer(f"{key}.self_attn.{name}", width, width)
        yield from layer(f"{key}.layer_norm1", width)
        yield from layer(f"{key}.mlp.fc1", 4 * width, width)
        yield from layer(f"{key}.mlp.fc2", width, 4 * width)
        yield from layer(f"{key}.layer_norm2", width)


def text_encoder_shapes(prefix: str = "cond_stage_model.transformer.text_model.") -> Iterator[Shape]:
    """Keys and shapes of CLIP-L's text model at full size."""
    yield f"{prefix}embeddings.token_embedding.weight", (TEXT_TOKENS, CONTEXT)
    yield f"{prefix}embeddings.position_embedding.weight", (TEXT_POSITIONS, CONTEXT)
    yield from clip_layers(prefix, CONTEXT, TEXT_LAYERS)
    yield from layer(f"{prefix}final_layer_norm", CONTEXT)


def vae_shapes(prefix: str = "") -> Iterator[Shape]:
    """Keys and shapes of TAESD: the numbers are places in its ``nn.Sequential``s, ``None`` marks a residual block."""
    width = 64
    blocks = {
        "taesd_encoder": {0: 3, **dict.fromkeys((1, 3, 4, 5, 7, 8, 9, 11, 12, 13))},
        "taesd_decoder": {1: LATENT, **dict.fromkeys((3, 4, 5, 8, 9, 10, 13, 14, 15, 18))},
    }
    resizing = {"taesd_encoder": (2, 6, 10), "taesd_decoder": (7, 12, 17)}
    last = {"taesd_encoder": (14, LATENT), "taesd_decoder": (19, 3)}
    for half, places in blocks.items():
        for place, inner in places.items():
            key = f"{prefix}{half}.{place}"
            if inner is not None:
                yield from layer(key, width, inner, 3, 3)
                continue
            for conv in (0, 2, 4):
                yield from layer(f"{key}.conv.{conv}", width, width, 3, 3)
        for place in resizing[half]:
            yield from layer(f"{prefix}{half}.{place}", width, width, 3, 3, bias=False)
        place, outer = last[half]
        yield from layer(f"{prefix}{half}.{place}", outer, width, 3, 3)


def _vae_state(rng: torch.Generator, prefix: str = "") -> State:
    """A VAE whose latents have SD1.5's scale and whose pictures lie around mid-grey.

    The first layer takes mid-grey off the picture, and the last kernels have mean zero, because what they see is
    never negative: so the latents depend on the picture and its tones stay inside 0..1.
    """
    state = random_state(vae_shapes(prefix), rng, _VAE_GAINS)
    first, last = f"{prefix}taesd_encoder.0", (f"{prefix}taesd_encoder.14", f"{prefix}taesd_decoder.19")
    state[f"{first}.bias"] -= 0.5 * state[f"{first}.weight"].float().sum(dim=(1, 2, 3)).half()
    for key in last:
        kernel = state[f"{key}.weight"].float()
        state[f"{key}.weight"] = (kernel - kernel.mean(dim=1, keepdim=True)).half()
    state[f"{last[1]}.bias"] += 0.5
    state[f"{prefix}vae_scale"] = torch.tensor(VAE_SCALE)
    state[f"{prefix}vae_shift"] = torch.tensor(0.0)
    return state


def _recognise_noise(state: State, prefix: str = "model.diffusion_model.") -> None:
    """Make the UNet find the noise in its input, roughly, so that sampling ends near the scale of real latents.

    The first layer's output reaches the last block through the outermost skip connection. The last layer gets, on
    top of its random kernels, the filter matched to that path. Without it, errors of unit size times the first sigma
    (15) stay in the result, and every picture is saturated.
    """
    first, last = state[f"{prefix}input_blocks.0.0.weight"], state[f"{prefix}out.2.weight"]
    first[:, :, 1, 1] *= 6
    blocks = len(CHANNEL_MULT) * (RES_BLOCKS + 1)
    skip = state[f"{prefix}output_blocks.{blocks - 1}.0.skip_connection.weight"][:, -CHANNELS:, 0, 0]
    path = skip.float() @ first[:, :, 1, 1].float()
    last[:, :, 1, 1] += (_NOISE_GAIN * path / path.square().sum(dim=0)).T.half()


def checkpoint(models: Path, seed: int) -> None:
    """Write the checkpoint: UNet, VAE and text encoder, half precision. The other checkpoint is the same file."""
    path = file_of(models, "checkpoint")
    rng = generator(seed, path)
    state = random_state(unet_shapes(), rng, _UNET_GAINS)
    _recognise_noise(state)
    state |= _vae_state(rng, "first_stage_model.")
    state |= random_state(text_encoder_shapes(), rng)
    save_file(state, path)
    os.link(path, file_of(models, "checkpoint (SD 1.5)"))


def vae(models: Path, seed: int) -> None:
    """Write the separate VAE; its weights differ from the checkpoint's own."""
    path = file_of(models, "vae")
    save_file(_vae_state(generator(seed, path)), path)


def controlnets(models: Path, seed: int) -> None:
    """Write all ControlNets of the registry, each with weights of its own."""
    for role, hint_channels in CONTROLNET_ROLES.items():
        path = file_of(models, role)
        save_file(random_state(controlnet_shapes(hint_channels), generator(seed, path), _CONTROLNET_GAINS), path)


def negative_embedding(models: Path, seed: int) -> None:
    """Write the textual inversion for the negative prompt: eight vectors, single precision."""
    path = file_of(models, "negative embedding")
    save_file({"emb_params": random_tensor("emb_params", (8, CONTEXT), generator(seed, path))}, path)
