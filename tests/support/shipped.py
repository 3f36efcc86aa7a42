"""The shipped workflows on a served ComfyUI, small enough for a test, and what a run leaves on its disk."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import numpy as np
from comfy_cli.workflow_to_api import convert_ui_to_api
from PIL import Image

from served import change

ROOT = Path(__file__).resolve().parents[2]


def workflow(name: str) -> dict:
    """``workflows/camouflage_<name>.json``."""
    return json.loads((ROOT / "workflows" / f"camouflage_{name}.json").read_text(encoding="utf-8"))


def queueable(server, name: str, photo: str, size: int = 128, awake: bool = False) -> dict:
    """A shipped workflow in the server's format, with a photo on the server; ``awake``: nothing in it is bypassed."""
    graph = copy.deepcopy(workflow(name))
    for node in graph["nodes"] if awake else ():
        node["mode"] = 0
    api = convert_ui_to_api(graph, server.object_info())
    change(api, "LoadImage", image=photo)
    if name != "redact":
        change(api, "CamouflagePrepareImage", size=size)
        change(api, "BasicScheduler", steps=1)
    if name.startswith("base"):
        for kind in ("Depth", "Normal", "Segmentation", "Pose", "Lineart"):
            change(api, f"Camouflage{kind}Map", resolution=64)
        change(api, "CamouflagePoseMap", hands=False)
    return api


def stock_sampling(api: dict) -> dict:
    """The Safe Sampler's sampling by the stock nodes, alone: "look" shows what nobody has verified, as "Painted"."""
    inputs = next(node["inputs"] for node in api.values() if node["class_type"] == "CamouflageSafeSampler")
    graph: dict = {}
    open_ends = wires(inputs)
    while open_ends:
        key = open_ends.pop()
        if key not in graph:
            graph[key] = copy.deepcopy(api[key])
            open_ends += wires(api[key]["inputs"])
    taken = {name: inputs[name] for name in ("noise", "guider", "sampler", "sigmas")}
    return graph | {
        "sample": {"class_type": "SamplerCustomAdvanced", "_meta": {"title": "Sample"},
                   "inputs": {"latent_image": inputs["latent"], **taken}},
        "decode": {"class_type": "VAEDecode", "_meta": {"title": "Decode"},
                   "inputs": {"samples": ["sample", 0], "vae": inputs["vae"]}},
        "look": {"class_type": "PreviewImage", "_meta": {"title": "Painted"}, "inputs": {"images": ["decode", 0]}}}


def wires(inputs: dict) -> list[str]:
    """The nodes that a node's inputs come from."""
    return [value[0] for value in inputs.values() if isinstance(value, list)]


def upload(server, folder: Path, name: str, pixels: np.ndarray) -> str:
    """Puts a picture into the server's input folder; its name there."""
    Image.fromarray(pixels).save(folder / name)
    return server.upload(folder / name)


def files(server, *folders: str) -> set[Path]:
    """Everything in these folders of the server."""
    return {path for folder in folders for path in (server.run_folder / folder).rglob("*") if path.is_file()}


def pixels(source: Path | bytes) -> np.ndarray:
    """A picture file as H x W x 3."""
    return np.asarray(Image.open(io.BytesIO(source) if isinstance(source, bytes) else source).convert("RGB"))


def holds(paths: set[Path], picture: np.ndarray) -> list[Path]:
    """The files that are this very picture, up to one grey level: the stock nodes round down, ours to the nearest."""
    return [path for path in paths if path.suffix == ".png" and near(pixels(path), picture)]


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two pictures differ by one grey level at most."""
    return a.shape == b.shape and int(np.abs(a.astype(int) - b).max()) <= 1


def texts(api: dict, entry: dict) -> dict[str, str]:
    """Title -> text of everything that a run has shown in words."""
    return {api[node_id]["_meta"]["title"]: "".join(output["text"])
            for node_id, output in entry["outputs"].items() if "text" in output and node_id in api}
