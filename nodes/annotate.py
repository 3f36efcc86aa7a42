"""Annotators: IMAGE to control maps, caption, and the working size."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy.annotators import body_pose, controlnet_aux_models, transformers_models
from ..camouflage.comfy.prepare import prepare
from ..camouflage.comfy.weights import model_folders
from .common import ANNOTATE, FileInput, image_input, resolution_input, schema

_FITS = ["crop", "stretch", "square"]
_LINEART_STYLES = ["fine", "coarse", "standard"]
_OPENPOSE, _VITPOSE = _POSES = ["OpenPose", "ViTPose"]


class CamouflagePrepareImage(io.ComfyNode):
    """Brings a photo to the size that the pipelines sample at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflagePrepareImage", display_name="Prepare Image", category=ANNOTATE,
            search_aliases=["resize photo", "scale to working size", "anonymize"],
            advanced=["fit"],
            description="Scales a photo to the working size: longer side as given, both sides multiples of 64 px, "
                        "aspect kept, Lanczos; or only the square at its centre. Connect its picture to everything "
                        "that looks at the original, and its width, height and batch size to the empty latent.",
            inputs=[
                image_input("to prepare", "up to 100 megapixels each"),
                io.Int.Input("size", default=768, min=64, max=4096, step=64,
                             tooltip="Pixels of the longer side, or of every side of the square, 64 to 4096. 768 is "
                                     "the paper's size for SD 1.5."),
                io.Combo.Input("fit", options=_FITS, default="crop",
                               tooltip="How both sides become multiples of 64 px: 'crop' keeps the proportions and "
                                       "cuts a few pixels off the border; 'stretch' keeps every pixel and changes the "
                                       "proportions by a few percent; both are our choice. 'square' gives the shorter "
                                       "side 'size' and keeps only the square at the centre, as the authors' code for "
                                       "Light does: what lies outside of it is not in the result."),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The pictures at working size, RGB."),
                io.Int.Output("WIDTH", display_name="width", tooltip="Their width in px, a multiple of 64."),
                io.Int.Output("HEIGHT", display_name="height", tooltip="Their height in px, a multiple of 64."),
                io.Int.Output("BATCH_SIZE", display_name="batch_size", tooltip="How many pictures there are."),
            ])

    @classmethod
    def execute(cls, image: io.Image.Type, size: int, fit: str) -> io.NodeOutput:
        prepared = prepare(image, size, fit)
        return io.NodeOutput(prepared, prepared.shape[2], prepared.shape[1], prepared.shape[0])


class CamouflageDepthMap(io.ComfyNode):
    """Depth map."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageDepthMap", display_name="Depth Map", category=ANNOTATE,
            search_aliases=["depth annotator", "depth anything", "controlnet preprocessor"],
            description="Depth of the scene: white is near, black is far, and each picture uses the full range. For "
                        "the ControlNet control_v11f1p_sd15_depth.",
            inputs=[
                image_input("to look at"), resolution_input(),
                FileInput("model", options=model_folders("depth"),
                          tooltip="Folder in models/camouflage/depth with a transformers depth model "
                                  "(config.json, safetensors)."),
            ],
            outputs=[io.Image.Output("IMAGE", display_name="depth map",
                                     tooltip="One map a picture, grey, at the picture's size.")])

    @classmethod
    def execute(cls, image: io.Image.Type, resolution: int, model: str) -> io.NodeOutput:
        return io.NodeOutput(transformers_models.depth_maps(image, model, resolution))


class CamouflageNormalMap(io.ComfyNode):
    """Surface normal map."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageNormalMap", display_name="Normal Map", category=ANNOTATE,
            search_aliases=["surface normals", "NormalBae", "controlnet preprocessor"],
            description="Directions of all surfaces (NormalBae). For the ControlNet control_v11p_sd15_normalbae. "
                        "Weights: models/camouflage/normal.",
            inputs=[image_input("to look at"), resolution_input()],
            outputs=[io.Image.Output("IMAGE", display_name="normal map",
                                     tooltip="One map a picture at the picture's size; red, green, blue are x, y, z.")])

    @classmethod
    def execute(cls, image: io.Image.Type, resolution: int) -> io.NodeOutput:
        return io.NodeOutput(controlnet_aux_models.normal_maps(image, resolution))


