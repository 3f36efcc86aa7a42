"""Faces: reading them, editing what is known about them, looking at it, and the map for the Light adapter."""

from __future__ import annotations

import json

import comfy.model_management as mm
from comfy_api.latest import io

from ..camouflage.comfy.face_facts import face_facts, tell_faces
from ..camouflage.comfy.face_preview import preview
from ..camouflage.comfy.faces import read_faces
from ..camouflage.comfy.light_adapter import LightAdapter
from ..camouflage.comfy.messages import show, warn
from ..camouflage.errors import CamouflageError
from ..camouflage.images import ASPECT_TOLERANCE
from ..camouflage.method.attribute_map import (
    MAX_GROW,
    MAX_LATENT,
    MAX_RADIUS,
    PROBABILITIES,
    REGIONS,
    SIGNED,
    AttributeMap,
    as_picture,
    attribute_map,
)
from ..camouflage.method.attributes import PRESETS, edit
from ..camouflage.method.faces import Faces
from ..camouflage.method.known import without_face
from .common import LIGHT, image_input, schema
from .types import AttributeMapType, FacesType, LightAdapterType, boxes_input

_AS_WRITTEN = "as in the edits"


def _faces_input(what: str) -> io.Input:
    return FacesType.Input("faces", tooltip=f"{what}, from 'Face Attributes' or 'Edit Attributes'.")


def _report(faces: Faces, alone: list[int]) -> None:
    """Says on the node what was found; a picture, or a person's area (``alone``), without a face is worth a warning."""
    if any(alone):
        where = ", ".join(f"picture {i}: {count}" for i, count in enumerate(alone) if count)
        warn(f"Person areas without a face: {where}. Nothing steers these persons. Draw a box around each face and "
             "connect it to 'boxes', or lower 'threshold' and 'smallest_face'. If nobody's face is there (a back, a "
             "hand that something cuts off), this is as it should be.")
        return
    empty = [str(i) for i, picture in enumerate(faces.pictures) if not picture.faces]
    if empty:
        which = "" if len(faces.pictures) == 1 else f" in picture {', '.join(empty)} (counted from 0)"
        warn(f"No face found{which}. If there is one, lower 'threshold' and 'smallest_face'.")
    else:
        show(f"Faces: {', '.join(str(len(picture.faces)) for picture in faces.pictures)}")


