"""Anonymization guidance as a model patch, so that every sampler and guider of the host can carry it."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher

from ..errors import CamouflageError
from ..method.guidance import anonymize, scale_map
from .acceleration import accelerate
from .control import check_fit
from .transformer_options import IDENTITY_BRANCH, WITHOUT_IDENTITY, noise_level, with_options

_KEY = "camouflage"
_Wrappers = comfy.patcher_extension.WrappersMP


@dataclass(frozen=True, eq=False)
class IdentityGuidance:
    """Guidance away from ``identity``, attached to a MODEL as one ``OUTER_SAMPLE`` wrapper.

    When sampling starts it adds the identity conditioning to the guider's own, so that the host loads, prepares and
    cleans up its ControlNet like any other, and puts a ``PREDICT_NOISE`` wrapper into this run's options. At every
    model call that wrapper lets the guider predict first, then evaluates the identity as the *uncond* branch of a
    call of its own: patches that know only cond and uncond treat it as uncond.

    Attributes:
        identity: the host's CONDITIONING; with an identity ControlNet and an empty prompt it is the paper's.
        scale: a_s; 1 does nothing and evaluates nothing.
        start_percent, end_percent: part of the sampling, 0..1, in which the guidance acts; outside it a_s is 1.
        mask: H x W or B x H x W in picture space; inside a_s, outside 1. None is everywhere.
    """

    identity: list
    scale: float
    start_percent: float = 0.0
    end_percent: float = 1.0
    mask: torch.Tensor | None = None
    key: str = field(default_factory=lambda: f"{_KEY}_identity_{uuid.uuid4().hex}")

    def __deepcopy__(self, memo: dict) -> IdentityGuidance:
        return self

    def attach(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of ``model`` that carries this guidance; the original is not touched."""
        model = accelerate.attach(model.clone())
        model.add_wrapper_with_key(_Wrappers.OUTER_SAMPLE, _KEY, self)
        return model

    def guider(self, model: ModelPatcher, positive: list, negative: list, cfg: float) -> comfy.samplers.CFGGuider:
        """The host's own guider on the patched model."""
        guider = comfy.samplers.CFGGuider(self.attach(model))
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        # Known to the guider from the start, so that hooks (LoRA schedules) on the identity are registered too.
        guider.inner_set_conds({self.key: self._conditioning()})
        return guider

    def __call__(self, executor: Any, noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The ``OUTER_SAMPLE`` wrapper: one call a sampling."""
        guider = executor.class_obj
        conds = guider.conds.pop(self.key, None)
        scales = self._scales(noise.shape)
        if self._neutral(scales):
            return executor(noise, *args, **kwargs)
        if conds is None:
            conds = comfy.sampler_helpers.convert_cond(self._conditioning())
            if any("hooks" in cond for cond in conds):
                raise CamouflageError("The identity conditioning carries hooks (for instance a LoRA schedule), which a "
                                      "patched MODEL cannot register. Use 'CAMOUFLaGE Guider' with "
                                      "SamplerCustomAdvanced instead of 'CAMOUFLaGE Guidance'.")
        guider.conds[self.key] = conds
        check_fit(guider.conds, self.key, noise.shape)
        run = _Run(guider, self, scales)
        comfy.patcher_extension.add_wrapper_with_key(_Wrappers.PREDICT_NOISE, _KEY, run.predict_noise,
                                                     guider.model_options, is_model_options=True)
        return executor(noise, *args, **kwargs)

    def of_pictures(self, rows: Callable[[torch.Tensor], torch.Tensor],
                    conditioning: Callable[[list], list]) -> IdentityGuidance:
        """The same for some of the pictures; ``rows`` and ``conditioning`` take theirs out of tensors with a row a
        picture, and out of a CONDITIONING."""
        mask = self.mask if self.mask is None or self.mask.ndim == 2 else rows(self.mask)
        return replace(self, identity=conditioning(self.identity), mask=mask)

    def _conditioning(self) -> list:
        # The key marks our entries: for a regional prompt the host adds entries of its own to every branch, with the
        # region's controls instead of the identity control, and those would only dilute the identity.
        return node_helpers.conditioning_set_values(self.identity, {"prompt_type": "negative", self.key: True})

    def _scales(self, shape: torch.Size) -> float | torch.Tensor:
        if self.mask is None:
            return self.scale
        if len(shape) not in (4, 5):
            raise CamouflageError(f"The guidance mask cannot be laid over a latent of shape {tuple(shape)}; "
                                  "disconnect 'mask' for this model.")
        masks = self.mask.shape[0] if self.mask.ndim == 3 else 1
        if shape[0] % masks:
            raise CamouflageError(f"'mask' has {masks} masks, but {shape[0]} pictures are sampled. "
                                  "Give one mask for all, or one a picture.")
        return scale_map(self.mask, self.scale, shape)

    def _neutral(self, scales: float | torch.Tensor) -> bool:
        everywhere_one = bool((scales == 1).all()) if isinstance(scales, torch.Tensor) else scales == 1
        return everywhere_one or self.start_percent >= self.end_percent


def scale_of(guider: Any) -> float | None:
    """The anonymization scale of a GUIDER: of the guidance that its model carries, or its own ``anonymization_scale``;
    None where it has neither."""
    carried = _carried(guider)
    return carried[0].scale if carried else getattr(guider, "anonymization_scale", None)


def with_scale(guider: Any, scale: float) -> Any:
    """A copy of a GUIDER with another anonymization scale; the original is not touched."""
    guider = copy.copy(guider)
    carried = _carried(guider)
    if not carried:
        guider.anonymization_scale = scale
        return guider
    model = guider.model_patcher.clone()
    model.remove_wrappers_with_key(_Wrappers.OUTER_SAMPLE, _KEY)
    for guidance in carried:
        model.add_wrapper_with_key(_Wrappers.OUTER_SAMPLE, _KEY, replace(guidance, scale=scale))
    guider.model_patcher, guider.model_options = model, model.model_options
    return guider


def _carried(guider: Any) -> list[IdentityGuidance]:
    model: Any = getattr(guider, "model_patcher", None)
    return list(model.get_wrappers(_Wrappers.OUTER_SAMPLE, _KEY)) if isinstance(model, ModelPatcher) else []


class _Run:
    """One sampling with the guidance on: what is known only once the model is loaded."""

    def __init__(self, guider: comfy.samplers.CFGGuider, guidance: IdentityGuidance, scales: float | torch.Tensor):
        self.guider = guider
        self.guidance = guidance
        self.scales = scales
        self.sigmas: tuple[float, float] | None = None

    def predict_noise(self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, model_options: dict | None = None,
                      seed: int | None = None) -> torch.Tensor:
        """The ``PREDICT_NOISE`` wrapper. x and the result: B x C x h x w; timestep: sigma, B."""
        model_options = {} if model_options is None else model_options
        options = model_options.get("transformer_options", {})
        sigma = noise_level(options, timestep)
        text = executor(x, timestep, model_options, seed)
        key = self.guidance.key
        conds = [c for c in self.guider.conds[key] if key in c
                 and c.get("timestep_end", sigma) <= sigma <= c.get("timestep_start", sigma)]
        if not conds or not self._active(sigma) or options.get(WITHOUT_IDENTITY):
            return text
        marked = with_options(model_options, **{IDENTITY_BRANCH: True})
        _, identity = comfy.samplers.calc_cond_batch(self.guider.inner_model, [None, conds], x, timestep, marked)
        if isinstance(self.scales, torch.Tensor):
            self.scales = self.scales.to(x.device)
        return anonymize(text, identity, self.scales)

    def _active(self, sigma: float) -> bool:
        if self.sigmas is None:
            sampling = self.guider.inner_model.model_sampling
            self.sigmas = (float(sampling.percent_to_sigma(self.guidance.start_percent)),
                           float(sampling.percent_to_sigma(self.guidance.end_percent)))
        return self.sigmas[1] <= sigma <= self.sigmas[0]
