"""Light: the adapter that reads the attribute map, and the image prompt."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..camouflage.comfy.adapter_files import IMAGE_PROMPT, LIGHT_ADAPTER, find, names
from ..camouflage.comfy.image_prompt import ImagePromptAdapter
from ..camouflage.comfy.image_prompt import apply as apply_image_prompt
from ..camouflage.comfy.image_prompt import load as load_image_prompt
from ..camouflage.comfy.light_adapter import LightAdapter
from ..camouflage.comfy.light_adapter import apply as apply_light_adapter
from ..camouflage.comfy.light_adapter import load as load_light_adapter
from ..camouflage.method.light_adapter import SIGNED
from .common import LIGHT, FileInput, schema
from .types import AttributeMapType, ImagePromptType, LightAdapterType

_REFUSE = "refuse"
_ENCODINGS = [SIGNED.name, _REFUSE]


def _percents(what: str) -> list:
    return [
        io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.01,
                       tooltip=f"Point of the noise schedule at which {what} starts, 0 to 1. 0: from the start."),
        io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.01,
                       tooltip=f"Point of the noise schedule at which {what} ends, 0 to 1. 1: to the end; 0, or any "
                               "value that is not above the start, leaves it out."),
    ]


class CamouflageLightAdapterLoader(io.ComfyNode):
    """Loads the adapter that reads attribute maps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageLightAdapterLoader", display_name="Load Light Adapter", category=LIGHT,
            search_aliases=["T2I-Adapter", "load adapter"],
            advanced=["encoding"],
            description="Loads a T2I-Adapter that reads the 41-channel attribute map: diffusers' layout, .safetensors. "
                        "Everything else is refused. Levels and widths are read from the file.",
            inputs=[
                FileInput("adapter", options=names(LIGHT_ADAPTER),
                          tooltip="File in models/camouflage/light. None can be downloaded: the paper's weights "
                                  "are not public, the adapter must be trained (docs/training.md)."),
                io.Combo.Input("encoding", options=_ENCODINGS, default=SIGNED.name,
                               tooltip="Encoding of the map to assume when the file's metadata does not name one: "
                                       f"'{SIGNED.name}' is ours, version {SIGNED.version}; '{_REFUSE}' loads only "
                                       "files that name it. A file that names another one is always refused."),
            ],
            outputs=[LightAdapterType.Output("LIGHT_ADAPTER", display_name="light_adapter",
                                             tooltip="For 'Apply Light Adapter'.")])

    @classmethod
    def execute(cls, adapter: str, encoding: str) -> io.NodeOutput:
        assumed = None if encoding == _REFUSE else SIGNED
        return io.NodeOutput(load_light_adapter(find(LIGHT_ADAPTER, adapter), assumed))


class CamouflageApplyLightAdapter(io.ComfyNode):
    """Adds the adapter to a conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageApplyLightAdapter", display_name="Apply Light Adapter", category=LIGHT,
            search_aliases=["T2I-Adapter", "apply adapter"],
            advanced=["start_percent", "end_percent"],
            description="Lets the attribute map steer, each person in their own region. It is a control in the host's "
                        "chain and combines with ControlNets and T2I-Adapters in any order. Use it on positive and on "
                        "negative with the same map: they then share one evaluation.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="Positive or negative, with or without other controls. "
                                                              "Never the identity."),
                LightAdapterType.Input("light_adapter", tooltip="From 'Load Light Adapter'; of the model's family."),
                AttributeMapType.Input("map", tooltip="From 'Attribute Map': 41 channels at the size of the latent "
                                                      "that is sampled. One for all pictures, or one each."),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.05,
                               tooltip="How strongly the map steers, 0 to 10; 0 leaves the conditioning as it is. "
                                       "Default 1, our choice; the paper gives no value."),
                *_percents("the adapter"),
            ],
            outputs=[io.Conditioning.Output("CONDITIONING", display_name="conditioning",
                                            tooltip="The conditioning with the adapter at the end of its controls.")])

    @classmethod
    def execute(cls, conditioning: io.Conditioning.Type, light_adapter: LightAdapter,
                map: torch.Tensor, strength: float, start_percent: float, end_percent: float) -> io.NodeOutput:
        return io.NodeOutput(apply_light_adapter(conditioning, light_adapter, map, strength, start_percent,
                                                 end_percent))


class CamouflageImagePromptLoader(io.ComfyNode):
    """Loads an IP-Adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageImagePromptLoader", display_name="Load Image Prompt", category=LIGHT,
            search_aliases=["IP-Adapter", "ipadapter"],
            description="Loads an IP-Adapter for SD 1.5 in the published layout, .safetensors. Plus, full-face and "
                        "FaceID adapters are other networks and are refused.",
            inputs=[FileInput("adapter", options=names(IMAGE_PROMPT),
                              tooltip="File in models/ipadapter. ip-adapter_sd15.safetensors is the public one; "
                                      "it needs the image encoder CLIP-H.")],
            outputs=[ImagePromptType.Output("IMAGE_PROMPT", display_name="image_prompt",
                                            tooltip="For 'Apply Image Prompt'.")])

    @classmethod
    def execute(cls, adapter: str) -> io.NodeOutput:
        return io.NodeOutput(load_image_prompt(find(IMAGE_PROMPT, adapter)))


class CamouflageApplyImagePrompt(io.ComfyNode):
    """Adds an image prompt to a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageApplyImagePrompt", display_name="Apply Image Prompt", category=LIGHT,
            search_aliases=["IP-Adapter", "ipadapter", "reference image"],
            advanced=["start_percent", "end_percent"],
            description="Lets the model's cross-attention see a picture in addition to the text. The positive branch "
                        "gets the picture, the negative one an empty picture, the identity branch of the guidance "
                        "none. Several add up; with one mask for each, every person has their own picture.",
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model (SD 1.5); it is cloned, never changed."),
                ImagePromptType.Input("image_prompt", tooltip="From 'Load Image Prompt'."),
                io.ClipVisionOutput.Input("clip_vision_output",
                                          tooltip="From 'CLIP Vision Encode' with the encoder that the adapter was "
                                                  "trained with (CLIP-H for ip-adapter_sd15). One picture for all, or "
                                                  "one for each of the batch."),
                io.Float.Input("weight", default=1.0, min=0.0, max=3.0, step=0.05,
                               tooltip="How strongly the picture counts compared with the text, 0 to 3; 0 leaves the "
                                       "model unchanged. Default 1, our choice. A larger value brings back more of the "
                                       "person."),
                *_percents("the picture"),
                io.Mask.Input("mask", optional=True,
                              tooltip="Where the picture counts, in picture space: fully where the mask is 1, not "
                                      "where it is 0. One for all pictures or one each. Without it: everywhere, as in "
                                      "the paper. One application a person with their mask keeps persons apart."),
            ],
            outputs=[io.Model.Output("MODEL", display_name="model", tooltip="The model with the image prompt.")])

    @classmethod
    def execute(cls, model: io.Model.Type, image_prompt: ImagePromptAdapter,
                clip_vision_output: io.ClipVisionOutput.Type, weight: float, start_percent: float, end_percent: float,
                mask: io.Mask.Type | None = None) -> io.NodeOutput:
        return io.NodeOutput(apply_image_prompt(model, image_prompt, clip_vision_output, weight, start_percent,
                                                end_percent, mask))


NODES = [CamouflageLightAdapterLoader, CamouflageApplyLightAdapter, CamouflageImagePromptLoader,
         CamouflageApplyImagePrompt]
