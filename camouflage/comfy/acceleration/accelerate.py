"""What makes a sampling faster, attached to a MODEL.

Without any node every sampling of ours gets its noise prepared and its ControlNets joined, which changes no bit of the
result. The node *Accelerate* adds recorded calls (CUDA graphs) and, if asked for, shortcuts that change the result a
little.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher

from ...method.shortcuts import Shortcuts
from ..transformer_options import REUSE, SAME_LATENTS, WITHOUT_IDENTITY, noise_level, publish, with_options
from . import graphs
from .calls import UnetCalls
from .joined_controls import JoinedControls, chain_of, join
from .prepared_noise import PreparedNoise, prepare

KEY = "camouflage_acceleration"
_RUN = f"{KEY}_run"
_Wrappers = comfy.patcher_extension.WrappersMP
_MULTIGPU = "multigpu"  # the host's key of models on other GPUs
_SCENE = ("positive", "negative")  # the host's names; what guidance moves away from is never reused
_COMPILE = "torch_compile_kwargs"  # the host's key of how its node compiles the model


@dataclass(frozen=True, eq=False)
class Acceleration:
    """How a MODEL is sampled, as its ``OUTER_SAMPLE`` wrapper.

    Attributes:
        graphs: calls are recorded and played back where that is possible.
        shortcuts: what is left out; None changes no bit.
    """

    graphs: bool = False
    shortcuts: Shortcuts | None = None

    def __deepcopy__(self, memo: dict) -> Acceleration:
        return self

    def __call__(self, executor: Any, noise: torch.Tensor, latent_image: torch.Tensor, sampler: Any,
                 sigmas: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The wrapper: one call a sampling."""
        guider = executor.class_obj
        prepared = prepare(guider, sampler, noise, sigmas, args[3] if len(args) > 3 else kwargs.get("seed"))
        run = _Run(self, guider, prepared[1] if prepared else None)
        run.add_wrappers()
        try:
            return executor(noise, latent_image, prepared[0] if prepared else sampler, sigmas, *args, **kwargs)
        finally:
            run.end()


def attach(model: ModelPatcher, acceleration: Acceleration | None = None) -> ModelPatcher:
    """Lets every sampling of ``model`` be accelerated.

    Args:
        model: a clone that the caller made.
        acceleration: takes the place of what stands there; None leaves that, and is the neutral one where there is
            none.
    """
    present = model.get_wrappers(_Wrappers.OUTER_SAMPLE, KEY)
    if present and acceleration is None:
        return model
    model.remove_wrappers_with_key(_Wrappers.OUTER_SAMPLE, KEY)
    model.add_wrapper_with_key(_Wrappers.OUTER_SAMPLE, KEY, acceleration or Acceleration())
    if not present:
        model.add_wrapper_with_key(_Wrappers.PREDICT_NOISE, KEY, _predict_noise)
        model.add_callback_with_key(comfy.patcher_extension.CallbacksMP.ON_DETACH, KEY, _detached)
    return model


def accelerated(guider: Any) -> Any:
    """A GUIDER whose samplings are accelerated as without any node: a copy, or the guider itself where it is so
    already, or where its model is not simply that of the host's guiders."""
    model: Any = getattr(guider, "model_patcher", None)
    if (not isinstance(model, ModelPatcher) or getattr(guider, "model_options", None) is not model.model_options
            or model.get_wrappers(_Wrappers.OUTER_SAMPLE, KEY)):
        return guider
    guider, model = copy.copy(guider), attach(model.clone())
    guider.model_patcher, guider.model_options = model, model.model_options
    return guider


def _predict_noise(executor: Any, x: torch.Tensor, timestep: torch.Tensor, model_options: dict | None = None,
                   seed: int | None = None) -> torch.Tensor:
    """The ``PREDICT_NOISE`` wrapper: reads the noise level once, for all that ask for it during this call."""
    return executor(x, timestep, publish(model_options, timestep), seed)


def _detached(model: ModelPatcher, unpatch_all: bool = True) -> None:
    """The host's call when it unloads a model; without ``unpatch_all`` another copy of it takes its place."""
    if unpatch_all:
        graphs.free(model.model)


