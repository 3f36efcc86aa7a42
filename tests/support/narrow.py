"""The miniature Stable Diffusion with a tenth of its channels, made in memory: for tests that only sample.

Seeded, of the same topology and layout, and loaded by the host's own functions, which take any width once they are
told of it. A model call takes a fraction of the files' time; everything else is as with the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from in_host import NETS
from light_weights import UNET
from testing.miniature import diffusion
from testing.miniature.tensors import State, random_state

CHANNELS = UNET[0]  # of the outermost level: a norm has 32 groups
SEED = 1


@contextmanager
def _widths() -> Iterator[None]:
    """The miniature's layout with fewer channels."""
    with mock.patch.multiple(diffusion, CHANNELS=CHANNELS, EMBEDDING=4 * CHANNELS,
                             HINT_WIDTHS=(*diffusion.HINT_WIDTHS[:-1], CHANNELS)):
        yield


def unet_state() -> State:
    """Of a UNet in a checkpoint's layout."""
    with _widths():
        state = random_state(diffusion.unet_shapes(), torch.Generator().manual_seed(SEED), diffusion._UNET_GAINS)
        diffusion._recognise_noise(state)
    return {key: value.float() for key, value in state.items()}


def controlnet_state(seed: int, hint_channels: int) -> State:
    """Of a ControlNet whose outputs are not zero."""
    with _widths():
        state = random_state(diffusion.controlnet_shapes(hint_channels), torch.Generator().manual_seed(seed),
                             diffusion._CONTROLNET_GAINS)
    return {key: value.float() for key, value in state.items()}


def networks() -> SimpleNamespace:
    """`model` and `nets` by name, as the host's loaders give them."""
    import comfy.controlnet
    import comfy.sd
    import comfy.supported_models

    sd15 = comfy.supported_models.SD15
    narrow = type("Narrow", (sd15,), {"unet_config": {**sd15.unet_config, "model_channels": CHANNELS}})

    def loaded(load: Callable[..., Any], state: State) -> Any:
        with mock.patch.object(comfy.supported_models, "models", [narrow]), torch.inference_mode():
            return load(state)

    nets = {name: loaded(comfy.controlnet.load_controlnet_state_dict,
                         controlnet_state(SEED + number, 4 if name == "identity4" else 3))
            for number, name in enumerate(NETS, 1)}
    return SimpleNamespace(model=loaded(comfy.sd.load_diffusion_model_state_dict, unet_state()), nets=nets)
