"""Light in miniature: image encoder, IP-Adapter and the adapter that reads the attribute map."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import save_file

from camouflage.method.attribute_map import ENCODING, ENCODING_VERSION
from camouflage.method.light_adapter import Layout, shapes_of

from .diffusion import CHANNEL_MULT, CHANNELS, CONTEXT, LEVEL_DEPTH, RES_BLOCKS, Shape, clip_layers, layer
from .tensors import State, file_of, generator, random_state

VISION_WIDTH, VISION_LAYERS, VISION_PATCH, VISION_SIZE = 1024, 24, 14, 224
EMBEDDING = 768
TOKENS = 4


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


def attention_widths() -> list[int]:
    """Width of every cross-attention layer of the miniature UNet, in the published order: input, output, middle."""
    levels = [CHANNELS * mult for mult, depth in zip(CHANNEL_MULT, LEVEL_DEPTH, strict=True) if depth]
    down = [width for width in levels for _ in range(RES_BLOCKS)]
    up = [width for width in reversed(levels) for _ in range(RES_BLOCKS + 1)]
    return [*down, *up, CHANNELS * CHANNEL_MULT[-1]]


def ip_adapter_shapes() -> Iterator[Shape]:
    """Keys and shapes of an IP-Adapter in the published layout: the N-th layer has the number 2 N + 1."""
    yield from layer("image_proj.proj", TOKENS * CONTEXT, EMBEDDING)
    yield from layer("image_proj.norm", CONTEXT)
    for place, width in enumerate(attention_widths()):
        yield f"ip_adapter.{2 * place + 1}.to_k_ip.weight", (width, CONTEXT)
        yield f"ip_adapter.{2 * place + 1}.to_v_ip.weight", (width, CONTEXT)


def save_described(state: State, path: Path, metadata: dict[str, str]) -> None:
    """Write tensors with metadata. safetensors writes metadata in an order of chance; here it is sorted."""
    save_file(state, path, metadata)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    described = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    path.write_bytes(content[:8] + described + content[8 + size :])


def light(models: Path, seed: int) -> None:
    """Write image encoder, IP-Adapter and Light adapter, half precision."""
    path = file_of(models, "image encoder")
    save_file(random_state(vision_shapes(), generator(seed, path)), path)
    path = file_of(models, "image prompt")
    save_file(random_state(ip_adapter_shapes(), generator(seed, path)), path)
    path = file_of(models, "light adapter")
    layout = Layout(tuple(CHANNELS * mult for mult in CHANNEL_MULT), RES_BLOCKS)
    save_described(random_state(shapes_of(layout), generator(seed, path), {"": 0.5}), path,
                   {"encoding": ENCODING, "encoding_version": str(ENCODING_VERSION)})
