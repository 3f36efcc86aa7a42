"""The Light adapter as a control in the host's chain."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher
from comfy.t2i_adapter.adapter import Adapter

from ..errors import CamouflageError
from ..images import ASPECT_TOLERANCE
from ..method.attribute_map import CHANNELS, SIGNED, AttributeMap, Encoding
from ..method.light_adapter import (
    Layout,
    checked_map,
    crop_features,
    pad_map,
    read_encoding,
    read_layout,
)
from .networks import compute_dtype
from .transformer_options import noise_level
from .weights import checked

_HOST_LEVELS = 4  # of the stock T2I-Adapters, whose lists of features ours is added to entry by entry


class LightAdapter:
    """A loaded adapter: the host's own network, under the host's memory management.

    Attributes:
        layout: levels and widths, from the weights.
        encoding: of the maps that it understands.
        patcher: what the host moves between devices.
    """

    def __init__(self, net: Adapter, layout: Layout, encoding: Encoding, device: torch.device | None = None):
        self.net = net
        self.layout = layout
        self.encoding = encoding
        self.patcher = ModelPatcher(net, load_device=device or mm.get_torch_device(),
                                    offload_device=mm.unet_offload_device())
        self._controls: weakref.WeakValueDictionary[tuple, LightControl] = weakref.WeakValueDictionary()

    def on(self, device: torch.device) -> LightAdapter:
        """The same adapter with weights of its own for another device."""
        return LightAdapter(copy.deepcopy(self.net), self.layout, self.encoding, device)

    def features(self, attribute_map: torch.Tensor) -> list[torch.Tensor]:
        """Features of a map B x 41 x h x w: one a level, finest first, B x C x ceil(h / 2**i) x ceil(w / 2**i)."""
        weight = self.net.conv_in.weight
        control = self.net(pad_map(attribute_map.to(weight.device, weight.dtype), self.layout))["input"]
        return crop_features([f for f in reversed(control) if f is not None], *attribute_map.shape[-2:])

    def control(self, attribute_map: torch.Tensor, strength: float, percents: tuple[float, float],
                previous: ControlBase | None) -> LightControl:
        """A control for the end of the chain ``previous``.

        The same request gets the same control while it lives, so that positive and negative share theirs, as after
        stock ControlNetApplyAdvanced, and the host evaluates both in one batch. The control holds map and chain,
        so their ids cannot be another's.
        """
        key = (id(attribute_map), strength, percents, id(previous))
        control = self._controls.get(key)
        if control is None:
            control = LightControl(self)
            control.set_cond_hint(attribute_map, strength, percents)
            control.set_previous_controlnet(previous)
            self._controls[key] = control
        return control


class LightControl(ControlBase):
    """A map and an adapter in the host's chain of controls.

    Features go to the last input block of each level, after its second residual block: input blocks 2, 5, 8 and 11
    of SD 1.5, where the host's T2I-Adapters and diffusers put them.
    """

    def __init__(self, adapter: LightAdapter):
        super().__init__()
        self.adapter = adapter
        self.compression_ratio = 1
        self._features: tuple[tuple, list[torch.Tensor]] | None = None

    def pre_run(self, model: Any, percent_to_timestep_function: Callable[[float], float]) -> None:
        super().pre_run(model, percent_to_timestep_function)
        config = getattr(getattr(model, "model_config", None), "unet_config", {})
        widths = tuple(config.get("model_channels", 0) * mult for mult in config.get("channel_mult", ()))
        blocks = config.get("num_res_blocks", ())
        blocks = set(blocks if isinstance(blocks, (list, tuple)) else (blocks,))
        if widths != self.adapter.layout.channels or blocks != {2}:
            raise CamouflageError(
                f"The Light adapter steers a UNet of widths {list(self.adapter.layout.channels)} with 2 residual "
                f"blocks a level, but 'model' has {list(widths) or 'no such levels'} with {sorted(blocks) or 'none'}. "
                "Sample with a model of the adapter's family (SD 1.5: [320, 640, 1280, 1280]) or load another adapter.")

    def get_control(self, x_noisy: torch.Tensor, t: torch.Tensor, cond: dict, batched_number: int,
                    transformer_options: dict) -> dict[str, list] | None:
        """The host's call. x_noisy: (conds * pictures) x C x h x w, ``batched_number`` conds; t: sigmas."""
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        first, last = self.timestep_range or (math.inf, -math.inf)
        if not last <= noise_level(transformer_options, t) <= first:
            return previous
        inputs: list[torch.Tensor | None] = []
        for feature in self._at(x_noisy, x_noisy.shape[0] // batched_number):
            # repeat copies: the host multiplies by the strength in place
            inputs = [feature.repeat(x_noisy.shape[0] // feature.shape[0], 1, 1, 1), None, None, *inputs]
        # The host takes from the end of the list, but adds lists from the front: keep the stock adapters' length.
        inputs = [None] * (3 * _HOST_LEVELS - len(inputs)) + inputs
        return self.control_merge({"input": inputs}, previous, x_noisy.dtype)

    def copy(self) -> LightControl:
        control = LightControl(self.adapter)
        self.copy_to(control)
        return control

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> LightControl:
        """A control for another GPU, with weights of its own there (hosts from 0.23 on: MultiGPU CFG Split).

        Args:
            load_device: the other GPU.
            autoregister: whether the host finds the new control through this one's ``multigpu_clones``.
        """
        control = self.copy()
        control.adapter = self.adapter.on(load_device)
        if autoregister:
            self.multigpu_clones[load_device] = control
        return control

    def get_models(self) -> list[ModelPatcher]:
        return [*super().get_models(), self.adapter.patcher]

    def cleanup(self) -> None:
        super().cleanup()
        self._features = None

    def _at(self, x: torch.Tensor, pictures: int) -> list[torch.Tensor]:
        """The map's features for latents like x: computed once a sampling, for every picture of the map."""
        attribute_map = self.cond_hint_original
        if pictures % attribute_map.shape[0]:
            raise CamouflageError(f"'map' has {attribute_map.shape[0]} pictures, but {pictures} are sampled. Give one "
                                  "map for all, or make the latent batch as large as the map's.")
        key = (x.shape[-2:], x.dtype, x.device)
        if self._features is None or self._features[0] != key:
            features = self.adapter.features(_to_latent(attribute_map, *x.shape[-2:]))
            self._features = key, [feature.to(x.device, x.dtype) for feature in features]
        return self._features[1]


def load(path: Path, assumed: Encoding | None = SIGNED) -> LightAdapter:
    """Loads an adapter in diffusers' layout.

    Args:
        path: a .safetensors file.
        assumed: the encoding to take for a file that does not name its own; None refuses such a file.

    Raises:
        CamouflageError: a pickle, a damaged file, another kind of file, another encoding.
    """
    if path.suffix.lower() != ".safetensors":
        raise CamouflageError(f"'adapter' is {path.name}, but only .safetensors files are loaded: others can contain "
                              "code. Convert it with diffusers' save_pretrained and choose the result.")

    def read() -> LightAdapter:
        state, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
        layout = read_layout({key: tuple(tensor.shape) for key, tensor in state.items()}, path.name)
        encoding = read_encoding(metadata, assumed, path.name)
        net = Adapter(list(layout.channels), layout.res_blocks, CHANNELS, ksize=1, sk=True, use_conv=False, xl=False)
        net.unshuffle, net.unshuffle_amount, net.input_channels = torch.nn.Identity(), 1, CHANNELS  # at latent size
        net.load_state_dict({_host_key(key, layout): tensor for key, tensor in state.items()})
        net.conv_in = _as_trained(net.conv_in)
        return LightAdapter(net.eval().requires_grad_(False).to(compute_dtype()), layout, encoding)

    return checked([path], read)


def apply(conditioning: list, adapter: LightAdapter, attribute_map: AttributeMap | torch.Tensor, strength: float,
          start_percent: float = 0.0, end_percent: float = 1.0) -> list:
    """Appends the adapter to every entry's chain of controls.

    Apply it to positive and negative alike, as diffusers' pipelines do; with the same map and settings they share
    the control.

    Args:
        attribute_map: B x 41 x h x w at latent size, B one or a divisor of the pictures sampled; a bare tensor is in
            ``SIGNED``.
        strength: the features are multiplied by it; 0 leaves the conditioning as it is.
        start_percent, end_percent: part of the sampling, 0..1, in which it steers.

    Raises:
        CamouflageError: no map, or one in another encoding than the adapter's.
    """
    maps = checked_map(attribute_map, "map")
    if maps.encoding != adapter.encoding:
        raise CamouflageError(f"'map' is in the encoding {maps.encoding}, but 'light_adapter' was trained on "
                              f"{adapter.encoding}. Connect 'Load Light Adapter' to 'adapter' of 'Attribute Map' too.")
    if strength == 0 or start_percent >= end_percent:
        return conditioning
    result = []
    for embedding, extras in conditioning:
        control = adapter.control(maps.values, strength, (start_percent, end_percent), extras.get("control"))
        result.append([embedding, {**extras, "control": control, "control_apply_to_uncond": False}])
    return result


def _as_trained(conv: torch.nn.Conv2d) -> torch.nn.Conv2d:
    """A 3x3 convolution of which only the middle counts as the 1x1 that it is (the authors'): the same to the bit."""
    middle = conv.weight[:, :, 1:2, 1:2]
    if conv.weight.count_nonzero() != middle.count_nonzero():
        return conv
    single = torch.nn.Conv2d(conv.in_channels, conv.out_channels, 1, dtype=conv.weight.dtype)
    single.load_state_dict({"weight": middle, "bias": conv.bias})
    return single


def _host_key(key: str, layout: Layout) -> str:
    """diffusers' key to the key of the host's ``Adapter``, as its ``load_t2i_adapter`` translates them."""
    part = key.split(".")
    if part[1] != "body":
        return ".".join(part[1:])
    first = int(part[2]) * layout.res_blocks
    return ".".join(["body", str(first + int(part[4])), *part[5:]] if part[3] == "resnets"
                    else ["body", str(first), *part[3:]])


def _to_latent(attribute_map: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The map at another latent size (upscaling passes). Nearest: no cell may mix two persons."""
    h, w = attribute_map.shape[-2:]
    if (h, w) == (height, width):
        return attribute_map
    if abs((w / h) / (width / height) - 1) > ASPECT_TOLERANCE:
        raise CamouflageError(f"'map' is {w} x {h} cells, but the latent (or the area of a regional prompt) is {width} "
                              f"x {height}: another shape, so the map would not lie where the faces are. Connect the "
                              "latent that is sampled to 'Attribute Map', and apply it to a prompt without an area.")
    return torch.nn.functional.interpolate(attribute_map, (height, width), mode="nearest-exact")
