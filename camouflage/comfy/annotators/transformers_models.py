"""Annotators that are transformers models in a local folder: depth, segmentation, caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ...errors import CamouflageError
from ...images import annotation_size, normalise, resize
from ...packages import require
from ..networks import GIGABYTE, Network, compute_dtype, loaded
from ..weights import checked, find_folder
from .common import each_picture, map_each_picture, pictures

_ADE20K_CLASSES = 150
_AT_ONCE = 8  # pictures of 512 x 512 px: 0.8 to 1.3 GB in half precision, and enough to fill a GPU
_TOGETHER = ("depth_anything", "dpt", "mask2former", "segformer", "upernet")
"""Kinds of models that take several pictures at once, each looked at by itself; ZoeDepth's heads vote over a batch."""
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # no download, no code in the folder


def load_folder(role: str, folder_name: str, model_class: str, processor_class: str) -> Network[Any]:
    """Model and processor of a local folder. Raises CamouflageError, also where transformers does not know the class.
    """
    transformers = require("transformers", "transformers", f"The {role} annotator")
    if not hasattr(transformers, model_class):
        raise CamouflageError(f"The {role} annotator needs a transformers that has {model_class}; "
                              f"{transformers.__version__} has not. Update it: pip install --upgrade transformers")
    folder = find_folder(role, folder_name)
    safe = any(folder.glob("*.safetensors"))
    files = sorted(path for path in folder.iterdir()
                   if path.suffix in (".json", ".txt", ".safetensors" if safe else ".bin"))

    def build() -> Network[Any]:
        def load() -> Network[Any]:
            model, info = getattr(transformers, model_class).from_pretrained(
                folder, use_safetensors=safe, output_loading_info=True, **_LOCAL)
            # transformers fills what a file lacks with random numbers; a few tied or unused keys are normal.
            if len(info["missing_keys"]) > 0.05 * len(model.state_dict()):
                raise ValueError(f"{len(info['missing_keys'])} weights are not in the file")
            model.to(compute_dtype())
            processor = getattr(transformers, processor_class).from_pretrained(folder, **_LOCAL)
            return Network((model, processor), [model])
        return checked(files, load)

    return loaded(role, files, build)


def _inputs(network: Network[Any], images: list[torch.Tensor], squash: bool = False,
            **extra: Any) -> dict[str, torch.Tensor]:
    """Normalised model inputs of pictures (each 1 x h x w x 3, 0..1); their size stays, unless ``squash``."""
    model, processor = network.tool
    device = network.on_device(activation_bytes=min(len(images), 2) * GIGABYTE)
    options = {} if squash else {"do_resize": False, "do_pad": False}
    inputs = processor(images=[image[0].movedim(-1, 0) for image in images], return_tensors="pt", do_rescale=False,
                       **options, **extra)
    return {name: value.to(device, model.dtype) if value.is_floating_point() else value.to(device)
            for name, value in inputs.items()}


def depth_maps(images: torch.Tensor, model_name: str, resolution: int) -> torch.Tensor:
    """Depth, near = white, each picture stretched to 0..1.

    Any transformers depth estimator: models of relative depth give near as large; metric ones (Depth Anything metric,
    ZoeDepth, Depth Pro) give metres and are inverted.

    Args:
        images: B x H x W x C, 0..1.
        model_name: folder in ``models/camouflage/depth``.
        resolution: px of the shorter side that the model sees.

    Returns:
        B x H x W x 3, 0..1.
    """
    network = load_folder("depth", model_name, "AutoModelForDepthEstimation", "AutoImageProcessor")
    model, _ = network.tool
    config = model.config
    metric = getattr(config, "depth_estimation_type", "") == "metric" or config.model_type in ("zoedepth", "depth_pro")
    backbone = getattr(config, "backbone_config", None)
    multiple = getattr(config, "patch_size", None) or getattr(backbone, "patch_size", None) or 32

    def some(small: list[torch.Tensor]) -> torch.Tensor:
        depth = model(**_inputs(network, small)).predicted_depth.float()
        depth = F.interpolate(depth.unsqueeze(1), small[0].shape[1:3], mode="bilinear", align_corners=False).squeeze(1)
        near = 1.0 / depth.clamp(min=1e-3) if metric else depth
        return normalise(near).unsqueeze(-1).expand(-1, -1, -1, 3)

    return map_each_picture(images, some, resolution, network.identity, multiple, most=_at_once(model))


