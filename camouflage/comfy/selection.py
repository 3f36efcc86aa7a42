"""A part of a batch: a few of its pictures, with everything that a sampling of these alone takes.

The host gives picture i of a batch the row i of each tensor, and begins again at the first row where a tensor has fewer
rows than there are pictures. So row ``i % rows`` belongs to picture i. Taken apart is only what is known here: what has
such rows, and what surely knows nothing of single pictures. Everything else raises :class:`WholeBatch`: then all
pictures must be sampled to be sure of one.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from comfy.controlnet import ControlBase, ControlLora, ControlNet, T2IAdapter
from comfy.model_patcher import ModelPatcher
from comfy.samplers import KSAMPLER, CFGGuider

from .acceleration.accelerate import Acceleration
from .guidance import IdentityGuidance
from .image_prompt import ImagePrompt, Layer, LayerPatch
from .light_adapter import LightControl

_SAMPLES = ("sample", "outer_sample", "inner_sample")  # methods of a guider that see the whole latent
_PARTS = {"model_patcher", "model_options", "original_conds", "conds", "inner_model", "loaded_models"}  # of a guider
_CONTROLS = (ControlNet, ControlLora, T2IAdapter, LightControl)
_MULTIGPU = "multigpu"  # the host's key of models on other GPUs, which have patches of their own
_DIMENSIONS = {"cross_attn": 3, "pooled_output": 2, "mask": 3}  # tensors of a conditioning with a row a picture
_SIMPLE = (type(None), bool, int, float, complex, str, bytes, Enum, uuid.UUID, torch.dtype, torch.device, type,
           torch.no_grad, torch.inference_mode)  # the last two decorate the host's samplers


class WholeBatch(Exception):
    """Something may depend on the whole batch; the text names it."""


class BatchPart:
    """Some pictures of a batch.

    What is shared in the whole batch (a control of positive and negative, an image prompt of all layers) is shared in
    the part, too. Nothing that is handed in is changed.

    Args:
        pictures: their places in the batch, counted from 0, in ascending order.
    """

    def __init__(self, pictures: Sequence[int]):
        self.pictures = list(pictures)
        self._made: dict[int, tuple[Any, Any]] = {}  # by id: what it was made from, which so stays alive, and the part

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """What belongs to these pictures in a tensor n x ...: as many rows as pictures, or one for all."""
        count = len(tensor)
        return tensor if count == 1 else tensor[[picture % count for picture in self.pictures]]

    def latent(self, samples: torch.Tensor) -> torch.Tensor:
        """Of latent samples B x C x h x w.

        Raises:
            WholeBatch: another rank; or empty samples among others: the host shifts only what is not empty.
        """
        if type(samples) is not torch.Tensor or samples.ndim != 4:
            raise WholeBatch("the latent is no batch of still pictures")
        part = self.rows(samples)
        if not part.any() and samples.any():
            raise WholeBatch("empty latents stand beside others")
        return part

    def noise_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Of a latent's ``noise_mask``, whose rows the host counts over all dimensions but the last two."""
        return self.rows(mask.reshape(-1, 1, *mask.shape[-2:]))

    def check_sampler(self, sampler: Any) -> None:
        """Raises WholeBatch unless it is a sampler of the host that was given nothing for single pictures."""
        if type(sampler) is not KSAMPLER or not _plain(vars(sampler)):
            raise WholeBatch(f"the sampler is no plain one of ComfyUI's ({type(sampler).__name__})")

    def guider(self, guider: Any) -> Any:
        """A copy of a guider whose conditionings, controls and model are those of these pictures."""
        kind = type(guider)
        if not isinstance(guider, CFGGuider) or any(getattr(kind, name) is not getattr(CFGGuider, name)
                                                    for name in _SAMPLES):
            raise WholeBatch(f"the guider samples in a way of its own ({kind.__name__})")
        own = {name: value for name, value in vars(guider).items() if name not in _PARTS}
        if any(callable(value) for value in own.values()) or not _plain(own):
            raise WholeBatch(f"the guider holds more than numbers ({kind.__name__})")
        if guider.model_options is not guider.model_patcher.model_options:
            raise WholeBatch("the guider's options are not its model's")
        result = copy.copy(guider)
        result.original_conds = {name: list(map(self._entry, entries))
                                 for name, entries in guider.original_conds.items()}
        result.model_patcher = self._model(guider.model_patcher)
        result.model_options = result.model_patcher.model_options
        return result

    def _model(self, model: ModelPatcher) -> ModelPatcher:
        if model.injections or model.attachments or model.get_additional_models_with_key(_MULTIGPU):
            raise WholeBatch("another node has put something into the model, or samples it on several GPUs")
        if not _plain([one for one in model.object_patches.values() if not isinstance(one, torch.nn.Module)]):
            raise WholeBatch("another node has replaced a part of the model")
        options, wrappers, callbacks = map(self._of, (model.model_options, model.wrappers, model.callbacks))
        model = model.clone()
        model.model_options, model.wrappers, model.callbacks = options, wrappers, callbacks
        return model

    def _conditioning(self, conditioning: list) -> list:
        """Of the host's CONDITIONING."""
        entries = [self._entry({**extras, "cross_attn": embedding}) for embedding, extras in conditioning]
        return [[entry.pop("cross_attn"), entry] for entry in entries]

    def _entry(self, entry: dict) -> dict:
        """Of one entry of a guider's conditioning."""
        mask = entry.get("mask")
        if mask is not None and entry.get("set_area_to_bounds") and mask.ndim == 3 and len(mask) > 1:
            raise WholeBatch("the area of a prompt is that of the masks of all pictures")
        result = {}
        for key, value in entry.items():
            if key == "control":
                result[key] = self._control(value)
            elif isinstance(value, torch.Tensor) and value.ndim == _DIMENSIONS.get(key):
                result[key] = self.rows(value)
            elif key == "mask" and value is not None and value.ndim == 2:  # one for all
                result[key] = value
            else:
                result[key] = self._of(value, f"'{key}' of a conditioning")
        return result

    def _control(self, control: ControlBase | None) -> ControlBase | None:
        """Of a chain of controls; those of which nothing changes stay themselves."""
        if control is None:
            return None
        if id(control) not in self._made:
            self._made[id(control)] = control, self._copied(control)
        return self._made[id(control)][1]

    def _copied(self, control: ControlBase) -> ControlBase:
        hint: torch.Tensor | None = control.cond_hint_original
        known = type(control) in _CONTROLS and (hint is None or hint.ndim == 4) and control.extra_hooks is None
        if not known or not _plain([control.extra_args, control.extra_concat_orig]):
            raise WholeBatch(f"a control is no plain one of ComfyUI's or ours ({type(control).__name__})")
        previous = self._control(control.previous_controlnet)
        if previous is control.previous_controlnet and (hint is None or len(hint) == 1):
            return control
        result = control.copy()
        result.cond_hint_original = None if hint is None else self.rows(hint)
        result.set_previous_controlnet(previous)
        return result

    def _of(self, value: Any, what: str = "a patch of the model") -> Any:
        """Of what a model carries: options, patches, wrappers and callbacks."""
        if id(value) not in self._made:
            self._made[id(value)] = value, self._carried(value, what)
        return self._made[id(value)][1]

    def _carried(self, value: Any, what: str) -> Any:
        if isinstance(value, IdentityGuidance):
            return value.of_pictures(self.rows, self._conditioning)
        if isinstance(value, ImagePrompt):
            return value.of_pictures(self.rows)
        if isinstance(value, LayerPatch):
            return replace(value, prompt=self._of(value.prompt), previous=self._of(value.previous, what),
                           added=self._of(value.added, what))
        if isinstance(value, (Acceleration, Layer)):
            return value
        if type(value) is dict:
            return {key: self._of(one, what) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._of(one, what) for one in value)
        if type(value) is partial:
            return partial(self._of(value.func, what), *self._of(value.args, what), **self._of(value.keywords, what))
        if type(value) is MethodType:
            return getattr(self._of(value.__self__, what), value.__name__)
        if not _plain(value):
            raise WholeBatch(f"{what} is not known here ({getattr(value, '__qualname__', type(value).__name__)})")
        return value


def _plain(value: Any, inside: tuple = ()) -> bool:
    """Whether something surely holds nothing for single pictures: numbers, texts, functions that know only these."""
    if isinstance(value, _SIMPLE) or any(value is one for one in inside):
        return True
    if isinstance(value, torch.Tensor):
        return value.ndim == 0 or len(value) == 1
    held = _held(value)
    return held is not None and all(_plain(one, (*inside, value)) for one in held)


def _held(value: Any) -> Sequence[Any] | None:
    """What a container or a function holds; None for other things, which may hold anything."""
    if type(value) is dict:
        return [*value.keys(), *value.values()]
    if type(value) in (list, tuple, set, frozenset):
        return list(value)
    if type(value) is partial:
        return [value.func, value.args, value.keywords]
    if type(value) is MethodType:
        return [value.__self__]
    if type(value) is not FunctionType:
        return None
    try:
        closure = [cell.cell_contents for cell in value.__closure__ or ()]
    except ValueError:  # a cell that is empty
        return None
    return [*closure, value.__defaults__, value.__kwdefaults__, vars(value)]
