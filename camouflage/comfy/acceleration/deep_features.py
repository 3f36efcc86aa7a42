"""A UNet that can skip its deep levels and is given what stands for them (after DeepCache, arXiv 2312.00858).

The cut is at the outermost level, where a call of SD 1.5 still takes 46 % of the operations. The host's own forward
runs in both cases, over views of the network that share every weight.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, TimestepEmbedSequential, UNetModel, Upsample

from .views import view


class DeepFeatures:
    """Two views of a UNet: one that also keeps the deep features, one that is given them.

    Args:
        unet: of the host, with at least two levels.
    """

    def __init__(self, unet: UNetModel):
        inputs, outputs = list(unet.input_blocks), list(unet.output_blocks)
        self.inputs = next(i for i, block in enumerate(inputs) if isinstance(block[0], Downsample))
        self.outputs = 1 + max(i for i, block in enumerate(outputs) if isinstance(block[-1], Upsample))
        self._keep, self._given = _Keep(), _Given()
        kept = TimestepEmbedSequential(*outputs[self.outputs - 1], self._keep)
        listed = torch.nn.ModuleList
        self._whole = view(unet, output_blocks=listed([*outputs[:self.outputs - 1], kept, *outputs[self.outputs:]]))
        skipped = [TimestepEmbedSequential(_Skip()) for _ in inputs[self.inputs:]]
        passed = [TimestepEmbedSequential(torch.nn.Identity()) for _ in range(self.outputs)]
        self._shallow = view(unet, input_blocks=listed(inputs[:self.inputs] + skipped),
                             middle_block=TimestepEmbedSequential(self._given),
                             output_blocks=listed(passed + outputs[self.outputs:]))

    def whole(self, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The UNet's result and its deep features. Arguments as of ``UNetModel.forward``."""
        result = self._whole.forward(*args)
        deep, self._keep.features = self._keep.features, None
        assert deep is not None
        return result, deep

    def shallow(self, deep: torch.Tensor, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor | None,
                y: torch.Tensor | None, control: dict[str, list] | None, options: dict) -> torch.Tensor:
        """The UNet's result with deep features of an earlier call."""
        self._given.features = deep
        try:
            return self._shallow.forward(x, timesteps, context, y, self._outer(control), options)
        finally:
            self._given.features = None

    def _outer(self, control: dict[str, list] | None) -> dict[str, list] | None:
        """What of a control belongs to the outermost level; the host takes from the end of each list."""
        if control is None:
            return None
        def outer(name: str, values: list) -> list:
            if name == "input":  # the first blocks' stand last
                kept = values[-self.inputs:]
                return [None] * (len(values) - len(kept)) + kept
            kept = values[:-self.outputs] if name == "output" else []
            return kept + [None] * (len(values) - len(kept))

        return {name: outer(name, list(values)) for name, values in control.items()}


class _Keep(torch.nn.Module):
    """Keeps what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.features: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.features = x
        return x


class _Given(torch.nn.Module):
    """Gives the deep features, whatever comes."""

    def __init__(self) -> None:
        super().__init__()
        self.features: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.features is not None
        return self.features


class _Skip(torch.nn.Module):
    """No channels: the host's skip connection then adds none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :0]
