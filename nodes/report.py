"""The report of a verification as a picture."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy.verification import to_images, to_pixels
from ..camouflage.errors import CamouflageError
from ..camouflage.output.sheet import report_sheets
from ..camouflage.verification.report import Report
from .common import VERIFY, schema
from .types import ReportType


class CamouflageReport(io.ComfyNode):
    """Draws what a verification found."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageReport", display_name="Verification Report", category=VERIFY,
            search_aliases=["privacy report", "contact sheet", "GDPR"],
            description="One sheet a picture, for people who would rather look than read: every person's verdict, the "
                        "distance to the nearest original face on a scale with the threshold, the attempts, and who "
                        "looked. A picture that does not pass is on it only with 'show_failing', the original "
                        "only with 'show_original'; then they are marked.",
            inputs=[
                ReportType.Input("report", tooltip="What was found, from 'Verify' or 'Safe Sampler'."),
                io.Image.Input("image", optional=True,
                               tooltip="The verified pictures, from the same node as the report: shown with the "
                                       "persons' numbers. Other pictures, or these changed by one grey level, are "
                                       "refused. In place of one that does not pass stands an empty plate, for it may "
                                       "be the original. Not connected: no picture is shown."),
                io.Image.Input("original", optional=True,
                               tooltip="The originals, as many as the report is of, or one for all. Not used, not "
                                       "even looked at, unless 'show_original' is on."),
                io.Boolean.Input("show_original", default=False,
                                 tooltip="Shows the originals beside the verified pictures, with the same numbers. "
                                         "The sheet and the original in it are then marked: do not publish them. Off "
                                         "by default."),
                io.Boolean.Input("show_failing", default=False, optional=True,
                                 tooltip="Shows pictures that do not pass, too. Such a picture may be the original, "
                                         "and whatever shows the sheet keeps it in ComfyUI's temp folder. It and the "
                                         "sheet are then marked: do not publish them. Off by default: there is a "
                                         "plate with the persons' numbers in its place."),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="sheets",
                                tooltip="One sheet a picture, RGB, 1200 px wide; its height grows with the persons. "
                                        "In a batch the shorter ones are filled up with paper."),
                io.String.Output("STRING", display_name="text",
                                 tooltip="The same in words, without pictures; boxes are in px of the verified "
                                         "picture."),
            ])

    @classmethod
    def execute(cls, report: Report, show_original: bool, image: io.Image.Type | None = None,
                original: io.Image.Type | None = None, show_failing: bool = False) -> io.NodeOutput:
        if show_original and original is None:
            raise CamouflageError("'show_original' is on, but 'original' is not connected. Connect the picture that "
                                  "went into 'Verify' as 'original', or switch 'show_original' off.")
        pictures = None if image is None else to_pixels(image, "image")
        originals = to_pixels(original, "original") if show_original and original is not None else None
        return io.NodeOutput(to_images(report_sheets(report, pictures, originals, show_failing)), str(report))


NODES = [CamouflageReport]
