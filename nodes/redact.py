"""Redaction alone."""

from __future__ import annotations

from comfy_api.latest import io

from ..camouflage.comfy.messages import show
from ..camouflage.comfy.redaction import redact_everybody
from .common import IMAGE_TOOLS, VERIFY, schema
from .types import RedactionType
from .verify import detectors_input, known_inputs, no_face_input, redaction_input

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
            description="Finds every face and replaces the head: solid, mosaic or blur. Needs no weights and no GPU: "
                        "the baseline that runs everywhere. It keeps nothing of a person and knows only faces; connect "
                        "both outputs to 'Verify'.",
            inputs=[
                io.Image.Input("image", tooltip="The photos, 64 px a side to 100 megapixels; any batch."),
                redaction_input(),
                io.Float.Input("size", default=1.0, min=1.0, max=_LARGEST_HEAD, step=0.05,
                               tooltip=f"Factor on the head's size, 1 to {_LARGEST_HEAD:g}. 1 covers hair, ears and "
                                       "chin; more covers more around them."),
                no_face_input(), detectors_input(), *known_inputs("image"),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image",
                                tooltip="The redacted pictures, on 256 levels. Not verified yet."),
                RedactionType.Output("REDACTED", display_name="redacted",
                                     tooltip="Whose heads were replaced, for 'Verify'."),
            ])

    @classmethod
    def execute(cls, image: io.Image.Type, redaction: str, size: float, no_face: str, detectors: str,
                boxes: object = None, person_mask: io.Mask.Type | None = None) -> io.NodeOutput:
        images, redacted = redact_everybody(image, detectors, redaction, size, no_face, boxes, person_mask)
        left_out = [str(index) for index in range(redacted.count) if index not in redacted.kept]
        show(f"Redacted: {', '.join(str(len(regions)) for regions in redacted.regions)}"
             + (f". Left out, no face found (counted from 0): {', '.join(left_out)}" if left_out else ""))
        return io.NodeOutput(images, redacted)


NODES = [CamouflageRedact]
