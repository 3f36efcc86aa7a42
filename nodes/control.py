"""Controls: caption and maps into CONDITIONING."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..camouflage.comfy.conditioning import embedding_digests, encode_batch, encode_negative
from ..camouflage.comfy.control import apply_identity, apply_scene, scene_map
from ..camouflage.errors import CamouflageError
from .common import CONTROL, schema

_NEGATIVE = "deformed, disfigured, blurry, low quality, watermark, text"
_OURS = "Our choice; the paper gives no value."
_PAPER = "The paper's value."
# name, what it keeps, default strength, where that comes from
_CONTROLS = (
    ("depth", "the depth of the scene", 0.5, _PAPER),
    ("normal", "the directions of surfaces", 0.3, _PAPER),
    ("segmentation", "semantic segmentation", 0.5, _OURS),
    ("pose", "the poses of persons", 0.8, _OURS),
    ("lineart", "the lines of the picture", 0.3, _OURS),
)


class CamouflageEncodeCaptions(io.ComfyNode):
    """Captions to CONDITIONING, one a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageEncodeCaptions", display_name="Encode Captions", category=CONTROL,
            search_aliases=["batch prompts", "CLIP text encode", "one prompt per image"],
            description="Encodes a list of captions into one conditioning in which every picture of the batch has its "
                        "own. For one caption it is the same as CLIP Text Encode.",
            is_input_list=True,
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the checkpoint."),
                io.String.Input("captions", force_input=True,
                                tooltip="One caption a picture, in the order of the batch (from 'Caption')."),
                io.String.Input("suffix", default="", multiline=True,
                                tooltip="Words appended to every caption, for instance 'photo, sharp focus'. "
                                        "Empty: none."),
            ],
            outputs=[io.Conditioning.Output("CONDITIONING", display_name="conditioning",
                                            tooltip="One conditioning whose batch is the captions.")])

    @classmethod
    def execute(cls, clip: list, captions: list[str], suffix: list[str]) -> io.NodeOutput:
        if not captions:
            raise CamouflageError("'captions' is an empty list; connect 'Caption'.")
        ending = suffix[0].strip()
        texts = [f"{caption}, {ending}" if ending else caption for caption in captions]
        return io.NodeOutput(encode_batch(clip[0], texts))


class CamouflageNegativePrompt(io.ComfyNode):
    """A textual inversion, or a text, to CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageNegativePrompt", display_name="Negative Prompt", category=CONTROL,
            search_aliases=["textual inversion", "EasyNegative", "embedding", "CLIP text encode"],
            description="Encodes what the picture shall not be: a textual inversion from models/embeddings, as the "
                        "authors' code for Light does, or a text where that file is not there. The same as CLIP Text "
                        "Encode with 'embedding:NAME' or with the text.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the checkpoint."),
                io.String.Input("embedding", default="EasyNegative", multiline=False,
                                tooltip="Name of a textual inversion in models/embeddings, with or without its suffix. "
                                        "Empty: 'text' is encoded. The authors' code takes EasyNegative."),
                io.String.Input("text", default=_NEGATIVE, multiline=True,
                                tooltip="What is encoded instead if the embedding is not there, or is for another text "
                                        "encoder; the node then says so. Our choice of words."),
            ],
            outputs=[io.Conditioning.Output("CONDITIONING", display_name="negative",
                                            tooltip="The negative prompt, for a guider or for 'Scene Control'.")])

    @classmethod
    def fingerprint_inputs(cls, embedding: str | None = None, **_: Any) -> str:
        """The file's digest: a file that was put there after the first run is used in the next."""
        return embedding_digests(embedding)

    @classmethod
    def execute(cls, clip: io.Clip.Type, embedding: str, text: str) -> io.NodeOutput:
        return io.NodeOutput(encode_negative(clip, embedding, text))


