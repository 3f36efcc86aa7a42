"""Loading many photos."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy.loading import fingerprint, in_words, load_photos
from ..camouflage.comfy.messages import logger, show
from .common import IMAGE_TOOLS, LOAD, schema

_STOP, _SKIP = "stop", "skip"


class CamouflageLoadPhotos(io.ComfyNode):
    """Photos of a folder, in batches of one size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageLoadPhotos", display_name="Load Photos", category=LOAD,
            search_aliases=["load images from folder", "load folder", "batch", "directory", "dataset"],
            essentials_category=IMAGE_TOOLS,
            description="Loads the photos of a folder, or of a list, inside ComfyUI's input folder: upright, opaque, "
                        "without metadata, in sRGB, as batches of one size. What follows runs once for every batch, "
                        "and all batches are in memory at once. For many photos use `run.py anonymize`: it can be "
                        "stopped and goes on.",
            inputs=[
                io.String.Input("photos", default="", multiline=True, placeholder="a folder, or files one per line",
                                tooltip="A folder inside ComfyUI's input folder, taken with its sub-folders in the "
                                        "sorted order of the paths; or several folders and files, one a line, in this "
                                        "order. '/' separates folders; '.' is the whole input folder. Nothing may "
                                        "lead out of it, no link either. What is hidden, and what does not end like "
                                        "a picture, is not taken from a folder."),
                io.Int.Input("batch_size", default=1, min=1, max=64, step=1,
                             tooltip="The most photos of one size that go through together, 1 to 64. 1 needs the "
                                     "least memory after this node."),
                io.Combo.Input("unreadable", options=[_STOP, _SKIP], default=_STOP,
                               tooltip="Photos that cannot be read, such as a damaged file: 'stop' ends the run with "
                                       "an error that names them; 'skip' leaves them out and names them on the node."),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", is_output_list=True,
                                tooltip="A list of batches, RGB, each of photos of one size, in the order of the first "
                                        "of each."),
                io.String.Output("NAMES", display_name="names", is_output_list=True,
                                 tooltip="For every batch the paths of its photos inside the input folder, one a line. "
                                         "They can tell who is in a photo: do not save them with the result."),
            ])

    @classmethod
    def fingerprint_inputs(cls, photos: object = None, **_: object) -> str | float:
        """Of the files as they are now: a changed folder is read again."""
        return fingerprint(photos)

    @classmethod
    def execute(cls, photos: str, batch_size: int, unreadable: str) -> io.NodeOutput:
        loaded = load_photos(photos, batch_size, unreadable == _SKIP)
        count = sum(len(batch) for batch in loaded.batches)
        text = f"Photos: {count}, batches: {len(loaded.batches)}."
        if loaded.left_out:  # the log gets no names, for they can identify
            logger.warning("%d photos that cannot be read were left out.", len(loaded.left_out))
            text += f" Left out, because they cannot be read: {in_words(loaded.left_out)}."
        show(text)
        return io.NodeOutput(loaded.batches, loaded.names)


NODES = [CamouflageLoadPhotos]
