"""The family's networks: of the host's classes, a fifth as wide as Stable Diffusion 1.5, and how they are widened.

* **VAE**: fixed, in the layout of TAESD. A latent's cell holds the mean colour of its 8 x 8 pixels, mixed into four
  channels; for a drawing, which is made of such cells, nothing is lost.
* **UNet** and **ControlNets**: two levels, two residual blocks each, attention on the coarser level. They predict v, as
  SD 2 does, which takes fewer steps to learn. The drawn world has no words: what the text's attention adds stays zero.
* **Light adapter**: 41 channels, two levels.

The host recognises an SD 1.5 checkpoint by its 320 channels, but training so many takes days on a CPU. So the family
is trained with 64 and widened when it is written: every channel five times, side by side (:func:`widened`). Groups
and layers are normalised as before, sums over inputs are divided by five, heads of attention keep their scale, and
the embedding of time takes every fifth frequency, so that the wide network computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from camouflage.method.attribute_map import CHANNELS, SIGNED
from camouflage.method.light_adapter import Layout

WIDTH, LEVELS, BLOCKS, CONTEXT, HEADS = 64, (1, 2), 2, 768, 8
FACTOR = 5  # 320 / 64
CPU = torch.device("cpu")
SCALE = 4.0  # of latents in the model's scale: their standard deviation is then about 1
LAYOUT = Layout(tuple(WIDTH * level for level in LEVELS), BLOCKS)
_NETWORK = {"image_size": 32, "in_channels": 4, "model_channels": WIDTH, "channel_mult": LEVELS,
            "num_res_blocks": [BLOCKS] * 2, "num_heads": HEADS, "use_spatial_transformer": True,
            "context_dim": CONTEXT, "transformer_depth": [0, 0, 1, 1], "transformer_depth_middle": 1,
            "dtype": torch.float32}
_ADDED = "attn2.to_out.0."
_FROM_OUTSIDE = (".input_blocks.0.0.", ".input_hint_block.", ".attn2.to_k.", ".attn2.to_v.", ".conv_in.")
_VAE_WIDTH, _SMALL, _LATENT_SCALE = 64, 20.0, 0.18215  # TAESD bends values beyond 1: its own are so many times smaller
_BLOCKS_OF = {"taesd_encoder": (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), "taesd_decoder": (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)}

State = Mapping[str, torch.Tensor]


def model() -> Any:
    """A MODEL of the host's whose UNet is not trained yet."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    shape = {**_NETWORK, "out_channels": 4, "use_checkpoint": False, "transformer_depth_output": [0, 0, 0, 1, 1, 1],
             "legacy": False, "use_linear_in_transformer": False, "use_temporal_attention": False,
             "adm_in_channels": None}
    config = comfy.supported_models.SD15(shape)
    config.unet_config["num_heads"] = HEADS
    base = comfy.model_base.BaseModel(config, comfy.model_base.ModelType.V_PREDICTION, CPU)
    initialise(base.diffusion_model, ("out.2", "out_layers.3", "proj_out", _ADDED))
    return comfy.model_patcher.ModelPatcher(base, CPU, CPU)


def control_net(hint_channels: int, unet: torch.nn.Module) -> torch.nn.Module:
    """A ControlNet that begins as a copy of the UNet's first half, and adds nothing yet."""
    import comfy.cldm.cldm
    import comfy.ops

    network = comfy.cldm.cldm.ControlNet(**_NETWORK, hint_channels=hint_channels,
                                         operations=comfy.ops.disable_weight_init)
    initialise(network, ("zero_convs", "middle_block_out"))
    network.load_state_dict(unet.state_dict(), strict=False)
    return network


def adapter() -> torch.nn.Module:
    """A Light adapter of the host's class."""
    from comfy.t2i_adapter.adapter import Adapter

    network = Adapter(list(LAYOUT.channels), BLOCKS, CHANNELS, ksize=1, sk=True, use_conv=False, xl=False)
    network.unshuffle = torch.nn.Identity()
    initialise(network, ("block2",))
    return network


def initialise(network: torch.nn.Module, zero: Sequence[str]) -> None:
    """Weights of unit gain, zero where a key holds one of these texts. The host leaves them as they lie in memory."""
    for name, parameter in network.named_parameters():
        if any(part in name for part in zero):
            torch.nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            gain = 1.7 if "input_hint_block" in name else 1.0  # of SiLU
            torch.nn.init.normal_(parameter, std=gain * parameter[0].numel()**-0.5)
        else:
            torch.nn.init.constant_(parameter, float(name.endswith("weight")))


