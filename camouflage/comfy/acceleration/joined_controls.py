"""Runs of plain ControlNets as one control, with the parts that do not change computed once a sampling.

The host calls a chain of ControlNets one by one. At every model call each compares the noise level on the device with
its range, which waits for the GPU twice, and runs the blocks that embed its hint, which is the same picture every time.
Here the host's own code still does all the arithmetic, in its own order; only the waiting and the repetition go.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeGuard

import comfy.cldm.cldm
import torch
from comfy.controlnet import ControlBase, ControlNet, StrengthType
from comfy.model_patcher import ModelPatcher

from ..light_adapter import LightControl
from ..noise_level import noise_level

_ATTRIBUTES = {*vars(ControlNet()), "control_model_wrapped"}
_GEOMETRIES = 8  # shapes of latents for which hints are kept: regional prompts have several


class JoinedControls(ControlBase):
    """A run of plain ControlNets; equal to the chain that it replaces, to the last bit.

    Attributes:
        members: the ControlNets of the chain, the first applied first; they stay as they are.
    """

    def __init__(self, members: list[ControlNet], previous: ControlBase | None):
        super().__init__()
        self.members = members
        self.set_previous_controlnet(previous)
        self._model: Any = None
        self._ranges: list[tuple[float, float]] = []
        self._chains: dict[tuple, list[ControlNet]] = {}

    def pre_run(self, model: Any, percent_to_timestep_function: Callable[[float], float]) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._model = model
        # In single precision: the host compares with a tensor of it.
        self._ranges = [(_single(percent_to_timestep_function(start)), _single(percent_to_timestep_function(end)))
                        for start, end in (member.timestep_percent_range for member in self.members)]

    def get_control(self, x_noisy: torch.Tensor, t: torch.Tensor, cond: dict, batched_number: int,
                    transformer_options: dict) -> dict[str, list] | None:
        """The host's call. x_noisy: (conds * pictures) x C x h x w, ``batched_number`` conds; t: sigmas."""
        acting = self.acting(noise_level(transformer_options, t))
        chain = self._chain(x_noisy, batched_number)
        control = self.previous_controlnet
        for index in acting:
            control = chain[index].set_previous_controlnet(control)
        return None if control is None else control.get_control(x_noisy, t, cond, batched_number, transformer_options)

    def acting(self, sigma: float) -> tuple[int, ...]:
        """Which members act at this noise level."""
        return tuple(index for index, (first, last) in enumerate(self._ranges) if last <= sigma <= first)

    def get_models(self) -> list[ModelPatcher]:
        return [*super().get_models(), *(member.control_model_wrapped for member in self.members)]

    def cleanup(self) -> None:
        super().cleanup()
        self._chains.clear()

    def _chain(self, x: torch.Tensor, batched_number: int) -> list[ControlNet]:
        """The members for latents like x, with memories of their own: hints are resized once for each shape."""
        key = (x.shape, x.dtype, x.device, batched_number)
        if key not in self._chains:
            if len(self._chains) >= _GEOMETRIES:
                self._chains.clear()
            self._chains[key] = [self._remembering(member) for member in self.members]
        return self._chains[key]

    def _remembering(self, member: ControlNet) -> ControlNet:
        control = member.copy()
        control.control_model = remembering(member.control_model)
        control.pre_run(self._model, lambda percent: percent)
        control.timestep_range = None  # asked in get_control
        return control


class RememberedHint(torch.nn.Module):
    """The blocks that embed a ControlNet's hint, run once for each hint."""

    def __init__(self, blocks: torch.nn.Module):
        super().__init__()
        self.blocks = blocks
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, hint: torch.Tensor, *args: Any) -> torch.Tensor:
        """The embedding, for the same tensor the same one."""
        if self._last is None or self._last[0] is not hint:
            self._last = hint, self.blocks(hint, *args)
        return self._last[1]


def remembering(net: torch.nn.Module) -> torch.nn.Module:
    """A view of a ControlNet's network that shares everything but the blocks that embed the hint."""
    view = copy.copy(net)
    view._modules = {**net._modules, "input_hint_block": RememberedHint(net.get_submodule("input_hint_block"))}
    return view


def join(control: ControlBase | None, joined: dict[int, ControlBase | None]) -> ControlBase | None:
    """The chain that ends with ``control``, with every run of plain ControlNets as one control.

    What is not known stays as it is, with all that stands before it in the chain. Our own Light control is known.

    Args:
        control: of a conditioning.
        joined: what the chains of this sampling became, by id, so that positive and negative go on sharing theirs.
    """
    if control is None:
        return None
    if id(control) in joined:
        return joined[id(control)]
    run: list[ControlNet] = []
    rest: ControlBase | None = control
    while is_plain(rest):
        run.append(rest)
        rest = rest.previous_controlnet
    result: ControlBase | None = control
    if run:
        result = JoinedControls(run[::-1], join(rest, joined))
    elif type(control) is LightControl:
        before = join(control.previous_controlnet, joined)
        if before is not control.previous_controlnet:
            result = control.copy().set_previous_controlnet(before)
    joined[id(control)] = result
    return result


def is_plain(control: Any) -> TypeGuard[ControlNet]:
    """Whether a control is a stock ControlNet of which nothing is unusual."""
    if type(control) is not ControlNet or vars(control).keys() - _ATTRIBUTES:
        return False
    net = control.control_model
    return (type(net) is comfy.cldm.cldm.ControlNet and "forward" not in vars(net)
            and getattr(net, "control_add_embedding", None) is None  # a union
            and control.vae is None and control.latent_format is None and control.extra_hooks is None
            and not (control.extra_args or control.concat_mask or control.extra_concat_orig
                     or control.global_average_pooling or getattr(control, "multigpu_clones", None))
            and control.strength_type is StrengthType.CONSTANT)


def chain_of(control: ControlBase | None) -> list[ControlBase]:
    """A control and all that stand before it."""
    chain = []
    while control is not None:
        chain.append(control)
        control = control.previous_controlnet
    return chain


def _single(number: float) -> float:
    return torch.tensor(number, dtype=torch.float32).item()
