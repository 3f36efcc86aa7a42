"""Saving what was verified."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy.messages import report_facts, show
from ..camouflage.comfy.saving import save_pictures
from ..camouflage.output.encoding import FORMATS
from ..camouflage.verification.report import Report
from .common import IMAGE_TOOLS, VERIFY, schema
from .types import ReportType


class CamouflageSaveImage(io.ComfyNode):
    """Saves verified pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageSaveImage", display_name="Save Anonymized", category=VERIFY, is_output_node=True,
            search_aliases=["save without metadata", "strip metadata", "remove EXIF", "GDPR"],
            essentials_category=IMAGE_TOOLS,
            advanced=["quality"],
            description="Saves pictures whose report says that they pass, and refuses all others: no report, a report "
                        "of other pixels, or a person who is neither safe nor redacted. The files hold pixels and "
                        "nothing else: no workflow, prompt, EXIF, XMP, colour profile or time. It never writes over a "
                        "file.",
            inputs=[
                io.Image.Input("image", tooltip="The verified pictures, exactly as 'Verify' or 'Safe Sampler' "
                                                "gave them; any batch. If one is refused, none is saved."),
                ReportType.Input("report", tooltip="The report of the same node. It is bound to these pixels: one "
                                                   "grey level more, and it does not fit any longer."),
                io.String.Input("filename_prefix", default="camouflage",
                                tooltip="How the names begin, inside the output folder; '/' makes subfolders. A number "
                                        "follows: camouflage_00001.png. '%' is not allowed, because placeholders are "
                                        "not replaced. Do not write anything that tells who is in the picture."),
                io.Combo.Input("format", options=list(FORMATS), default=FORMATS[0],
                               tooltip="PNG keeps every pixel. JPEG (4:4:4) and WebP below quality 100 change pixels, "
                                       "so the file's own pixels are verified again before it is written."),
                io.Int.Input("quality", default=95, min=1, max=100, step=1,
                             tooltip="Of JPEG and WebP, 1 (smallest file) to 100 (best); WebP is lossless at 100. PNG "
                                     "does not use it."),
                io.Boolean.Input("manifest", default=True,
                                 tooltip="Also write a JSON file with the same number: verdicts, distances, threshold, "
                                         "detectors, recogniser, seed, anonymization scale, and SHA-256 of the models "
                                         "and of the pixels. No embedding, no source name, no time."),
            ],
            outputs=[io.String.Output("FILES", display_name="files", is_output_list=True,
                                      tooltip="A list with the path of every saved picture, relative to the output "
                                              "folder; manifests have the same name with .json.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id])

    @classmethod
    def execute(cls, image: io.Image.Type, report: Report, filename_prefix: str, format: str, quality: int,
                manifest: bool) -> io.NodeOutput:
        hidden = cls.hidden  # the prompt is only looked through for model files
        files = save_pictures(image, report, filename_prefix, format, quality, manifest,
                              getattr(hidden, "prompt", None), getattr(hidden, "unique_id", None))
        show(f"Saved: {', '.join(files)}")
        places = [file.rpartition("/") for file in files]
        return io.NodeOutput(files, ui={"images": [{"filename": name, "subfolder": folder, "type": "output"}
                                                   for folder, _, name in places], **report_facts(report)})


NODES = [CamouflageSaveImage]
