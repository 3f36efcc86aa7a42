"""Seeded miniature weights of Light's two adapters, in the published layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

SIGNED = {"encoding": "camouflage-signed", "encoding_version": "1"}
UNET = (32, 64)  # widths of the levels of the UNet that tests sample with (narrow)
LAYERS = (32,) * 5 + (64,)  # widths of its cross-attention layers: two in, three out, one in the middle
MINIATURE, MINIATURE_LAYERS = (320, 640), (320,) * 5 + (640,)  # the same of the UNet of the miniature files
SD15_LAYERS = (320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320, 1280)
EMBEDDING = 64


def t2i_adapter(channels: Sequence[int] = UNET, in_channels: int = 41, kind: str = "full_adapter", factor: int = 1,
                seed: int = 0) -> torch.nn.Module:
    """diffusers' own T2I-Adapter with seeded weights, single precision."""
    from diffusers import T2IAdapter

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = T2IAdapter(in_channels=in_channels, channels=list(channels), num_res_blocks=2, downscale_factor=factor,
                         adapter_type=kind)
    return net.eval().requires_grad_(False)


def save(state: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Writes a safetensors file and returns its path."""
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    return path


def ip_adapter(layers: Sequence[int] = LAYERS, embedding: int = EMBEDDING, context: int = 768, tokens: int = 4,
               seed: int = 0) -> dict[str, torch.Tensor]:
    """State of an IP-Adapter in the published layout; the N-th layer has number 2 N + 1."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) / columns**0.5

    state = {"image_proj.proj.weight": matrix(tokens * context, embedding),
             "image_proj.proj.bias": torch.randn(tokens * context, generator=generator) * 0.1,
             "image_proj.norm.weight": 1 + 0.1 * torch.randn(context, generator=generator),
             "image_proj.norm.bias": 0.1 * torch.randn(context, generator=generator)}
    for place, width in enumerate(layers):
        for part in ("to_k", "to_v"):
            state[f"ip_adapter.{2 * place + 1}.{part}_ip.weight"] = matrix(width, context)
    return state


def plus_adapter(layers: Sequence[int] = LAYERS, width: int = EMBEDDING, context: int = 768, tokens: int = 16,
                 dim: int = 768, heads: int = 12, depth: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    """State of an IP-Adapter of the Plus kind in the published layout, written out here a second time."""
    generator = torch.Generator().manual_seed(seed)
    inner, hidden = 64 * heads, 4 * dim
    shapes: dict[str, tuple[int, ...]] = {"latents": (1, tokens, dim)}
    for key, out, into in (("proj_in", dim, width), ("proj_out", context, dim)):
        shapes |= {f"{key}.weight": (out, into), f"{key}.bias": (out,)}
    norms = {"norm_out": context}
    for n in range(depth):
        shapes |= {f"layers.{n}.0.to_q.weight": (inner, dim), f"layers.{n}.0.to_kv.weight": (2 * inner, dim),
                   f"layers.{n}.0.to_out.weight": (dim, inner), f"layers.{n}.1.1.weight": (hidden, dim),
                   f"layers.{n}.1.3.weight": (dim, hidden)}
        norms |= {f"layers.{n}.0.norm1": dim, f"layers.{n}.0.norm2": dim, f"layers.{n}.1.0": dim}
    shapes |= {f"{key}.{part}": (size,) for key, size in norms.items() for part in ("weight", "bias")}
    state = {}
    for key, shape in sorted(shapes.items()):
        drawn = torch.randn(shape, generator=generator)
        norm = len(shape) == 1 and key.endswith("weight")
        state[f"image_proj.{key}"] = 1 + 0.1 * drawn if norm else drawn * (0.1 if len(shape) == 1 else shape[-1]**-0.5)
    plain = ip_adapter(layers, 8, context, seed=seed)
    return state | {key: value for key, value in plain.items() if key.startswith("ip_adapter.")}


def seen(seed: int, batch: int = 1, width: int = EMBEDDING, states: int = 5) -> Any:
    """CLIP_VISION_OUTPUT of random pictures; ``states`` hidden states each, which adapters of the Plus kind read."""
    import comfy.clip_vision

    generator, output = torch.Generator().manual_seed(seed), comfy.clip_vision.Output()
    output["image_embeds"] = torch.randn(batch, width, generator=generator)
    output["penultimate_hidden_states"] = torch.randn(batch, states, width, generator=generator)
    return output


def patches(model: Any) -> dict[tuple, Any]:
    """What replaces cross-attention in a MODEL, by the host's keys."""
    return model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})


def random_map(seed: int, batch: int = 1, height: int = 16, width: int = 16) -> torch.Tensor:
    """A map of two persons and nothing known around them, B x 41 x h x w in -1..1."""
    generator = torch.Generator().manual_seed(seed)
    result = torch.zeros(batch, 41, height, width)
    for left in (1, width // 2):
        result[:, :, 2:height // 2, left:left + 4] = torch.rand(batch, 41, 1, 1, generator=generator) * 2 - 1
    return result


def difference_of_states(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference of two sets of tensors with the same names."""
    assert a.keys() == b.keys() and a
    return max(float((a[key] - b[key]).abs().max()) for key in a)
