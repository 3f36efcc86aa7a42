"""Runs of plain ControlNets as one control, with the parts that do not change computed once a sampling.

The host calls a chain of ControlNets one by one. At every model call each compares the noise level on the device with
its range, which waits for the GPU twice, and runs the blocks that embed its hint, which is the same picture every time.
Here the host's own code still does all the arithmetic, in its own order; only the waiting and the repetition go.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import comfy.cldm.cldm
import torch
from comfy.controlnet import ControlBase, ControlNet, StrengthType
from comfy.model_patcher import ModelPatcher

from ..light_adapter import LightControl
from ..transformer_options import REUSE, noise_level
from .first_attention import FirstAttention
from .foreseen import Line
from .graphs import Session, tensors_in
from .views import view

_ATTRIBUTES = {*vars(ControlNet()), "control_model_wrapped"}
_TEXTS = ("c_crossattn", "crossattn_controlnet", "y")  # what a ControlNet reads of a conditioning
_GEOMETRIES = 8  # shapes of latents for which hints are kept: regional prompts have several


class JoinedControls(ControlBase):
    """A run of plain ControlNets; equal to the chain that it replaces, to the last bit.

    Attributes:
        members: the ControlNets of the chain, the first applied first; they stay as they are.
        session: records calls; None does not.
        reuses: whether a call marked ``REUSE`` takes its output from the calls before (fast mode).
        compile_with: arguments of ``torch.compile`` for the networks; None does not compile.
    """

    def __init__(self, members: list[ControlNet], previous: ControlBase | None):
        super().__init__()
        self.members = members
        self.session: Session | None = None
        self.reuses = False
        self.compile_with: dict[str, Any] | None = None
        self.set_previous_controlnet(previous)
        self._model: Any = None
        self._ranges: list[tuple[float, float]] = []
        self._chains: dict[tuple, list[_Member]] = {}
        self._embeddings: dict[int, dict[tuple, torch.Tensor]] = {}
        self._last: dict[tuple, tuple[Line, dict[str, list]]] = {}

    def pre_run(self, model: Any, percent_to_timestep_function: Callable[[float], float]) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._model = model
        # In single precision: the host compares with a tensor of it.
        self._ranges = [(_single(percent_to_timestep_function(start)), _single(percent_to_timestep_function(end)))
                        for start, end in (member.timestep_percent_range for member in self.members)]

    def get_control(self, x_noisy: torch.Tensor, t: torch.Tensor, cond: dict, batched_number: int,
                    transformer_options: dict) -> dict[str, list] | None:
        """The host's call. x_noisy: (conds * pictures) x C x h x w, ``batched_number`` conds; t: sigmas."""
        sigma = noise_level(transformer_options, t)
        acting = tuple(index for index, (first, last) in enumerate(self._ranges) if last <= sigma <= first)
        previous = self.previous_controlnet
        if not acting:
            return previous and previous.get_control(x_noisy, t, cond, batched_number, transformer_options)
        place = (x_noisy.shape, x_noisy.dtype, x_noisy.device, batched_number)
        entry = (place, acting, tuple(transformer_options.get("uuids", ())))  # which conditionings
        known = self._last.get(entry)
        if known is not None and transformer_options.get(REUSE) and previous is None:
            line, control = known
            return _with(control, line.at(sigma))
        chain = self._chain(place)
        members = [chain[index] for index in acting]
        call = (cond, batched_number, transformer_options)
        embedded = [member.embedded(self._embeddings.setdefault(index, {}), x_noisy, t, *call)
                    for index, member in zip(acting, members, strict=True)]
        control = self._evaluate(members, embedded, acting, x_noisy, t, *call)
        tensors = tensors_in(control)
        if self.reuses:
            if self.session is not None:
                tensors = self.session.graphs.kept(tensors)
            line = known[0] if known else Line()
            line.add(sigma, tensors)
            self._last[entry] = line, control
        return _with(control, tensors)

    def get_models(self) -> list[ModelPatcher]:
        return [*super().get_models(), *(member.control_model_wrapped for member in self.members)]

    def cleanup(self) -> None:
        super().cleanup()
        self._chains.clear()
        self._embeddings.clear()
        self._last.clear()

    def _chain(self, place: tuple) -> list[_Member]:
        """The members for latents of one shape, with memories of their own."""
        if place not in self._chains:
            if len(self._chains) >= _GEOMETRIES:
                self._chains.clear()
            self._chains[place] = [_Member(member, self._model, self.compile_with) for member in self.members]
        return self._chains[place]

    def _evaluate(self, members: list[_Member], embedded: list[torch.Tensor], acting: tuple[int, ...],
                  x: torch.Tensor, t: torch.Tensor, cond: dict, batched_number: int, options: dict) -> dict[str, list]:
        """The chain's output, by the host's own code."""
        texts = [name for name in _TEXTS if isinstance(cond.get(name), torch.Tensor)]
        copies = members[0].first.copies(options, batched_number, cond.get("y"))

        def function(changing: Sequence[torch.Tensor], constant: Sequence[torch.Tensor]) -> dict[str, list]:
            control = self.previous_controlnet
            for member, embedding in zip(members, constant, strict=True):
                member.block.embedding, member.first.batch.copies = embedding, copies
                control = member.control.set_previous_controlnet(control)
            given = {**cond, **dict(zip(texts, changing[2:], strict=True))}
            try:
                return control.get_control(changing[0], changing[1], given, batched_number, options)
            finally:
                for member in members:
                    member.block.embedding = None

        changing = [x, t, *(cond[name] for name in texts)]
        if self.session is None or self.previous_controlnet is not None:
            return function(changing, embedded)
        sampling = self._model.model_sampling
        key = (tuple(member.control.strength for member in members), copies, tuple(texts), sampling)
        networks = [self.members[index].control_model for index in acting]
        return self.session.run([*networks, sampling], ("controls", batched_number), key, changing, embedded, function)