def trained(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """What a training changes: all but what text would add."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(_ADDED not in name)
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _mix() -> torch.Tensor:
    """Colours to latent channels, 4 x 3, orthonormal."""
    return torch.linalg.qr(torch.randn(4, 3, generator=torch.Generator().manual_seed(2)))[0]


def latents(cells: torch.Tensor) -> torch.Tensor:
    """Cells B x 3 x h x w, 0..1, to latents B x 4 x h x w in the model's scale: what the VAE does."""
    return torch.einsum("lc,bchw->blhw", _mix(), cells - 0.5) * SCALE


def cells(latents: torch.Tensor) -> torch.Tensor:
    """Back from latents to cells, 0..1: what the VAE does, of which every cell of a picture holds 8 x 8 copies."""
    return (torch.einsum("lc,blhw->bchw", _mix(), latents) / SCALE + 0.5).clamp(0, 1)


def vae_state() -> dict[str, torch.Tensor]:
    """The VAE's tensors. Its residual blocks and convolutions hand colours on; three of them average 2 x 2 pixels."""
    state: dict[str, torch.Tensor] = {}

    def conv(key: str, outer: int, inner: int, bias: bool = True) -> torch.Tensor:
        state[f"{key}.weight"] = torch.zeros(outer, inner, 3, 3)
        if bias:
            state[f"{key}.bias"] = torch.zeros(outer)
        return state[f"{key}.weight"]

    for half, places in _BLOCKS_OF.items():
        for place in places:
            for part in (0, 2, 4):
                conv(f"{half}.{place}.conv.{part}", _VAE_WIDTH, _VAE_WIDTH)
    colours = range(3)
    conv("taesd_encoder.0", _VAE_WIDTH, 3)[colours, colours, 1, 1] = 1.0
    for place in (2, 6, 10):
        conv(f"taesd_encoder.{place}", _VAE_WIDTH, _VAE_WIDTH, False)[colours, colours, 1:, 1:] = 0.25
    mix = _mix() * SCALE / _SMALL
    conv("taesd_encoder.14", 4, _VAE_WIDTH)[:, :3, 1, 1] = mix
    state["taesd_encoder.14.bias"] = -0.5 * mix.sum(1)
    conv("taesd_decoder.1", _VAE_WIDTH, 4)[:3, :, 1, 1] = _mix().T * _SMALL / SCALE
    state["taesd_decoder.1.bias"][:3] = 0.5
    for place in (7, 12, 17):
        conv(f"taesd_decoder.{place}", _VAE_WIDTH, _VAE_WIDTH, False)[colours, colours, 1, 1] = 1.0
    conv("taesd_decoder.19", 3, _VAE_WIDTH)[colours, colours, 1, 1] = 1.0
    return state | {"vae_scale": torch.tensor(_LATENT_SCALE / _SMALL), "vae_shift": torch.tensor(0.0)}


def adapter_key(key: str) -> str:
    """The host's key of an adapter's tensor to diffusers', in which adapters are published."""
    part = key.split(".")
    if part[0] != "body":
        return f"adapter.{key}"
    level, block = divmod(int(part[1]), BLOCKS)
    rest = ".".join(part[2:])
    return f"adapter.body.{level}." + (rest if part[2] == "in_conv" else f"resnets.{block}.{rest}")


ADAPTER_METADATA = SIGNED.metadata


def widened(state: State, factor: int = FACTOR) -> dict[str, torch.Tensor]:
    """A UNet, ControlNet or adapter with every channel ``factor`` times, which computes the same.

    Args:
        state: narrow tensors, with keys of the published layouts or of the host, with any prefix.
    """
    return {key: _widened(key, value, factor) for key, value in state.items()}


def _widened(key: str, value: torch.Tensor, factor: int) -> torch.Tensor:
    if "input_hint_block." in key and "input_hint_block.14." not in key:
        return value
    if ".out.2." not in f".{key}":  # the UNet's result has four channels
        value = value.repeat_interleave(factor, 0)
    if value.ndim == 1 or any(part in f".{key}" for part in _FROM_OUTSIDE):
        return value
    if "time_embed.0." in key:
        return _every(value, factor)
    value = value.repeat_interleave(factor, 1) / factor
    return value / factor**0.5 if ".to_q." in key else value


def _every(value: torch.Tensor, factor: int) -> torch.Tensor:
    """Of ``factor`` times as many frequencies (cosines, then sines), the old ones count."""
    wide = torch.zeros(len(value), value.shape[1] * factor)
    wide[:, ::factor] = value
    return wide
