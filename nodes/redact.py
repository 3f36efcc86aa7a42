"""Redaction alone."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from ..camouflage.comfy.messages import show
from ..camouflage.comfy.redaction import Redacted, declared_fill, redact_everybody
from ..camouflage.verification.fills import GREY_FILL, text_of
from .common import IMAGE_TOOLS, VERIFY, schema
from .types import BoundingBoxType, RedactionType, boxes_input
from .verify import detectors_input, exempt_input, known_inputs, no_face_input, redaction_input

_LARGEST_HEAD = 3.0


class CamouflageRedact(io.ComfyNode):
    """Destroys every head, without a diffusion model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CamouflageRedact", display_name="Redact", category=VERIFY,
            search_aliases=["blur face", "pixelate", "mosaic", "censor", "anonymize", "de-identify", "GDPR",
                            "hide face"],
            essentials_category=IMAGE_TOOLS,
            description="Finds every face and replaces the head: solid, mosaic or blur; and regions that other nodes "
                        "found, such as licence plates. Needs no weights and no GPU: the baseline that runs "
                        "everywhere. It keeps nothing of a person and knows only faces; connect 'image' and "
                        "'redacted' to 'Verify'.",
            inputs=[
                io.Image.Input("image", tooltip="The photos, 64 px a side to 100 megapixels; any batch."),
                redaction_input(),
                io.Float.Input("size", default=1.0, min=1.0, max=_LARGEST_HEAD, step=0.05,
                               tooltip=f"Factor on the head's size, 1 to {_LARGEST_HEAD:g}. 1 covers hair, ears and "
                                       "chin; more covers more around them."),
                no_face_input(), detectors_input(), *known_inputs("image"),
                boxes_input("Boxes in 'image' (x, y, width, height in its px) of what else must go, for instance of "
                            "licence plates from 'Find Regions': a list for the picture, or a list for each. They are "
                            "covered as rectangles, in the same way as heads, and do not count as faces: 'no_face' "
                            "is asked all the same.", "regions"),
                exempt_input("image", "Their heads are left where a detector finds a face at the box; everybody else "
                                      "is redacted, also where heads overlap. A box on which no face or more than one "
                                      "stands exempts nobody. Connect the same boxes to 'Verify'."),
                io.String.Input("fill_colour", default=text_of(GREY_FILL.colour), optional=True,
                                tooltip="Colour of 'solid', as #rrggbb: two digits of 0-9 and a-f each for red, green "
                                        "and blue. #808080 is grey, #000000 black. 'Verify' knows it and proves it."),
                io.Image.Input("fill_picture", optional=True,
                               tooltip="One picture, 64 to 4096 px a side, without transparency, that 'solid' lays "
                                       "over each head instead of the colour; regions and areas of a mask keep the "
                                       "colour. It is used with 512 px on its longer side at most. Refused where a "
                                       "face is found in it, or where it shows a part of 'image'."),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image",
                                tooltip="The redacted pictures, on 256 levels. Not verified yet."),
                RedactionType.Output("REDACTED", display_name="redacted",
                                     tooltip="Whose heads were replaced and with what, for 'Verify'."),
                io.Mask.Output("MASK", display_name="mask",
                               tooltip="1 where something was covered, the soft edges of heads included; 0 elsewhere, "
                                       "where every pixel is as it was."),
                BoundingBoxType.Output("BOUNDING_BOX", display_name="boxes",
                                       tooltip="For each picture what was covered: x, y, width, height in whole px, "
                                               "soft edges included, and the label: 'head', or that of the region."),
            ])

    @classmethod
    def execute(cls, image: io.Image.Type, redaction: str, size: float, no_face: str, detectors: str,
                boxes: object = None, person_mask: io.Mask.Type | None = None, regions: object = None,
                exempt: object = None, fill_colour: str = text_of(GREY_FILL.colour),
                fill_picture: io.Image.Type | None = None) -> io.NodeOutput:
        result = redact_everybody(image, detectors, redaction, size, no_face, boxes, person_mask, regions, exempt,
                                  declared_fill(fill_colour, fill_picture))
        show(_said(result))
        return io.NodeOutput(result.images, result.redaction, result.mask, result.boxes)


def _said(result: Redacted) -> str:
    """How much was done, a number for each picture."""
    redacted = result.redaction
    left_out = [str(index) for index in range(redacted.count) if index not in redacted.kept]
    parts = [f"Redacted: {_counts(redacted.regions)}"]
    if any(redacted.others):
        parts.append(f"Regions: {_counts(redacted.others)}")
    if any(result.exempt):
        parts.append(f"Left by consent: {', '.join(map(str, result.exempt))}")
    if left_out:
        parts.append(f"Left out, no face found (counted from 0): {', '.join(left_out)}")
    return ". ".join(parts)


def _counts(each: Sequence[Sequence[object]]) -> str:
    return ", ".join(str(len(ones)) for ones in each)


NODES = [CamouflageRedact]
