"""Light: the adapter that reads the attribute map, the image prompt, and its face encoder."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..camouflage.comfy.adapter_files import IMAGE_PROMPT, LIGHT_ADAPTER, find, names
from ..camouflage.comfy.face_encoder import load as load_face_encoder
from ..camouflage.comfy.face_encoder import names as face_encoders
from ..camouflage.comfy.image_prompt import apply as apply_image_prompt
from ..camouflage.comfy.image_prompt import load as load_image_prompt
from ..camouflage.comfy.image_prompt_net import ImagePromptAdapter
from ..camouflage.comfy.light_adapter import LightAdapter
from ..camouflage.comfy.light_adapter import apply as apply_light_adapter
from ..camouflage.comfy.light_adapter import load as load_light_adapter
from ..camouflage.method.attribute_map import ENCODINGS, SIGNED, AttributeMap
from .common import LIGHT, FileInput, schema
from .types import AttributeMapType, ImagePromptType, LightAdapterType

_REFUSE = "refuse"


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
                          tooltip="File in models/camouflage/light: one that you have trained, or the authors' "
                                  "checkpoint after 'train import' (docs/training.md)."),
                io.Combo.Input("encoding", options=[SIGNED.name, _REFUSE, *(n for n in ENCODINGS if n != SIGNED.name)],
                               default=SIGNED.name,
                               tooltip="Encoding of the map to assume when the file's metadata does not name one: "
                                       f"'{SIGNED.name}' is ours, 'camouflage-probabilities' that of the authors' "
                                       f"code; '{_REFUSE}' loads only files that name it. What a file names counts "
                                       "in any case, and one that nobody here knows is refused."),
            ],
            outputs=[LightAdapterType.Output("LIGHT_ADAPTER", display_name="light_adapter",
                                             tooltip="For 'Apply Light Adapter'.")])

    @classmethod
    def execute(cls, adapter: str, encoding: str) -> io.NodeOutput:
        assumed = None if encoding == _REFUSE else ENCODINGS[encoding]
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
                                                      "that is sampled, in the adapter's encoding. One for all "
                                                      "pictures, or one each."),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.05,
                               tooltip="How strongly the map steers, 0 to 10; 0 leaves the conditioning as it is. "
                                       "Default 1, our choice; the paper gives no value."),
                *_percents("the adapter"),
            ],
            outputs=[io.Conditioning.Output("CONDITIONING", display_name="conditioning",
                                            tooltip="The conditioning with the adapter at the end of its controls.")])

    @classmethod
    def execute(cls, conditioning: io.Conditioning.Type, light_adapter: LightAdapter,
                map: AttributeMap | torch.Tensor, strength: float, start_percent: float,
                end_percent: float) -> io.NodeOutput:
        return io.NodeOutput(apply_light_adapter(conditioning, light_adapter, map, strength, start_percent,
                                                 end_percent))


class CamouflageFaceEncoder(io.ComfyNode):
    """Loads FaRL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageFaceEncoder", display_name="Load Face Encoder", category=LIGHT,
            search_aliases=["FaRL", "load CLIP vision", "image encoder"],
            description="Loads FaRL, the image encoder of the authors' Light: a CLIP ViT-B/16 that was trained on "
                        "faces. 'CLIP Vision Encode' takes it like any other, with the preprocessing of "
                        "CLIPImageProcessor.",
            inputs=[FileInput("encoder", options=face_encoders(),
                              tooltip="The published file, or a folder with config.json and model.safetensors of "
                                      "transformers (a CLIP image encoder); both in models/camouflage/faces.")],
            outputs=[io.ClipVision.Output("CLIP_VISION", display_name="clip_vision",
                                          tooltip="For 'CLIP Vision Encode' and 'Apply Image Prompt'.")])

    @classmethod
    def execute(cls, encoder: str) -> io.NodeOutput:
        return io.NodeOutput(load_face_encoder(encoder))


class CamouflageImagePromptLoader(io.ComfyNode):
    """Loads an IP-Adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageImagePromptLoader", display_name="Load Image Prompt", category=LIGHT,
            search_aliases=["IP-Adapter", "ipadapter"],
            description="Loads an IP-Adapter for SD 1.5, plain or Plus, in a published layout, .safetensors. FaceID, "
                        "full-face and SDXL adapters are other networks and are refused.",
            inputs=[FileInput("adapter", options=names(IMAGE_PROMPT),
                              tooltip="File in models/ipadapter. ip-adapter_sd15 and ip-adapter-plus_sd15 are public "
                                      "and need the image encoder CLIP-H. One that was trained together with a Light "
                                      "adapter needs the encoder of its training: FaRL, as the authors'.")],
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
                                                  "trained with (CLIP-H for the public ones, FaRL for the authors'). "
                                                  "One picture for all, or one for each of the batch."),
                io.Float.Input("weight", default=1.0, min=0.0, max=3.0, step=0.05,
                               tooltip="How strongly the picture counts compared with the text, 0 to 3; 0 leaves the "
                                       "model unchanged. Default 1, our choice. A larger value brings back more of the "
                                       "person."),
                *_percents("the picture"),
                io.Mask.Input("mask", optional=True,
                              tooltip="Where the picture counts, in picture space: fully where the mask is 1, not "
                                      "where it is 0. One for all pictures or one each. Without it: everywhere, as in "
                                      "the authors' code. One application a person with their mask keeps persons "
                                      "apart."),
                io.ClipVision.Input("clip_vision", optional=True,
                                    tooltip="The image encoder that 'CLIP Vision Encode' uses. Adapters of the Plus "
                                            "kind (ip-adapter-plus_sd15, the authors') need it: what it says of an "
                                            "empty picture is what the negative branch gets. Others do without."),
            ],
            outputs=[io.Model.Output("MODEL", display_name="model", tooltip="The model with the image prompt.")])

    @classmethod
    def execute(cls, model: io.Model.Type, image_prompt: ImagePromptAdapter,
                clip_vision_output: io.ClipVisionOutput.Type, weight: float, start_percent: float, end_percent: float,
                mask: io.Mask.Type | None = None, clip_vision: object = None) -> io.NodeOutput:
        return io.NodeOutput(apply_image_prompt(model, image_prompt, clip_vision_output, weight, start_percent,
                                                end_percent, mask, clip_vision))


NODES = [CamouflageLightAdapterLoader, CamouflageApplyLightAdapter, CamouflageFaceEncoder, CamouflageImagePromptLoader,
         CamouflageApplyImagePrompt]