class _Member:
    """A copy of a ControlNet for latents of one shape, whose hint is resized and embedded once."""

    def __init__(self, original: ControlNet, model: Any, compile_with: dict[str, Any] | None):
        self.control = original.copy()
        self.control.pre_run(model, lambda percent: percent)
        self.control.timestep_range = None  # asked by JoinedControls
        self.first, self.block, self._view = _view(original.control_model, compile_with)
        self._embedding: torch.Tensor | None = None

    def embedded(self, known: dict[tuple, torch.Tensor], x: torch.Tensor, t: torch.Tensor, cond: dict,
                 batched_number: int, options: dict) -> torch.Tensor:
        """The embedding of the hint, as the host prepares it for a call with these arguments.

        Args:
            known: embeddings of the same hint by its shape, for latents of all shapes.
        """
        embedding = self._embedding
        if embedding is None:
            probe = _Probe(self._view.dtype)
            self.control.control_model = probe
            self.control.set_previous_controlnet(None).get_control(x, t, cond, batched_number, options)
            self.control.control_model = self._view
            hint = probe.hint
            place = (hint.shape, hint.dtype, hint.device)
            if place not in known:
                known[place] = self.block.blocks(hint, None, None)
            embedding = self._embedding = known[place]
        return embedding


_compiled: weakref.WeakKeyDictionary[torch.nn.Module, dict[str, tuple]] = weakref.WeakKeyDictionary()


def _view(net: Any, compile_with: dict[str, Any] | None) -> tuple[FirstAttention, _Embedded, Any]:
    """A network that shares all weights, with what stands in it for its first attention and for the blocks that embed
    its hint; compiled once."""
    known = _compiled.setdefault(net, {}) if compile_with is not None else {}
    if repr(compile_with) not in known:
        first, block = FirstAttention(net), _Embedded(net.input_hint_block)
        network = view(first.network, input_hint_block=block)
        if compile_with is not None:
            network = torch.compile(network, **compile_with)
        known[repr(compile_with)] = first, block, network
    return known[repr(compile_with)]


class _Probe:
    """In the place of a network: notes the hint that the host has prepared for it."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.hint: Any = None

    def __call__(self, *, hint: torch.Tensor, **_: Any) -> dict[str, list]:
        self.hint = hint
        return {"middle": [], "output": []}


class _Embedded(torch.nn.Module):
    """In the place of the blocks that embed a hint: its embedding."""

    def __init__(self, blocks: torch.nn.Module):
        super().__init__()
        self.blocks = blocks
        self.embedding: torch.Tensor | None = None

    def forward(self, hint: torch.Tensor, *_: Any) -> torch.Tensor:
        """The embedding, whatever the hint."""
        assert self.embedding is not None
        return self.embedding


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


def _with(control: dict[str, list], tensors: Sequence[torch.Tensor]) -> dict[str, list]:
    """A control's output with other tensors, in lists of their own: the UNet takes from them."""
    others = iter(tensors)
    return {name: [None if value is None else next(others) for value in values] for name, values in control.items()}


def is_plain(control: Any) -> TypeGuard[ControlNet]:
    """Whether a control is a stock ControlNet of which nothing is unusual."""
    if type(control) is not ControlNet or vars(control).keys() - _ATTRIBUTES:
        return False
    net = control.control_model
    return (type(net) is comfy.cldm.cldm.ControlNet and "forward" not in vars(net)
            and getattr(net, "control_add_embedding", None) is None  # a union
            and all(isinstance(layer, (torch.nn.Conv2d, torch.nn.SiLU)) for layer in net.input_hint_block)
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
