"""Small helpers for tests that drive a served ComfyUI."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def change(api: dict, kind: str, **inputs: object) -> str:
    """Sets inputs of the only node of a class; its id."""
    (node_id,) = [key for key, node in api.items() if node["class_type"] == kind]
    api[node_id]["inputs"].update(inputs)
    return node_id


def pictures(server, api: dict, entry: dict) -> dict[str, np.ndarray]:
    """Title -> pixels of all pictures that a run has shown or saved; one a title."""
    found = {}
    for node_id, output in entry["outputs"].items():
        for image in output.get("images", []):
            title = api[node_id]["_meta"]["title"]
            found.setdefault(title, []).append(np.asarray(Image.open(io.BytesIO(server.view(image)))))
    return {title: np.stack(images) for title, images in found.items()}
