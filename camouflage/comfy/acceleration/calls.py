"""The calls of the UNet: its first attention once for all texts, recorded, or with deep features of the call before."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP, get_all_wrappers

from ..transformer_options import GIVEN, IDENTITY_BRANCH, REUSE, SIGMA
from .deep_features import DeepFeatures
from .first_attention import FirstAttention
from .foreseen import Line
from .graphs import Session, say_once

# Of the transformer options: what the UNet does not read, or what is dealt with apart.
_APART = {"wrappers", "callbacks", "patches", "patches_replace", "sigmas", "sample_sigmas", "uuids", "cond_or_uncond",
          "original_shape", "transformer_index", "block", "activations_shape", SIGMA, REUSE}
_OURS = "camouflage_"
_Named = dict[Hashable, tuple[torch.Tensor, ...]]


class UnetCalls:
    """The ``DIFFUSION_MODEL`` wrapper of one sampling.

    Calls with other packs' patches, wrappers or arguments are left to the host.

    Args:
        unet: of the host.
        session: records calls; None does not.
        deep: whether every second call takes its deep features from the calls before.
    """

    def __init__(self, unet: UNetModel, session: Session | None, deep: bool):
        self.unet = unet
        self.session = session
        self.first = FirstAttention(unet)
        self.deep = DeepFeatures(self.first.network) if deep else None
        self._features: dict[Hashable, Line] = {}

    def __call__(self, executor: Any, x: torch.Tensor, timesteps: torch.Tensor | None = None,
                 context: torch.Tensor | None = None, y: torch.Tensor | None = None,
                 control: dict[str, list] | None = None, transformer_options: dict | None = None,
                 **kwargs: Any) -> torch.Tensor:
        """Arguments as of the host's ``UNetModel.forward``."""
        options = transformer_options or {}
        read = None if kwargs or timesteps is None else _read(options, x)
        if read is None:
            if self.session is not None or self.deep is not None:
                say_once("another node patches the UNet")
            return executor(x, timesteps, context, y, control, options, **kwargs)
        decides, named = read
        conditionings = options.get("cond_or_uncond", ())
        copies = self.first.copies(options, len(conditionings), y, control)
        branch = (tuple(conditionings), options.get(IDENTITY_BRANCH), decides)
        entry = (branch, x.shape, tuple(options.get("uuids", ())))  # which conditionings
        level, line = options.get(SIGMA), self._features.get(entry)
        features = line.at(level)[0] if line is not None and options.get(REUSE) else None
        inputs = _Inputs(self.session)
        *arguments, deep = (inputs.add(tensor) for tensor in (x, timesteps, context, y, features))
        controls = {name: [inputs.add(tensor) for tensor in tensors] for name, tensors in (control or {}).items()}
        options = {**options, "wrappers": _without(options.get("wrappers", {}))}

        def evaluate(changing: Sequence[torch.Tensor], constant: Sequence[torch.Tensor]) -> Any:
            def real(argument: Any) -> Any:
                return changing[argument] if isinstance(argument, int) else argument

            places = iter(constant)
            given = {GIVEN: {name: tuple(next(places) for _ in read) for name, read in named.items()}}
            called = [*map(real, arguments),
                      {name: [real(value) for value in values] for name, values in controls.items()} if control else
                      None, {**options, **given}]
            self.first.batch.copies = copies
            if self.deep is None:
                return self.first.network.forward(*called)
            return self.deep.whole(*called) if features is None else self.deep.shallow(real(deep), *called)

        constant = [tensor for read in named.values() for tensor in read]
        kind = ("unet", branch, copies, self.deep is not None, features is None)
        key = (tuple(map(_known, (*arguments, deep))),
               tuple((name, tuple(map(_known, values))) for name, values in controls.items()))
        result = (evaluate(inputs.changing, constant) if self.session is None else
                  self.session.run([self.unet], kind, key, inputs.changing, constant, evaluate))
        if self.deep is not None and features is None:
            result, new = result
            self._features.setdefault(entry, Line()).add(level, [self._kept(new)])
        return self._kept(result)

    def _kept(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self.session is None else self.session.graphs.kept([tensor])[0]


class _Inputs:
    """Collects what is copied at every call, and stands for it by its number; outputs of recordings stay themselves."""

    def __init__(self, session: Session | None):
        self.session = session
        self.changing: list[torch.Tensor] = []

    def add(self, tensor: torch.Tensor | None) -> Any:
        """A number, or the tensor itself where it needs no copy, or None."""
        if tensor is None or (self.session is not None and self.session.graphs.owns(tensor)):
            return tensor
        self.changing.append(tensor)
        return len(self.changing) - 1


def _known(argument: Any) -> Hashable:
    return ("at", id(argument)) if isinstance(argument, torch.Tensor) else argument


def _read(options: dict, x: torch.Tensor) -> tuple[Hashable, _Named] | None:
    """What of the options decides what the UNet does, and the tensors that patches read; None for foreign things."""
    if len(get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)) > 1 or any(options.get("patches", {}).values()):
        return None
    decides: list[Hashable] = []
    named: _Named = {}
    for place, patches in options.get("patches_replace", {}).items():
        for block, patch in patches.items():
            reads = getattr(patch, "reads", lambda *_: None)(options, x)
            if reads is None:
                return None
            decides.append((place, block, reads[0]))
            named |= reads[1]
    for name, value in options.items():
        if name in _APART or name.startswith(_OURS):
            continue
        if value is not None and not isinstance(value, (bool, int, float, str)):
            return None
        decides.append((name, value))
    return tuple(decides), named


def _without(wrappers: dict) -> dict:
    return {kind: kept for kind, kept in wrappers.items() if kind != WrappersMP.DIFFUSION_MODEL}
