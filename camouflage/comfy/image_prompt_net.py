"""An IP-Adapter as a network under the host's memory management, and what an image encoder says for it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.ops
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ..errors import CamouflageError
from ..method.image_prompt import ImagePromptLayout, read_layout
from ..method.projections import projection
from ..weights import FARL
from .face_encoder import FaceEncoder, zero_states
from .weights import checked

_EMBEDDINGS = {512: "CLIP-B/32, CLIP-B/16 or FaRL-B/16", 768: "CLIP-L/14", 1024: "CLIP-H/14", 1152: "SigLIP",
               1280: "CLIP-bigG/14"}
_STATES = {768: "CLIP-B or FaRL-B/16", 1024: "CLIP-L/14", 1280: "CLIP-H/14", 1152: "SigLIP", 1664: "CLIP-bigG/14"}


class ImagePromptNet(torch.nn.Module):
    """Projection of what the encoder says, and keys and values of every layer; runs partly offloaded too."""

    def __init__(self, layout: ImagePromptLayout, dtype: torch.dtype):
        super().__init__()
        ops, c = comfy.ops.manual_cast, layout.context
        self.image_proj = projection(layout, ops, dtype)
        self.to_k = torch.nn.ModuleList(ops.Linear(c, w, bias=False, dtype=dtype) for w in layout.layers)
        self.to_v = torch.nn.ModuleList(ops.Linear(c, w, bias=False, dtype=dtype) for w in layout.layers)

    def tokens(self, seen: torch.Tensor) -> torch.Tensor:
        """Embeddings, B x width, or hidden states, B x states x width, to B x tokens x context, single precision."""
        return self.image_proj(seen.to(next(self.parameters()).device, torch.float32))


@dataclass(frozen=True, eq=False)
class ImagePromptAdapter:
    """A loaded IP-Adapter.

    Attributes:
        net: projection, keys and values.
        layout: its sizes.
        encoder: name of the image encoder that it was trained with, from the file's metadata; empty: not said there.
        patcher: wraps ``net`` for the host's memory management.
    """

    net: ImagePromptNet
    layout: ImagePromptLayout
    encoder: str
    patcher: ModelPatcher


def load(path: Path) -> ImagePromptAdapter:
    """Loads an IP-Adapter for SD 1.5 in a published layout, plain or Plus.

    Raises:
        CamouflageError: a pickle, a damaged file, or another kind of file.
    """
    if path.suffix.lower() != ".safetensors":
        raise CamouflageError(f"'adapter' is {path.name}, but only .safetensors files are loaded: others can contain "
                              "code. The published IP-Adapters are there as .safetensors too; choose that file. The "
                              "authors' checkpoint is turned into such files by `python run.py train import`.")

    def read() -> ImagePromptAdapter:
        state, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
        layout = read_layout({key: tuple(tensor.shape) for key, tensor in state.items()}, path.name)
        net = ImagePromptNet(layout, state[f"ip_adapter.{layout.numbers[0]}.to_k_ip.weight"].dtype)
        names = {f"ip_adapter.{number}.{part}_ip.weight": f"{part}.{i}.weight"
                 for i, number in enumerate(layout.numbers) for part in ("to_k", "to_v")}
        net.load_state_dict({names.get(str(key), str(key)): value for key, value in state.items()})
        encoder = (metadata or {}).get("image_encoder", "")
        return ImagePromptAdapter(net, layout, encoder, _patcher(net.eval().requires_grad_(False)))

    return checked([path], read)


def _patcher(net: ImagePromptNet) -> ModelPatcher:
    patcher = ModelPatcher(net, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())
    # For MultiGPU CFG Split (hosts from 0.23 on), which makes every model of a MODEL anew for each GPU.
    patcher.cached_patcher_init = (_another, (net,))
    return patcher


def _another(net: ImagePromptNet, disable_dynamic: bool = False) -> ModelPatcher:
    """The host's call for a patcher with weights of its own."""
    return _patcher(copy.deepcopy(net))


def tokens_of(adapter: ImagePromptAdapter, clip_vision_output: Any, clip_vision: Any) -> torch.Tensor:
    """Tokens of the pictures, and in the last row those of no picture.

    No picture is, as in the published code, an embedding of zeros for the plain kind, and the encoder's hidden states
    of a zero tensor for the Plus kind.

    Args:
        clip_vision_output: of the stock CLIP Vision Encode.
        clip_vision: the encoder that it comes from, or its hidden states of a zero tensor, 1 x states x width; only
            the Plus kind needs it.

    Returns:
        (pictures + 1) x tokens x context.

    Raises:
        CamouflageError: another encoder than the adapter's.
    """
    if adapter.layout.resampler is None:
        seen = _from_encoder(adapter, clip_vision_output, "image_embeds", "image embedding", 2)
        nothing = torch.zeros_like(seen[:1])
    else:
        seen = _from_encoder(adapter, clip_vision_output, "penultimate_hidden_states", "hidden states", 3)
        nothing = _no_picture(adapter, clip_vision).to(seen)
        if nothing.shape[1:] != seen.shape[1:]:
            raise CamouflageError(f"'clip_vision' gives hidden states {list(nothing.shape[1:])}, but "
                                  f"'clip_vision_output' comes from another encoder: {list(seen.shape[1:])}. Connect "
                                  "the encoder that 'CLIP Vision Encode' uses.")
    return adapter.net.tokens(torch.cat([seen, nothing])).to(mm.intermediate_device())


def _from_encoder(adapter: ImagePromptAdapter, output: Any, name: str, what: str, dims: int) -> torch.Tensor:
    """What the adapter projects of an encoder's output: B x width, or B x states x width."""
    seen, width = getattr(output, name, None), adapter.layout.width
    if isinstance(seen, torch.Tensor) and seen.ndim == dims and seen.shape[-1] == width and 0 not in seen.shape:
        return seen
    encoders = _EMBEDDINGS if dims == 2 else _STATES
    found = list(seen.shape) if isinstance(seen, torch.Tensor) else f"no {what}"
    encoder = encoders.get(found[-1], "an unknown encoder") if isinstance(found, list) else "another encoder"
    wanted = f"embeddings [pictures, {width}]" if dims == 2 else f"hidden states [pictures, states, {width}]"
    raise CamouflageError(
        f"'clip_vision_output' is {found} ({encoder}), but this IP-Adapter projects {wanted} "
        f"({adapter.encoder or encoders.get(width, 'its own encoder')}). Load the image encoder that the adapter was "
        "trained with: in 'Load CLIP Vision' CLIP-H for ip-adapter_sd15 and ip-adapter-plus_sd15, not CLIP-L of the "
        "checkpoint; in 'Load Face Encoder' FaRL for the authors' adapter and those trained like it.")


def _no_picture(adapter: ImagePromptAdapter, clip_vision: Any) -> torch.Tensor:
    if isinstance(clip_vision, torch.Tensor):
        return clip_vision
    if clip_vision is None:
        raise CamouflageError("'clip_vision' is not connected, but an adapter of the Plus kind needs the image encoder "
                              "for the negative branch. Connect the encoder that 'CLIP Vision Encode' uses.")
    if adapter.encoder == FARL and not isinstance(clip_vision, FaceEncoder):
        raise CamouflageError(f"'clip_vision' is another image encoder than {FARL}, with which this adapter was "
                              "trained. Use 'Load Face Encoder' for 'CLIP Vision Encode' and here.")
    return zero_states(clip_vision)
