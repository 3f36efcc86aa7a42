"""The self-attention before the first text of a UNet or ControlNet, computed once for all texts of a call.

The host evaluates positive and negative as one batch. Until the first attention to a text both are the same latent at
the same noise level, so the self-attention before it, over all positions of the picture, gives the same numbers twice.
At 768 x 768 px that is 5 % of a pass of SD 1.5's UNet and 15 % of one of a ControlNet. The convolutions before it are
left alone: on a CPU those of one small picture are added up in another order than those of two. With several threads
the CPU may also round equal pictures of one batch differently; then this is the rounding of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock, CrossAttention, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock

from ..transformer_options import SAME_LATENTS
from .views import view


@dataclass(slots=True)
class Batch:
    """What the view is told of the next call: of how many equal parts its batch consists; 1 shares nothing."""

    copies: int = 1


class FirstAttention:
    """A view of a network that shares every weight with it.

    Args:
        network: a UNet or ControlNet of the host.

    Attributes:
        network: the view; the network itself where it begins otherwise than SD's.
        batch: read by the view when it is called.
    """

    def __init__(self, network: Any):
        self.batch = Batch()
        self.network: Any = network
        blocks = list(network.input_blocks)
        self._place = _place(blocks)
        if self._place is not None:
            block = blocks[self._place]
            first, *others = block[-1].transformer_blocks
            first = view(first, attn1=_Once(first.attn1, self.batch))
            last = view(block[-1], transformer_blocks=torch.nn.ModuleList([first, *others]))
            blocks[self._place] = view(block, **{str(len(block) - 1): last})
            self.network = view(network, input_blocks=torch.nn.ModuleList(blocks))

    def copies(self, options: dict, conditionings: int, y: torch.Tensor | None,
               controls: dict[str, list] | None = None) -> int:
        """How many parts of a call's batch are equal until the first text.

        Args:
            options: the call's transformer options.
            conditionings: of the call.
            y: what else decides the embedding of the noise level, one for each picture.
            controls: what is added to a UNet's blocks; the host takes from the end of each list.
        """
        if y is not None or not options.get(SAME_LATENTS):
            return 1
        added = (controls or {}).get("input", [])[-self._place:] if self._place else []
        return 1 if any(value is not None for value in added) else conditionings


def _place(blocks: list) -> int | None:
    """The number of the block that ends with the first attention to a text; None where something is not known."""
    for place, block in enumerate(blocks):
        for layer in block:
            if _is(layer, SpatialTransformer):
                first = layer.transformer_blocks[0]
                known = (_is(first, BasicTransformerBlock) and _is(first.attn1, CrossAttention)
                         and not first.disable_self_attn and not first.ff_in and layer is block[-1])
                hooked = known and any(part._forward_hooks or part._forward_pre_hooks for part in first.attn1.modules())
                return place if known and not hooked else None
            if not isinstance(layer, (ResBlock, torch.nn.Conv2d, Downsample)):
                return None
    return None


class _Once(torch.nn.Module):
    """Computes the first of equal parts and repeats it."""

    def __init__(self, part: torch.nn.Module, batch: Batch):
        super().__init__()
        self.part = part
        self.batch = batch

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        copies = self.batch.copies
        return self.part(x[:len(x) // copies], *args, **kwargs).repeat(copies, 1, 1)


def _is(layer: Any, kind: type) -> bool:
    return type(layer) is kind and "forward" not in vars(layer)
