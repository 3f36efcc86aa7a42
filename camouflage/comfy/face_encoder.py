"""FaRL, the image encoder of the authors' Light code, as a CLIP_VISION of the host: *CLIP Vision Encode* takes it.

It is the image half of a CLIP ViT-B/16 that was trained on faces (arXiv 2112.03109): 224 px, and of every picture 197
hidden states of 768 before the last layer. The host knows no CLIP of this size, but its public class runs one.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch

from ..errors import CamouflageError
from ..images import as_rgb
from ..packages import require
from . import weights
from .weights import checked

ROLE = "face encoder"
_HEAD = 64  # numbers in a head of CLIP's attention, which no shape shows
_FOLDER = "faces"


class FaceEncoder(comfy.clip_vision.ClipVisionModel):
    """The host's image encoder with sizes of one's own, and the preprocessing of CLIPImageProcessor.

    Args:
        config: as in a CLIPVisionConfig.
        state: tensors under the names of transformers' CLIPVisionModel; their precision is kept.
    """

    def __init__(self, config: dict[str, Any], state: dict[str, torch.Tensor]):
        with tempfile.TemporaryDirectory() as folder:  # older hosts take a file alone
            path = os.path.join(folder, "config.json")
            Path(path).write_text(json.dumps(config), encoding="utf-8")
            super().__init__(path)
        self.model.to(state["vision_model.embeddings.class_embedding"].dtype)
        # Older hosts ask a model for its size when they wrap it, and that was in the precision of text encoders.
        self.patcher = type(self.patcher)(self.model, self.patcher.load_device, self.patcher.offload_device)
        wanted = {key: tuple(value.shape) for key, value in self.model.state_dict().items()}
        wrong = next((key for key, shape in wanted.items() if key not in state or tuple(state[key].shape) != shape), "")
        if wrong:
            found = list(state[wrong].shape) if wrong in state else "missing"
            raise CamouflageError(f"The face encoder is not complete: {wrong} is {found}, but must be "
                                  f"{list(wanted[wrong])}. Download it again.")
        self.load_sd({key: state[key].contiguous() for key in wanted})

    def encode_image(self, image: torch.Tensor, crop: bool = True) -> Any:
        """The host's call, with the preprocessing of transformers' CLIPImageProcessor.

        Args:
            image: B x H x W x C, 0..1.
            crop: True scales the shorter side and cuts the centre, False squeezes the picture into the square.
        """
        return super().encode_image(resized(image, self.image_size, crop), False)


def resized(images: torch.Tensor, size: int, crop: bool) -> torch.Tensor:
    """Pictures as CLIPImageProcessor makes them, before it normalises: B x size x size x 3, 0..1, of 256 levels."""
    transformers = require("transformers", "transformers", "The face encoder")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": size} if crop else {"height": size, "width": size}, do_center_crop=crop,
        crop_size={"height": size, "width": size}, do_rescale=False, do_normalize=False, do_convert_rgb=False)
    levels = (as_rgb(images, "image") * 255.0).round().to("cpu", torch.uint8)
    found = processor([picture.numpy() for picture in levels], input_data_format="channels_last", return_tensors="pt")
    return found["pixel_values"].movedim(1, -1).float() / 255.0


def zero_states(clip_vision: Any) -> torch.Tensor:
    """What an encoder of the host says of a zero tensor (after preprocessing): 1 x states x width.

    The authors' code and IP-Adapter's take it for "no picture" where an adapter reads hidden states.
    """
    size = getattr(clip_vision, "image_size", None)
    if not isinstance(size, int) or not hasattr(clip_vision, "patcher"):
        raise CamouflageError("'clip_vision' is no image encoder of ComfyUI. Connect 'Load CLIP Vision' or 'Load Face "
                              "Encoder'.")
    mm.load_model_gpu(clip_vision.patcher)
    with torch.no_grad():
        pixels = torch.zeros(1, 3, size, size, device=clip_vision.load_device)
        return clip_vision.model(pixel_values=pixels, intermediate_output=-2)[1].to(mm.intermediate_device())


def names() -> list[str]:
    """What the loader offers: the published file, then folders of transformers in models/camouflage/faces."""
    return [Path(weights.of_role(ROLE)[0].file).name, *sorted(_folders())]


def load(name: str) -> FaceEncoder:
    """Loads what ``names`` calls ``name``; the host manages its memory.

    Raises:
        CamouflageError: it is not there, is damaged, contains code, or is no CLIP image encoder.
    """
    if name == names()[0]:
        return load_file(weights.find(ROLE)[0])
    folder = _folders().get(name)
    if folder is None:
        raise CamouflageError(f"'encoder' is '{name}', but models/camouflage/{_FOLDER} has no such folder with "
                              f"config.json and model.safetensors. Found: {', '.join(names()[1:]) or 'none'}.")
    files = [folder / "config.json", folder / "model.safetensors"]
    return checked(files, lambda: FaceEncoder(*_from_transformers(folder)))


def load_file(path: Path) -> FaceEncoder:
    """Loads a file like the published one; errors as in :func:`load`."""
    return checked([path], lambda: FaceEncoder(*_published(path)))


def _folders() -> dict[str, Path]:
    weights.register_folder()
    roots = [Path(root, _FOLDER) for root in folder_paths.get_folder_paths(weights.FOLDER)]
    return {config.parent.name: config.parent for root in reversed(roots) for config in root.glob("*/config.json")
            if (config.parent / "model.safetensors").is_file()}


def _published(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A state in the layout of OpenAI's CLIP, whole or under "state_dict"; the text half is left out."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    content = content.get("state_dict", content)
    if "visual.conv1.weight" not in content:
        raise CamouflageError(f"{path} is no image encoder in the layout of OpenAI's CLIP: it has no "
                              "visual.conv1.weight. Wanted is FaRL as it is published, or another CLIP ViT.")
    found = comfy.clip_vision.convert_to_transformers(
        {key: value for key, value in content.items() if key.startswith("visual.")}, "visual.")
    first = found["vision_model.embeddings.patch_embedding.weight"]
    layers = {key.split(".")[3] for key in found if key.startswith("vision_model.encoder.layers.")}
    states = len(found["vision_model.embeddings.position_embedding.weight"])
    config = {
        "model_type": "clip_vision_model", "hidden_act": "quick_gelu", "num_channels": first.shape[1],
        "hidden_size": first.shape[0], "num_attention_heads": first.shape[0] // _HEAD, "patch_size": first.shape[-1],
        "num_hidden_layers": len(layers), "image_size": first.shape[-1] * math.isqrt(states - 1),
        "intermediate_size": len(found["vision_model.encoder.layers.0.mlp.fc1.bias"])}
    if "visual_projection.weight" in found:
        config["projection_dim"] = len(found["visual_projection.weight"])
    return config, found


def _from_transformers(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A folder that CLIPModel, CLIPVisionModel or CLIPVisionModelWithProjection has saved."""
    transformers = require("transformers", "transformers", "The face encoder")
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise CamouflageError(f"{folder} holds a model of the type '{kind}', but the face encoder is a CLIP image "
                              "encoder ('clip' or 'clip_vision_model').")
    config = transformers.CLIPVisionConfig.from_pretrained(str(folder), local_files_only=True).to_dict()
    state = comfy.utils.load_torch_file(str(folder / "model.safetensors"), safe_load=True)
    if not any(key.startswith("vision_model.") for key in state):  # as newer versions of transformers name them
        state = {key if key.startswith("visual_projection") else f"vision_model.{key}": value
                 for key, value in state.items()}
    if "visual_projection.weight" not in state:
        del config["projection_dim"]
    return config, state
