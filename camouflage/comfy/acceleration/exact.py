"""What makes every sampling of ours faster and changes no bit of it: prepared noise and joined controls."""

from __future__ import annotations

from typing import Any

import comfy.patcher_extension
import torch
from comfy.model_patcher import ModelPatcher

from ..noise_level import publish
from .joined_controls import JoinedControls, chain_of, join
from .prepared_noise import PreparedNoise, prepare

KEY = "camouflage_acceleration"
_Wrappers = comfy.patcher_extension.WrappersMP
_MULTIGPU = "multigpu"  # the host's key of models on other GPUs


def attach(model: ModelPatcher) -> ModelPatcher:
    """Lets every sampling of ``model``, which the caller has cloned, be accelerated; more than once does no more."""
    if not model.get_wrappers(_Wrappers.OUTER_SAMPLE, KEY):
        model.add_wrapper_with_key(_Wrappers.OUTER_SAMPLE, KEY, outer_sample)
        model.add_wrapper_with_key(_Wrappers.PREPARE_SAMPLING, KEY, prepare_sampling)
        model.add_wrapper_with_key(_Wrappers.PREDICT_NOISE, KEY, predict_noise)
    return model


def outer_sample(executor: Any, noise: torch.Tensor, latent_image: torch.Tensor, sampler: Any, sigmas: torch.Tensor,
                 *args: Any, **kwargs: Any) -> torch.Tensor:
    """The ``OUTER_SAMPLE`` wrapper: hands the sampler its noise, and frees what was kept for this sampling."""
    guider = executor.class_obj
    seed = args[3] if len(args) > 3 else kwargs.get("seed")
    prepared = prepare(guider, sampler, noise, sigmas, seed)
    try:
        if prepared is None:
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        sampler, values = prepared
        comfy.patcher_extension.add_wrapper_with_key(_Wrappers.SAMPLER_SAMPLE, KEY, _Begin(values),
                                                     guider.model_options, is_model_options=True)
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    finally:
        if prepared is not None:
            prepared[1].close()
        for control in _joined_in(getattr(guider, "conds", {})):  # the host cleans up only after a success
            control.cleanup()


def prepare_sampling(executor: Any, model: ModelPatcher, noise_shape: Any, conds: dict[str, list[dict]],
                     *args: Any, **kwargs: Any) -> Any:
    """The ``PREPARE_SAMPLING`` wrapper: joins controls before the host loads their networks."""
    if not model.get_additional_models_with_key(_MULTIGPU):
        joined: dict = {}
        for entries in conds.values():
            for entry in entries:
                if entry.get("control") is not None:
                    entry["control"] = join(entry["control"], joined)
    return executor(model, noise_shape, conds, *args, **kwargs)


def predict_noise(executor: Any, x: torch.Tensor, timestep: torch.Tensor, model_options: dict | None = None,
                  seed: int | None = None) -> torch.Tensor:
    """The ``PREDICT_NOISE`` wrapper: reads the noise level once, for all that ask for it during this call."""
    return executor(x, timestep, publish(model_options, timestep), seed)


class _Begin:
    """The ``SAMPLER_SAMPLE`` wrapper that tells the prepared noise what is sampled in the end."""

    def __init__(self, values: PreparedNoise):
        self.values = values

    def __call__(self, executor: Any, model_wrap: Any, sigmas: torch.Tensor, extra_args: dict, callback: Any,
                 noise: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.values.begin(noise, sigmas, extra_args.get("seed"))
        return executor(model_wrap, sigmas, extra_args, callback, noise, *args, **kwargs)


def _joined_in(conds: dict[str, list[dict]]) -> list[JoinedControls]:
    heads = (entry.get("control") for entries in conds.values() for entry in entries)
    return [control for head in heads for control in chain_of(head) if isinstance(control, JoinedControls)]
