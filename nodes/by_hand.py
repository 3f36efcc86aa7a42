"""Faces that a person draws."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.method.by_hand import FITS, boxes_by_hand
from .common import VERIFY, schema
from .types import BoundingBoxType


class CamouflageFacesByHand(io.ComfyNode):
    """Boxes around faces, drawn on the photo or written."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageFacesByHand", display_name="Faces By Hand", category=VERIFY,
            search_aliases=["draw boxes", "bounding box", "draw face boxes", "exempt person", "missed face"],
            description="Boxes around faces that you know of: draw them on the photo, or write them. Connect the "
                        "output to a socket 'boxes' for faces that no detector finds, or to a socket 'exempt' for "
                        "persons who stay as they are by consent.",
            inputs=[
                io.Image.Input("image", tooltip="The very pictures that are connected to the node that gets the boxes, "
                                                "any batch. Only their size is used. On the photo of 'Load Image' "
                                                "behind it you draw."),
                io.String.Input("boxes", default="", multiline=True,
                                placeholder='[{"x": 10, "y": 20, "width": 30, "height": 40}]',
                                tooltip='JSON: [{"x": 10, "y": 20, "width": 30, "height": 40}], in px of \'image\', x '
                                        "and y of the upper left corner. A list of boxes counts for every picture; a "
                                        "list of lists has one for each. What you draw is written here, in px of the "
                                        "loaded photo and with its size ('drawn_on'). Empty: no box."),
                io.Combo.Input("fit", options=list(FITS), default=FITS[0],
                               tooltip="How 'image' came from the photo on which you drew, as in 'Prepare Image': "
                                       "'crop' was scaled and cut at the centre, also to a square; 'stretch' was "
                                       "scaled on each side for itself. A photo that was not changed, and boxes that "
                                       "are written in px of 'image', do not need it."),
            ],
            outputs=[BoundingBoxType.Output("BOUNDING_BOX", display_name="boxes",
                                            tooltip="For each picture its boxes in whole px of 'image': x, y, width, "
                                                    "height. No box is a valid result.")])

    @classmethod
    def execute(cls, image: io.Image.Type, boxes: str, fit: str) -> io.NodeOutput:
        count, height, width = image.shape[:3]
        return io.NodeOutput(boxes_by_hand(boxes, count, height, width, fit))


NODES = [CamouflageFacesByHand]