class _Run:
    """One sampling."""

    def __init__(self, acceleration: Acceleration, guider: Any, noise: PreparedNoise | None):
        self.graphs, self.shortcuts = acceleration.graphs, acceleration.shortcuts
        self.guider = guider
        self.noise = noise
        self.session: graphs.Session | None = None
        self._calls = 0
        self._ends: tuple[float, float] | None = None

    def add_wrappers(self) -> None:
        """Adds what acts during this sampling to the guider's options, which last no longer."""
        self._add(_Wrappers.PREPARE_SAMPLING, self.prepare_sampling)
        self._add(_Wrappers.CALC_COND_BATCH, self.calc_cond_batch)
        if self.noise is not None:
            self._add(_Wrappers.SAMPLER_SAMPLE, self.sampler_sample)
        if self.shortcuts is not None:
            self._add(_Wrappers.PREDICT_NOISE, self.predict_noise)

    def prepare_sampling(self, executor: Any, model: ModelPatcher, noise_shape: Any, conds: dict[str, list[dict]],
                         *args: Any, **kwargs: Any) -> Any:
        """The ``PREPARE_SAMPLING`` wrapper: joins controls before the host loads their networks."""
        if model.get_additional_models_with_key(_MULTIGPU) or "context_handler" in self.guider.model_options:
            return executor(model, noise_shape, conds, *args, **kwargs)
        joined: dict = {}
        for entries in conds.values():
            for entry in entries:
                if entry.get("control") is not None:
                    entry["control"] = join(entry["control"], joined)
        result = executor(model, noise_shape, conds, *args, **kwargs)
        self._start_calls(model, conds)
        return result

    def sampler_sample(self, executor: Any, model_wrap: Any, sigmas: torch.Tensor, extra_args: dict, callback: Any,
                       noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The ``SAMPLER_SAMPLE`` wrapper: tells the prepared noise what is sampled in the end."""
        if self.noise is not None:
            self.noise.begin(noise, sigmas, extra_args.get("seed"))
        return executor(model_wrap, sigmas, extra_args, callback, noise, *args, **kwargs)

    def predict_noise(self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, model_options: dict | None = None,
                      seed: int | None = None) -> torch.Tensor:
        """The ``PREDICT_NOISE`` wrapper of fast mode: says what this call leaves out."""
        shortcuts = self.shortcuts
        if shortcuts is None:
            return executor(x, timestep, model_options, seed)
        model_options = model_options or {}
        if self._ends is None:
            to_sigma = self.guider.inner_model.model_sampling.percent_to_sigma
            self._ends = to_sigma(shortcuts.identity_until), to_sigma(shortcuts.negative_until)
        sigma = noise_level(model_options.get("transformer_options", {}), timestep)
        identity, negative = (sigma >= end for end in self._ends)
        model_options = with_options(model_options, **{REUSE: shortcuts.reuses(self._calls),
                                                       WITHOUT_IDENTITY: not identity})
        if not negative:
            model_options.setdefault("sampler_calc_cond_batch_function", _positive_alone)
        self._calls += 1
        return executor(x, timestep, model_options, seed)

    def calc_cond_batch(self, executor: Any, model: Any, conds: list[list[dict] | None], x_in: torch.Tensor,
                        timestep: torch.Tensor, model_options: dict) -> list[torch.Tensor]:
        """The ``CALC_COND_BATCH`` wrapper: says where the host itself makes a batch of the same latents."""
        whole = not any("area" in entry for entries in conds for entry in entries or ())
        batching = comfy.patcher_extension.get_all_wrappers(_Wrappers.CALC_COND_BATCH, model_options,
                                                            is_model_options=True)
        if whole and len(batching) == 1 and "model_function_wrapper" not in model_options:
            model_options = with_options(model_options, **{SAME_LATENTS: True})
        return executor(model, conds, x_in, timestep, model_options)

    def end(self) -> None:
        """Frees what was kept for this sampling; the host does so only after a success."""
        if self.noise is not None:
            self.noise.close()
        if self.session is not None:
            self.session.graphs.end()
        for control in self._joined(getattr(self.guider, "conds", {})):
            control.cleanup()

    def _start_calls(self, model: ModelPatcher, conds: dict[str, list[dict]]) -> None:
        """Once the networks are loaded: lets their calls be recorded, or take something from the call before."""
        unet = model.get_model_object("diffusion_model")
        reasons = {"a LoRA or another hook changes the weights": any("hooks" in entry for entries in conds.values()
                                                                     for entry in entries),
                   "the model is compiled, or called by another node": bool(comfy.patcher_extension.get_all_wrappers(
                       _Wrappers.APPLY_MODEL, self.guider.model_options, is_model_options=True)),
                   "another kind of model": type(unet) is not UNetModel}
        for reason, holds in reasons.items():
            if holds and (self.graphs or self.shortcuts):
                graphs.say_once(reason)
        if any(reasons.values()):
            compiled = self.guider.model_options.get(_COMPILE) if self.graphs else None
            for control in self._joined(conds):
                control.compile_with = compiled
            return
        recorded = graphs.graphs_of(model.model, model.load_device) if self.graphs else None
        self.session = None if recorded is None else graphs.Session(recorded, model.load_device)
        shortcuts = self.shortcuts
        for control in self._joined(conds):
            control.session = self.session
        for control in self._joined({name: conds.get(name, []) for name in _SCENE}):
            control.reuses = shortcuts is not None and shortcuts.reuse_scene
        deep = shortcuts is not None and shortcuts.reuse_deep
        self._add(_Wrappers.DIFFUSION_MODEL, UnetCalls(unet, self.session, deep))

    def _joined(self, conds: dict[str, list[dict]]) -> list[JoinedControls]:
        heads = (entry.get("control") for entries in conds.values() for entry in entries)
        return [control for head in heads for control in chain_of(head) if isinstance(control, JoinedControls)]

    def _add(self, kind: str, wrapper: Any) -> None:
        comfy.patcher_extension.add_wrapper_with_key(kind, _RUN, wrapper, self.guider.model_options,
                                                     is_model_options=True)


def _positive_alone(args: dict) -> list[torch.Tensor]:
    """The host's ``sampler_calc_cond_batch_function``: the negative is not evaluated, and so has no effect."""
    positive, _ = comfy.samplers.calc_cond_batch(args["model"], [args["conds"][0], None], args["input"], args["sigma"],
                                                 args["model_options"])
    return [positive, positive]