class CamouflageFaceAttributes(io.ComfyNode):
    """Reads faces with FACER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageFaceAttributes", display_name="Face Attributes", category=LIGHT,
            search_aliases=["detect faces", "face detection", "FACER", "CelebA attributes"],
            advanced=["smallest_face", "landmarks"],
            description="Finds every face and reads it with FACER: box, five keypoints, the 40 CelebA attributes as "
                        "probabilities and, if wanted, 68 landmarks. A picture without a face is a valid, empty "
                        "result that is said here. What you know of persons, boxes of faces and masks, only ever adds "
                        "faces. Weights: models/camouflage/faces. Needs the package pyfacer.",
            inputs=[
                image_input("to read"),
                io.Float.Input("threshold", default=0.5, min=0.05, max=0.99, step=0.01,
                               tooltip="Lowest score of a detection, 0.05 to 0.99. A low value finds more faces, and "
                                       "also things that are no faces: the safe side, because a missed face is not in "
                                       "the map. FACER's own default is 0.8; 0.5 is our choice."),
                io.Int.Input("smallest_face", default=0, min=0, max=4096, step=1,
                             tooltip="Faces whose box (before it is clipped to the picture) has a side shorter than "
                                     "this many px are left out, 0 to 4096. 0 keeps every face."),
                io.Boolean.Input("landmarks", default=False,
                                 tooltip="Also read 68 landmarks of each face, for the map's region 'landmarks'. Off "
                                         "by default: it is slower, the map's keypoints do not need it, and its "
                                         "weights are a TorchScript program that you must approve first (the error "
                                         "says how)."),
                boxes_input("Faces that you know of, from a node that draws or finds boxes (BOUNDING_BOX): in px of "
                            "'image', one list for all pictures or one for each. A box on which no face was found "
                            "adds one, whatever 'smallest_face' says; the others add nothing. No box ever removes a "
                            "face."),
                io.Mask.Input("person_mask", optional=True,
                              tooltip="Where persons are, 0 (nobody) to 1 (a person): one mask for each picture, or "
                                      "one for all. Persons without a face are looked at again, enlarged; who stays "
                                      "without one is said here. It never removes a face."),
            ],
            outputs=[FacesType.Output("FACES", display_name="faces",
                                      tooltip="The faces of every picture of the batch; none is a valid result.")])

    @classmethod
    def execute(cls, image: io.Image.Type, threshold: float, smallest_face: int, landmarks: bool,
                boxes: object = None, person_mask: io.Mask.Type | None = None) -> io.NodeOutput:
        faces = read_faces(image, threshold, smallest_face, landmarks, boxes, person_mask)
        _report(faces, without_face(faces, person_mask, "person_mask"))
        return io.NodeOutput(faces)


class CamouflageEditAttributes(io.ComfyNode):
    """Keeps, sets or forgets attributes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageEditAttributes", display_name="Edit Attributes", category=LIGHT,
            search_aliases=["change age", "change expression", "CelebA attributes"],
            description="Decides, for each person, which attributes are kept, set to a probability, or forgotten. What "
                        "is forgotten is not in the map any more.",
            inputs=[
                _faces_input("The faces to edit"),
                io.Combo.Input("preset", options=[*PRESETS, _AS_WRITTEN], default="paper",
                               tooltip="What is kept before the edits below: 'all' and 'paper' keep all 40; "
                                       "'demographics only' sex, age, skin and hair colour; 'no demographics' drops "
                                       "these and what reveals them (beard, make-up, jewellery); 'expression only' "
                                       f"smile and open mouth; '{_AS_WRITTEN}' what the text below says in 'preset'. "
                                       "The groups are our choice."),
                io.String.Input("edits", default="", multiline=True,
                                tooltip='JSON: {"persons": {"all": {"Smiling": 0.9}, "1": {"Male": "forget"}}}. '
                                        'Persons are counted from 0 from left to right; "0:1" is person 1 of '
                                        'picture 0. Values: "keep", "forget", or a probability, 0 (certainly not) to '
                                        "1 (certainly). Empty: the preset alone."),
            ],
            outputs=[FacesType.Output("FACES", display_name="faces",
                                      tooltip="The same faces with the edited attributes.")])

    @classmethod
    def execute(cls, faces: Faces, preset: str, edits: str) -> io.NodeOutput:
        facts = face_facts(faces)
        try:
            edited = _edited(faces, preset, edits)
        except CamouflageError:
            tell_faces(facts)  # edits of persons who are not there any more: the page must know who is
            raise
        return io.NodeOutput(edited, ui=facts)


def _edited(faces: Faces, preset: str, edits: str) -> Faces:
    if preset == _AS_WRITTEN:
        return edit(faces, edits)
    # The edits are read on their own first: `edit` checks them, and names their own preset if they have one.
    edit(faces, edits)
    written = json.loads(edits) if edits.strip() else {}
    if "preset" in written and written["preset"] != preset:
        raise CamouflageError(f"'preset' is '{preset}', but 'edits' names '{written['preset']}'. Remove it from the "
                              f"edits, or set 'preset' to '{_AS_WRITTEN}'.")
    return edit(faces, json.dumps({**written, "preset": preset}))


