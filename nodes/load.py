"""Loading many photos."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy.loading import UNREADABLE, fingerprint, load_photos
from ..camouflage.comfy.messages import show, warn
from .common import IMAGE_TOOLS, LOAD, schema


class CamouflageLoadPhotos(io.ComfyNode):
    """Photos of a folder, in batches of one size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageLoadPhotos", display_name="Load Photos", category=LOAD,
            search_aliases=["load images from folder", "load folder", "batch", "directory", "dataset"],
            essentials_category=IMAGE_TOOLS,
            description="Loads the photos of a folder, or of a list, inside ComfyUI's input folder: upright, without "
                        "metadata, in sRGB, one batch after the other. What follows runs once for every batch. For "
                        "many photos use `run.py anonymize`: it can be stopped and goes on.",
            inputs=[
                io.String.Input("photos", default="", multiline=True,
                                tooltip="A folder inside ComfyUI's input folder, with its sub-folders, or several "
                                        "files, one a line; '/' separates folders. '.' is the whole input folder."),
                io.Int.Input("batch_size", default=1, min=1, max=64, step=1,
                             tooltip="The most photos of one size that go through together, 1 to 64. More need more "
                                     "memory. Where one of a batch is refused, the whole batch is."),
                io.Combo.Input("unreadable", options=list(UNREADABLE), default=UNREADABLE[0],
                               tooltip="What to do with files that cannot be read: 'stop' names them in an error, "
                                       "'skip' leaves them out and says so."),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", is_output_list=True,
                                tooltip="A list of batches, each of photos of one size, in the order of the first of "
                                        "each."),
                io.String.Output("NAMES", display_name="names", is_output_list=True,
                                 tooltip="For every batch the names of its photos, one a line. They can tell who is in "
                                         "a photo: do not save them with the result."),
            ])

    @classmethod
    def execute(cls, photos: str, batch_size: int, unreadable: str) -> io.NodeOutput:
        loaded = load_photos(photos, batch_size, unreadable)
        count = sum(len(batch) for batch in loaded.batches)
        text = f"Loaded: {count} in {len(loaded.batches)} batches"
        if loaded.skipped:
            warn(f"{text}. Left out: {'; '.join(loaded.skipped)}")
        else:
            show(text)
        return io.NodeOutput(loaded.batches, ["\n".join(names) for names in loaded.names])

    @classmethod
    def fingerprint_inputs(cls, photos: str, **_: object) -> str:
        return fingerprint(photos)


NODES = [CamouflageLoadPhotos]