def segmentation_maps(images: torch.Tensor, model_name: str, resolution: int) -> torch.Tensor:
    """Classes of ADE20K in the palette that the segmentation ControlNet was trained on.

    Args:
        images: B x H x W x C, 0..1.
        model_name: folder in ``models/camouflage/segmentation``; a semantic (UperNet, SegFormer) or universal
            (Mask2Former, OneFormer) model with the 150 classes of ADE20K.
        resolution: px of the shorter side that the model sees.

    Returns:
        B x H x W x 3, 0..1, one palette colour a pixel.
    """
    util = require("controlnet_aux.util", "controlnet-aux", "The segmentation palette")
    transformers = require("transformers", "transformers", "The segmentation annotator")
    kind = _model_type(transformers, find_folder("segmentation", model_name))
    universal = kind in ("mask2former", "maskformer", "oneformer")
    network = load_folder("segmentation", model_name,
                          "AutoModelForUniversalSegmentation" if universal else "AutoModelForSemanticSegmentation",
                          "AutoProcessor" if kind == "oneformer" else "AutoImageProcessor")
    model, processor = network.tool
    if model.config.num_labels != _ADE20K_CLASSES:
        raise CamouflageError(f"The segmentation model '{model_name}' knows {model.config.num_labels} classes; the "
                              f"ControlNet needs the {_ADE20K_CLASSES} of ADE20K. Choose a model trained on ADE20K.")
    palette = torch.tensor(util.ade_palette(), dtype=torch.float32) / 255.0
    task: dict[str, Any] = {"task_inputs": ["semantic"]} if kind == "oneformer" else {}

    def some(small: list[torch.Tensor]) -> torch.Tensor:
        outputs = model(**_inputs(network, small, **task))
        sizes = [tuple(image.shape[1:3]) for image in small]
        classes = torch.stack(list(processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)))
        return palette[classes.cpu()]

    return map_each_picture(images, some, resolution, network.identity, 32, "nearest-exact", _at_once(model))


def captions(images: torch.Tensor, model_name: str, prefix: str, max_tokens: int, beams: int) -> list[str]:
    """One BLIP caption a picture, without sampling: the same picture gives the same words.

    Args:
        images: B x H x W x C, 0..1.
        model_name: folder in ``models/camouflage/caption``.
        prefix: words that the caption starts with; may be empty.
        max_tokens: of the caption.
        beams: width of the beam search; 1 is greedy.
    """
    network = load_folder("caption", model_name, "BlipForConditionalGeneration", "BlipProcessor")
    model, processor = network.tool
    images = pictures(images)
    height, width = images.shape[1:3]

    def one(whole: list[torch.Tensor]) -> list[str]:
        # The processor squashes to its own square anyway; from here it does so at a bounded cost.
        small = [resize(image, *annotation_size(height, width, 512)).clamp(0.0, 1.0) for image in whole]
        text: dict[str, Any] = {"text": prefix} if prefix.strip() else {}
        tokens = model.generate(**_inputs(network, small, squash=True, **text), max_new_tokens=max_tokens,
                                num_beams=beams, do_sample=False)
        return [processor.decode(tokens[0], skip_special_tokens=True).strip()]

    return each_picture(images, one, (network.identity, prefix, max_tokens, beams))


def _at_once(model: Any) -> int:
    """How many pictures a model takes in one pass."""
    return _AT_ONCE if model.config.model_type in _TOGETHER else 1


def _model_type(transformers: Any, folder: Path) -> str:
    config = checked([folder / "config.json"],
                     lambda: transformers.AutoConfig.from_pretrained(folder, **_LOCAL))
    return config.model_type