class CamouflageFacePreview(io.ComfyNode):
    """Draws faces into the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageFacePreview", display_name="Face Preview", category=LIGHT,
            search_aliases=["draw face boxes", "show faces"],
            description="The pictures with every face's box, keypoints, landmarks, person number (as 'Edit Attributes' "
                        "counts), detection score and leading attributes. It shows the original persons: do not "
                        "publish it.",
            inputs=[
                image_input("that the faces were read from", "the same size and number"),
                _faces_input("The faces to draw"),
                io.Int.Input("attributes", default=3, min=0, max=40, step=1,
                             tooltip="How many attributes are named for each person, the likeliest first and only "
                                     "from probability 0.5, 0 to 40. 0 names none."),
            ],
            outputs=[io.Image.Output("IMAGE", display_name="image",
                                     tooltip="The pictures with the drawing, RGB, at their own size.")])

    @classmethod
    def execute(cls, image: io.Image.Type, faces: Faces, attributes: int) -> io.NodeOutput:
        if not faces.count:
            show("No face to draw.")
        return io.NodeOutput(preview(image, faces, attributes).to(mm.intermediate_device()))


class CamouflageAttributeMap(io.ComfyNode):
    """The 41-channel map."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageAttributeMap", display_name="Attribute Map", category=LIGHT,
            search_aliases=["face map", "41 channels", "adapter hint"],
            advanced=["grow", "keypoint_radius"],
            description="Draws attributes (40 channels) and keypoints (one channel) into each face's own region at "
                        "latent size, for 'Apply Light Adapter'. Where regions overlap, every cell belongs to one "
                        "face alone. Without a face the map is zero. How attributes and regions are written is the "
                        "encoding of 'adapter': an adapter understands the one that it was trained with.",
            inputs=[
                _faces_input("The faces to draw"),
                io.Int.Input("width", default=768, min=64, max=8 * MAX_LATENT, step=8,
                             tooltip=f"Width in px of the picture to sample, 64 to {8 * MAX_LATENT}; the map has one "
                                     "cell for 8 px. Connect the width of 'Prepare Image'. Not used when a latent is "
                                     "connected."),
                io.Int.Input("height", default=768, min=64, max=8 * MAX_LATENT, step=8,
                             tooltip=f"Height in px of the picture to sample, 64 to {8 * MAX_LATENT}. Connect the "
                                     "height of 'Prepare Image'. Not used when a latent is connected."),
                io.Combo.Input("region", options=list(REGIONS), default="box",
                               tooltip="Where a face is written: its 'box', the box 'grown' by a factor, or the hull "
                                       "of its 'landmarks' (which must be read first). Our choice. The encoding "
                                       f"'{PROBABILITIES.name}' has the box alone."),
                io.Float.Input("grow", default=1.25, min=1.0, max=MAX_GROW, step=0.05,
                               tooltip=f"Factor on the box's sides for the region 'grown', 1 to {MAX_GROW:g}; 1 is the "
                                       "box itself. 1.25 is our choice."),
                io.Float.Input("keypoint_radius", default=1.5, min=1.0, max=MAX_RADIUS, step=0.1,
                               tooltip="Radius of a keypoint's spot in latent cells (8 px), 1 to "
                                       f"{MAX_RADIUS:g}. Our choice. In the encoding '{PROBABILITIES.name}' a keypoint "
                                       "is one cell, and this is not used."),
                io.Latent.Input("latent", optional=True,
                                tooltip="The latent to sample; the map takes its size. Without it width and height "
                                        "count."),
                LightAdapterType.Input("adapter", optional=True,
                                       tooltip="From 'Load Light Adapter': the adapter that reads this map, which is "
                                               "drawn in the encoding that it was trained with. Without it: "
                                               f"'{SIGNED.name}'."),
            ],
            outputs=[AttributeMapType.Output("ATTRIBUTE_MAP", display_name="attribute map",
                                             tooltip="Batch x 41 x height / 8 x width / 8, with its encoding: "
                                                     f"attributes -1 (absent) to 1 (present) in '{SIGNED.name}', "
                                                     f"probabilities in '{PROBABILITIES.name}'; 0 where no face is."),
                     io.Image.Output("PREVIEW", display_name="preview",
                                     tooltip="The map as a picture, 8 px for each cell: persons in colours that follow "
                                             "their attributes, keypoints white, black where nothing is known.")])

    @classmethod
    def execute(cls, faces: Faces, width: int, height: int, region: str, grow: float, keypoint_radius: float,
                latent: io.Latent.Type | None = None, adapter: LightAdapter | None = None) -> io.NodeOutput:
        rows, columns = (height // 8, width // 8) if latent is None else latent["samples"].shape[-2:]
        if latent is None and (height % 8 or width % 8):
            raise CamouflageError(f"'width' and 'height' are {width} x {height} px, but must be multiples of 8 px.")
        for i, picture in enumerate(faces.pictures):
            if abs((picture.width / picture.height) / (columns / rows) - 1) > ASPECT_TOLERANCE:
                raise CamouflageError(f"The faces of picture {i} (counted from 0) were read from {picture.width} x "
                                      f"{picture.height} px, but the map is for {8 * columns} x {8 * rows} px: "
                                      "another shape, so it would not lie where the faces are. Read the faces from the "
                                      "prepared picture and take width and height from 'Prepare Image'.")
        if not faces.count:
            warn("No face: the map is zero, and the Light adapter gets nothing to keep persons by.")
        encoding = SIGNED if adapter is None else adapter.encoding
        drawn = AttributeMap(attribute_map(faces, rows, columns, region, grow, keypoint_radius,
                                           mm.intermediate_device(), encoding=encoding), encoding)
        return io.NodeOutput(drawn, as_picture(drawn))


NODES = [CamouflageFaceAttributes, CamouflageEditAttributes, CamouflageFacePreview, CamouflageAttributeMap]
