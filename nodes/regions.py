"""Other regions than faces; and what was found or covered, for other tools."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy import regions
from ..camouflage.comfy.messages import show
from ..camouflage.comfy.saving_masks import save_regions
from ..camouflage.comfy.weights import FOLDER
from .common import VERIFY, FileInput, schema
from .types import BoundingBoxType, boxes_input

_NONE = "no detector yet"


class CamouflageFindRegions(io.ComfyNode):
    """Finds licence plates, or whatever a detector of the user's own finds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageFindRegions", display_name="Find Regions", category=VERIFY,
            search_aliases=["licence plate", "license plate", "number plate", "YOLO", "object detection", "ONNX"],
            advanced=["resolution", "tiles"],
            description="Finds other things than faces that must go, such as licence plates, with a YOLO detector that "
                        "you supply as an ONNX file; connect 'boxes' to 'regions' of 'Redact'. How many it misses "
                        "(its recall) is not measured here and depends on your file: look at every result.",
            inputs=[
                io.Image.Input("image", tooltip="The photos, 64 px a side to 100 megapixels; any batch."),
                FileInput("model", options=regions.names() or [_NONE],
                          tooltip=f"ONNX file in models/{FOLDER}/{regions.UNDER}: a YOLO detector with one output in "
                                  "the layout of v8, v5 or end to end. None comes with this extension, and none was "
                                  "tested by us: recall not measured. New files appear after a reload of the page."),
                io.Float.Input("threshold", default=0.25, min=0.01, max=1.0, step=0.01,
                               tooltip="Least score of a region, 0.01 to 1. Lower finds more, and more that is none; "
                                       "to redact, lower is the safer side. 0.25 is what such detectors usually take."),
                io.String.Input("labels", default="",
                                tooltip="Which classes count: names or numbers from 0, with commas between them, for "
                                        "instance 'licence plate' or '0, 2'. Empty: all classes of the file."),
                io.Int.Input("resolution", default=640, min=64, max=2048, step=32,
                             tooltip="Side of the square in px at which the detector sees a picture, 64 to 2048, where "
                                     "its file leaves that open; most files have a size of their own, which counts."),
                io.Boolean.Input("tiles", default=True,
                                 tooltip="Look at pictures that are more than twice as large as the detector sees them "
                                         "in overlapping tiles, too: small things are found that vanish in the whole "
                                         "picture. Takes a look for each tile."),
            ],
            outputs=[
                BoundingBoxType.Output("BOUNDING_BOX", display_name="boxes",
                                       tooltip="For each picture its regions, the best first: x, y, width, height in "
                                               "px, label, score. None is a valid result. Recall not measured."),
                io.Mask.Output("MASK", display_name="mask",
                               tooltip="1 inside of these boxes, 0 elsewhere. Recall not measured."),
            ])

    @classmethod
    def fingerprint_inputs(cls, model: str, **others: object) -> str:
        """The file's digest: a changed file is read again."""
        return regions.digest(model)

    @classmethod
    def execute(cls, image: io.Image.Type, model: str, threshold: float, labels: str, resolution: int,
                tiles: bool) -> io.NodeOutput:
        boxes, mask = regions.find_regions(image, model, threshold, labels, resolution, tiles)
        show(f"Regions: {', '.join(str(len(ones)) for ones in boxes)} (recall not measured)")
        return io.NodeOutput(boxes, mask)


class CamouflageSaveMasks(io.ComfyNode):
    """Saves what was covered, for other tools."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageSaveMasks", display_name="Save Masks And Boxes", category=VERIFY, is_output_node=True,
            search_aliases=["COCO", "mask to file", "export annotations", "bounding boxes JSON"],
            description="Saves where something was found or covered: a PNG mask for each picture, and one JSON file in "
                        "COCO's format with all boxes. No picture, name of a source, time or machine is in them. It "
                        "never writes over a file.",
            inputs=[
                io.Image.Input("image", tooltip="The pictures, for their number and size alone; any batch, up to 100 "
                                                "megapixels. Their pixels are not saved."),
                io.String.Input("filename_prefix", default="masks/camouflage",
                                tooltip="How the names begin, inside the output folder; '/' makes subfolders. A number "
                                        "follows: masks/camouflage_00001.png, and masks/camouflage_coco_00001.json. "
                                        "Do not write anything that tells who is in the picture."),
                io.Mask.Input("mask", optional=True,
                              tooltip="'mask' of 'Redact' or 'Find Regions', of the pictures' size: one for each, or "
                                      "one for all. Written with 8 bits: 255 where it is 1. Not connected: drawn from "
                                      "the boxes."),
                boxes_input("'boxes' of 'Redact' or 'Find Regions' (x, y, width, height in px, and a label, which is "
                            "written as it is): a list for the picture, or a list for each. Not connected: the JSON "
                            "file has no boxes."),
            ],
            outputs=[io.String.Output("FILES", display_name="files", is_output_list=True,
                                      tooltip="A list with the path of every mask, and then of the JSON file, relative "
                                              "to the output folder.")])

    @classmethod
    def execute(cls, image: io.Image.Type, filename_prefix: str, mask: io.Mask.Type | None = None,
                boxes: object = None) -> io.NodeOutput:
        files = save_regions(image, mask, boxes, filename_prefix)
        show(f"Saved: {', '.join(files)}")
        places = [file.rpartition("/") for file in files[:-1]]
        return io.NodeOutput(files, ui={"images": [{"filename": name, "subfolder": folder, "type": "output"}
                                                   for folder, _, name in places]})


NODES = [CamouflageFindRegions, CamouflageSaveMasks]
