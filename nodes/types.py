"""The pack's own socket types, declared once."""

from __future__ import annotations

from comfy_api.latest import io

FacesType = io.Custom("CAMOUFLAGE_FACES")  # camouflage.method.faces.Faces
AttributeMapType = io.Custom("CAMOUFLAGE_ATTRIBUTE_MAP")  # camouflage.method.attribute_map.AttributeMap
LightAdapterType = io.Custom("CAMOUFLAGE_LIGHT_ADAPTER")  # camouflage.comfy.light_adapter.LightAdapter
ImagePromptType = io.Custom("CAMOUFLAGE_IMAGE_PROMPT")  # camouflage.comfy.image_prompt_net.ImagePromptAdapter
ReportType = io.Custom("CAMOUFLAGE_REPORT")  # camouflage.verification.report.Report
CalibrationType = io.Custom("CAMOUFLAGE_CALIBRATION")  # camouflage.verification.recognition.Threshold
RedactionType = io.Custom("CAMOUFLAGE_REDACTION")  # camouflage.comfy.redaction.Redaction
BoundingBoxType = io.Custom("BOUNDING_BOX")  # the host's own, which older hosts do not name (method/known.py)


def boxes_input(tooltip: str, name: str = "boxes") -> io.Input:
    """An optional socket for boxes.

    A socket by force: newer hosts would draw a widget for this type, whose default is a box of 512 x 512 px.
    """
    return BoundingBoxType.Input(name, optional=True, tooltip=tooltip, extra_dict={"forceInput": True})
