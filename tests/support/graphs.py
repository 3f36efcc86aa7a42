"""Small workflows for the tests in a browser: pictures on the server, and Redact, Verify, Save over them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from frontends import Frontend

REDACT = Path(__file__).resolve().parents[2] / "workflows" / "camouflage_redact.json"
SET = """([type, name, value]) => {
    const node = app.graph.nodes.find(node => node.type === type)
    node.widgets.find(widget => widget.name === name).value = value
}"""
QUEUE = "() => { app.queuePrompt(0) }"


def upload(page: Page, name: str, pixels: np.ndarray) -> None:
    """Puts a picture into the server's input folder."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    address = page.evaluate("() => location.origin")
    page.request.post(f"{address}/upload/image", multipart={
        "image": {"name": name, "mimeType": "image/png", "buffer": written.getvalue()}, "overwrite": "true"})


def redaction(photo: str) -> dict[str, Any]:
    """Load Image, Redact, Verify and Save Anonymized of the shipped workflow, by one detector."""
    graph = json.loads(REDACT.read_text(encoding="utf-8"))
    kinds = ("LoadImage", "CamouflageRedact", "CamouflageVerify", "CamouflageSaveImage")
    graph["nodes"] = [node for node in graph["nodes"] if node["type"] in kinds]
    kept = {node["id"] for node in graph["nodes"]}
    graph["links"] = [link for link in graph["links"] if {link[1], link[3]} <= kept]
    links = {link[0] for link in graph["links"]}
    for node in graph["nodes"]:
        for slot in node["outputs"]:
            slot["links"] = [link for link in slot["links"] if link in links]
        values = node["widgets_values"]
        node["widgets_values"] = ([photo, *values[1:]] if node["type"] == "LoadImage" else
                                  ["CenterFace" if value == "CenterFace + dlib" else value for value in values])
    return graph


def set_widget(frontend: Frontend, kind: str, name: str, value: object) -> None:
    """Sets a widget of the workflow's node of a type."""
    frontend.page.evaluate(SET, [kind, name, value])


def queue(frontend: Frontend) -> None:
    """Presses Run."""
    frontend.page.evaluate(QUEUE)
