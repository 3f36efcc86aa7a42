"""The two networks that make tokens of a picture: IP-Adapter's projection, and the Plus kind's Resampler.

Written from arXiv 2308.06721 (section 3) and the published layouts, whose names of tensors they have. The layers are
torch's own, or the host's, which run partly offloaded: both are called in the same way.
"""

from __future__ import annotations

from typing import Any

import torch

from .image_prompt import HEAD, ImagePromptLayout, ResamplerLayout


class Projection(torch.nn.Module):
    """One image embedding, B x width, to tokens, B x tokens x context."""

    def __init__(self, layout: ImagePromptLayout, ops: Any = torch.nn, dtype: torch.dtype | None = None):
        super().__init__()
        self.proj = ops.Linear(layout.width, layout.tokens * layout.context, dtype=dtype)
        self.norm = ops.LayerNorm(layout.context, dtype=dtype)

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        """B x width to B x tokens x context."""
        return self.norm(self.proj(embeds).reshape(len(embeds), -1, self.norm.weight.shape[0]))


class Resampler(torch.nn.Module):
    """Hidden states of a picture, B x states x width, to tokens, B x tokens x context.

    ``latents``, one learnt vector a token, look at the states and at each other, ``depth`` times.
    """

    def __init__(self, layout: ImagePromptLayout, r: ResamplerLayout, ops: Any = torch.nn,
                 dtype: torch.dtype | None = None):
        super().__init__()
        self.latents = torch.nn.Parameter(torch.zeros(1, layout.tokens, r.dim, dtype=dtype))
        self.proj_in = ops.Linear(layout.width, r.dim, dtype=dtype)
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleList([_Attention(r, ops, dtype), _forward(r, ops, dtype)]) for _ in range(r.depth))
        self.proj_out = ops.Linear(r.dim, layout.context, dtype=dtype)
        self.norm_out = ops.LayerNorm(layout.context, dtype=dtype)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """B x states x width to B x tokens x context."""
        states = self.proj_in(states)
        tokens = self.latents.to(states).expand(len(states), -1, -1)
        for attention, forward in self.layers:  # type: ignore[misc]
            tokens = tokens + attention(states, tokens)
            tokens = tokens + forward(tokens)
        return self.norm_out(self.proj_out(tokens))


class _Attention(torch.nn.Module):
    """Tokens look at the states and at the tokens."""

    def __init__(self, r: ResamplerLayout, ops: Any, dtype: torch.dtype | None):
        super().__init__()
        self.norm1, self.norm2 = (ops.LayerNorm(r.dim, dtype=dtype) for _ in range(2))
        self.to_q = ops.Linear(r.dim, r.inner, bias=False, dtype=dtype)
        self.to_kv = ops.Linear(r.dim, 2 * r.inner, bias=False, dtype=dtype)
        self.to_out = ops.Linear(r.inner, r.dim, bias=False, dtype=dtype)

    def forward(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.norm2(tokens)
        keys, values = self.to_kv(torch.cat([self.norm1(states), tokens], dim=1)).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (-1, HEAD)).transpose(1, 2) for part in (self.to_q(tokens), keys, values))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).flatten(2))


def _forward(r: ResamplerLayout, ops: Any, dtype: torch.dtype | None) -> torch.nn.Sequential:
    return torch.nn.Sequential(ops.LayerNorm(r.dim, dtype=dtype), ops.Linear(r.dim, r.hidden, bias=False, dtype=dtype),
                               torch.nn.GELU(), ops.Linear(r.hidden, r.dim, bias=False, dtype=dtype))


def projection(layout: ImagePromptLayout, ops: Any = torch.nn, dtype: torch.dtype | None = None) -> torch.nn.Module:
    """The projection of a layout; its state has the published names without ``image_proj.``.

    Args:
        ops: where ``Linear`` and ``LayerNorm`` come from: torch.nn, or the host's comfy.ops.manual_cast.
    """
    if layout.resampler is None:
        return Projection(layout, ops, dtype)
    return Resampler(layout, layout.resampler, ops, dtype)
