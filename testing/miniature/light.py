"""Light in miniature: image encoders, IP-Adapters and the adapter that reads the attribute map."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from camouflage import weights
from camouflage.method.attribute_map import PROBABILITIES
from camouflage.method.image_prompt import ImagePromptLayout, ResamplerLayout, published_numbers, shapes_of
from camouflage.method.light_adapter import Layout
from camouflage.method.light_adapter import shapes_of as adapter_shapes

from .diffusion import CHANNEL_MULT, CHANNELS, CONTEXT, LEVEL_DEPTH, RES_BLOCKS, Shape, clip_layers, layer
from .tensors import State, file_of, generator, random_state

VISION_WIDTH, VISION_LAYERS, VISION_PATCH, VISION_SIZE = 1024, 24, 14, 224
EMBEDDING = 768
TOKENS, QUERIES = 4, 16
FARL_WIDTH, FARL_LAYERS, FARL_PATCH, FARL_EMBEDDING = 768, 2, 16, 512  # 12 layers in the published file


def vision_shapes() -> Iterator[Shape]:
    """Keys and shapes of CLIP-L's image encoder, the smallest that the host knows. (The published one is CLIP-H.)"""
    prefix = "vision_model."
    yield f"{prefix}embeddings.class_embedding", (VISION_WIDTH,)
    yield f"{prefix}embeddings.patch_embedding.weight", (VISION_WIDTH, 3, VISION_PATCH, VISION_PATCH)
    yield f"{prefix}embeddings.position_embedding.weight", ((VISION_SIZE // VISION_PATCH) ** 2 + 1, VISION_WIDTH)
    yield from layer(f"{prefix}pre_layrnorm", VISION_WIDTH)
    yield from clip_layers(prefix, VISION_WIDTH, VISION_LAYERS)
    yield from layer(f"{prefix}post_layernorm", VISION_WIDTH)
    yield from layer("visual_projection", EMBEDDING, VISION_WIDTH, bias=False)


def farl_shapes() -> Iterator[Shape]:
    """Keys and shapes of FaRL's image encoder in the layout of OpenAI's CLIP, at full width."""
    width, prefix = FARL_WIDTH, "visual."
    yield f"{prefix}class_embedding", (width,)
    yield f"{prefix}positional_embedding", ((VISION_SIZE // FARL_PATCH) ** 2 + 1, width)
    yield f"{prefix}proj", (width, FARL_EMBEDDING)
    yield f"{prefix}conv1.weight", (width, 3, FARL_PATCH, FARL_PATCH)
    yield from layer(f"{prefix}ln_pre", width)
    for index in range(FARL_LAYERS):
        key = f"{prefix}transformer.resblocks.{index}"
        yield f"{key}.attn.in_proj_weight", (3 * width, width)
        yield f"{key}.attn.in_proj_bias", (3 * width,)
        yield from layer(f"{key}.attn.out_proj", width, width)
        yield from layer(f"{key}.ln_1", width)
        yield from layer(f"{key}.mlp.c_fc", 4 * width, width)
        yield from layer(f"{key}.mlp.c_proj", width, 4 * width)
        yield from layer(f"{key}.ln_2", width)
    yield from layer(f"{prefix}ln_post", width)


def attention_widths() -> list[int]:
    """Width of every cross-attention layer of the miniature UNet, in the published order: input, output, middle."""
    levels = [CHANNELS * mult for mult, depth in zip(CHANNEL_MULT, LEVEL_DEPTH, strict=True) if depth]
    down = [width for width in levels for _ in range(RES_BLOCKS)]
    up = [width for width in reversed(levels) for _ in range(RES_BLOCKS + 1)]
    return [*down, *up, CHANNELS * CHANNEL_MULT[-1]]


def image_prompt_layout(width: int, plus: bool) -> ImagePromptLayout:
    """Of an IP-Adapter for the miniature UNet: plain, for embeddings of a width, or Plus, of one layer, for states."""
    layers = tuple(attention_widths())
    resampler = ResamplerLayout(CONTEXT, CONTEXT, 1, 4 * CONTEXT) if plus else None
    numbers = published_numbers(len(layers))
    return ImagePromptLayout(width, CONTEXT, QUERIES if plus else TOKENS, layers, numbers, resampler)


def save_described(state: State, path: Path, metadata: dict[str, str]) -> None:
    """Write tensors with metadata. safetensors writes metadata in an order of chance; here it is sorted."""
    save_file(state, path, metadata)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    described = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    path.write_bytes(content[:8] + described + content[8 + size :])


def light(models: Path, seed: int) -> None:
    """Write image encoders, IP-Adapters and Light adapter, half precision."""
    path = file_of(models, "image encoder")
    save_file(random_state(vision_shapes(), generator(seed, path)), path)
    path = file_of(models, "face encoder")
    torch.save({"state_dict": random_state(farl_shapes(), generator(seed, path))}, path)
    for role, width in (("image prompt", EMBEDDING), ("image prompt (Plus)", VISION_WIDTH),
                        ("image prompt (trained)", FARL_WIDTH)):
        path = file_of(models, role)
        state = random_state(shapes_of(image_prompt_layout(width, role != "image prompt")), generator(seed, path))
        save_described(state, path, {"image_encoder": weights.FARL} if "trained" in role else {})
    path = file_of(models, "light adapter")
    layout = Layout(tuple(CHANNELS * mult for mult in CHANNEL_MULT), RES_BLOCKS)
    save_described(random_state(adapter_shapes(layout), generator(seed, path), {"": 0.5}), path,
                   PROBABILITIES.metadata)