class CamouflageSegmentationMap(io.ComfyNode):
    """Semantic segmentation map."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageSegmentationMap", display_name="Segmentation Map", category=ANNOTATE,
            search_aliases=["semantic segmentation", "ADE20K", "UperNet", "controlnet preprocessor"],
            description="Semantic segmentation: one colour for each of the 150 classes of ADE20K. For the ControlNet "
                        "control_v11p_sd15_seg.",
            inputs=[
                image_input("to look at"), resolution_input(),
                FileInput("model", options=model_folders("segmentation"),
                          tooltip="Folder in models/camouflage/segmentation with a transformers model trained on "
                                  "ADE20K (UperNet, SegFormer, Mask2Former or OneFormer; config.json, "
                                  "safetensors)."),
            ],
            outputs=[io.Image.Output("IMAGE", display_name="segmentation map",
                                     tooltip="One map a picture at the picture's size, palette colours only.")])

    @classmethod
    def execute(cls, image: io.Image.Type, resolution: int, model: str) -> io.NodeOutput:
        return io.NodeOutput(transformers_models.segmentation_maps(image, model, resolution))


class CamouflagePoseMap(io.ComfyNode):
    """OpenPose skeletons."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflagePoseMap", display_name="Pose Map", category=ANNOTATE,
            search_aliases=["OpenPose", "ViTPose", "skeleton", "keypoints", "controlnet preprocessor"],
            advanced=["network"],
            description="Poses of all persons: OpenPose skeletons on black. For the ControlNet "
                        "control_v11p_sd15_openpose. Weights: models/camouflage/pose (academic research only), or for "
                        "'network' ViTPose models/camouflage/persons and models/camouflage/keypoints (any use).",
            inputs=[
                image_input("to look at"), resolution_input(),
                io.Boolean.Input("hands", default=True, tooltip="Also draw the fingers where hands are found."),
                io.Boolean.Input("face", default=False,
                                 tooltip="Also draw 70 keypoints of each face. Off by default: the shape of a face "
                                         "describes a person and helps to recognise them."),
                io.Combo.Input("network", options=_POSES, default=_OPENPOSE, optional=True,
                               tooltip="Who looks. 'OpenPose' is what the ControlNet was trained with; its weights are "
                                       "for academic research only. 'ViTPose' (persons found by RT-DETR) may be used "
                                       "for any purpose, and draws bodies alone, whatever 'hands' and 'face' say. Our "
                                       "choice; the paper does not say."),
            ],
            outputs=[io.Image.Output("IMAGE", display_name="pose map",
                                     tooltip="One map a picture at the picture's size; black where nobody is found.")])

    @classmethod
    def execute(cls, image: io.Image.Type, resolution: int, hands: bool, face: bool,
                network: str = _OPENPOSE) -> io.NodeOutput:
        if network == _VITPOSE:
            return io.NodeOutput(body_pose.body_pose_maps(image, resolution))
        return io.NodeOutput(controlnet_aux_models.pose_maps(image, resolution, hands, face))


class CamouflageLineartMap(io.ComfyNode):
    """Line drawing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageLineartMap", display_name="Lineart Map", category=ANNOTATE,
            search_aliases=["line drawing", "sketch", "edges", "controlnet preprocessor"],
            description="The picture as a line drawing, white on black. For the ControlNet control_v11p_sd15_lineart. "
                        "Lines describe faces, so 'Scene Control' uses them only in the first half of the noise "
                        "schedule.",
            inputs=[
                image_input("to draw"), resolution_input(),
                io.Combo.Input("style", options=_LINEART_STYLES, default="coarse",
                               tooltip="'fine' and 'coarse' draw with a network (weights: models/camouflage/lineart); "
                                       "'coarse' keeps less of a face. 'standard' needs no weights: it compares the "
                                       "picture with a blurred copy. Our choice; the paper does not say."),
            ],
            outputs=[io.Image.Output("IMAGE", display_name="lineart map",
                                     tooltip="One drawing a picture at the picture's size, white on black.")])

    @classmethod
    def execute(cls, image: io.Image.Type, resolution: int, style: str) -> io.NodeOutput:
        return io.NodeOutput(controlnet_aux_models.lineart_maps(image, resolution, style))


class CamouflageCaption(io.ComfyNode):
    """BLIP caption."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageCaption", display_name="Caption", category=ANNOTATE,
            search_aliases=["BLIP", "describe image", "image to text"],
            advanced=["max_tokens", "beams"],
            description="Describes a picture in words (BLIP), for the prompt. One caption for each picture; for a "
                        "batch connect it to 'Encode Captions', which gives every picture its own.",
            inputs=[
                image_input("to describe"),
                FileInput("model", options=model_folders("caption"),
                          tooltip="Folder in models/camouflage/caption with a BLIP captioning model (config.json, "
                                  "safetensors)."),
                io.String.Input("prefix", default="", multiline=False,
                                tooltip="Words with which the caption starts, for instance 'a photo of'. Empty: none."),
                io.Int.Input("max_tokens", default=40, min=5, max=75, step=1,
                             tooltip="Length of the longest caption in tokens, 5 to 75; CLIP reads 75 at once."),
                io.Int.Input("beams", default=3, min=1, max=10, step=1,
                             tooltip="Width of the beam search: how many captions are compared, 1 to 10; 1 is the "
                                     "fastest. Never random: the same picture gives the same words."),
            ],
            outputs=[io.String.Output("STRING", display_name="caption", is_output_list=True,
                                      tooltip="A list with one caption a picture, in the order of the batch.")])

    @classmethod
    def execute(cls, image: io.Image.Type, model: str, prefix: str, max_tokens: int, beams: int) -> io.NodeOutput:
        return io.NodeOutput(transformers_models.captions(image, model, prefix, max_tokens, beams))


NODES = [CamouflagePrepareImage, CamouflageDepthMap, CamouflageNormalMap, CamouflageSegmentationMap,
         CamouflagePoseMap, CamouflageLineartMap, CamouflageCaption]