class CamouflageSceneControl(io.ComfyNode):
    """Five ControlNets that keep the scene."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        maps: list = []
        for name, keeps, strength, source in _CONTROLS:
            maps += [
                io.Image.Input(f"{name}_map", optional=True,
                               tooltip=f"The {name} map: {keeps}. Leave out together with its ControlNet."),
                io.ControlNet.Input(f"{name}_control_net", optional=True,
                                    tooltip=f"The ControlNet that reads the {name} map; same family as the model."),
                io.Float.Input(f"{name}_strength", default=strength, min=0.0, max=10.0, step=0.05,
                               tooltip=f"How strongly the {name} map steers, 0 to 10; 0 leaves it out. Default "
                                       f"{strength}. {source}"),
            ]
        return schema(
            node_id="CamouflageSceneControl", display_name="Scene Control", category=CONTROL,
            search_aliases=["multi controlnet", "keep scene", "apply controlnet"],
            advanced=["lineart_end_percent"],
            description="Keeps the scene with up to five ControlNets that never see the pixels: depth, surface "
                        "normals, segmentation, pose, lineart. The same as a chain of five Apply ControlNet nodes, in "
                        "this order.",
            inputs=[
                io.Conditioning.Input("positive", tooltip="Conditioning of the caption."),
                io.Conditioning.Input("negative", tooltip="Conditioning of the negative prompt."),
                *maps,
                io.Float.Input("lineart_end_percent", default=0.5, min=0.0, max=1.0, step=0.01,
                               tooltip="Point of the noise schedule at which the lineart control ends, 0 to 1; 0 "
                                       f"leaves it out, 1 keeps it to the end. 0.5: {_PAPER} Lines that stay longer "
                                       "bring the face back. The host counts on the schedule: with karras 0.5 comes "
                                       "just before half of the steps."),
                io.Vae.Input("vae", optional=True,
                             tooltip="Only for ControlNets that encode their map (SD3, Flux); SD 1.5 needs none."),
            ],
            outputs=[
                io.Conditioning.Output("POSITIVE", display_name="positive", tooltip="Positive with all controls."),
                io.Conditioning.Output("NEGATIVE", display_name="negative", tooltip="Negative with all controls."),
            ])

    @classmethod
    def execute(cls, positive: io.Conditioning.Type, negative: io.Conditioning.Type, lineart_end_percent: float,
                vae: io.Vae.Type | None = None, **inputs: Any) -> io.NodeOutput:
        maps = [scene_map(name, inputs.get(f"{name}_map"), inputs.get(f"{name}_control_net"),
                          inputs[f"{name}_strength"], lineart_end_percent if name == "lineart" else 1.0)
                for name, *_ in _CONTROLS]
        return io.NodeOutput(*apply_scene(positive, negative, [scene for scene in maps if scene], vae))


class CamouflageIdentityControl(io.ComfyNode):
    """The control that knows the original."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageIdentityControl", display_name="Identity Control", category=CONTROL,
            search_aliases=["identity controlnet", "tile controlnet", "reconstruct original"],
            description="Makes the conditioning that the guidance moves away from: an empty prompt and a ControlNet "
                        "that sees the original and would reconstruct it. Never connect it as positive.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="Conditioning of the empty prompt, without controls."),
                io.ControlNet.Input("control_net",
                                    tooltip="A ControlNet that reconstructs its hint. One with 4 hint channels sees "
                                            "the VAE encoding, as in the paper; one with 3 sees the picture (the "
                                            "public tile ControlNet can take its place). The file says which of the "
                                            "two it is."),
                io.Image.Input("image", tooltip="The original at working size, from 'Prepare Image'."),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.05,
                               tooltip="How strongly the original is reconstructed, 0 to 10; 0 leaves the control out, "
                                       "and the guidance then moves away from an unconditioned prediction. Our choice: "
                                       "1."),
                io.Vae.Input("vae", optional=True,
                             tooltip="Needed for a ControlNet with 4 hint channels: the VAE of the sampled model."),
            ],
            outputs=[io.Conditioning.Output("IDENTITY", display_name="identity",
                                            tooltip="For 'identity' of the guider or the guidance patch.")])

    @classmethod
    def execute(cls, conditioning: io.Conditioning.Type, control_net: io.ControlNet.Type, image: io.Image.Type,
                strength: float, vae: io.Vae.Type | None = None) -> io.NodeOutput:
        return io.NodeOutput(apply_identity(conditioning, control_net, image, strength, vae))


NODES = [CamouflageEncodeCaptions, CamouflageNegativePrompt, CamouflageSceneControl, CamouflageIdentityControl]
