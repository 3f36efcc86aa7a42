"""Finding other regions than faces in the host: where the detectors lie, and batches."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch

from ..errors import CamouflageError
from ..verification.regions import FoundRegion, RegionDetector, wanted_classes
from .pixels import to_pixels
from .weights import FOLDER, digest_of, register_folder

UNDER = "regions"  # below models/camouflage


def names() -> list[str]:
    """Detector files, relative to their folder."""
    register_folder()
    listed = (Path(name) for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".onnx"))
    return sorted(path.relative_to(UNDER).as_posix() for path in listed if path.is_relative_to(UNDER))


def digest(name: str) -> str:
    """SHA-256 of the file that ``names`` calls ``name``; empty where there is none."""
    return digest_of(_path(name)) if name in names() else ""


def find_regions(images: torch.Tensor, model: str, threshold: float, labels: str, resolution: int,
                 tiles: bool) -> tuple[list[list[dict[str, Any]]], torch.Tensor]:
    """Finds regions in a batch.

    Args:
        images: B x H x W x C, 0..1.
        model: of :func:`names`.
        threshold, tiles: see :meth:`~camouflage.verification.regions.RegionDetector.find`.
        labels: see :func:`~camouflage.verification.regions.wanted_classes`.
        resolution: px of the network's input, where its file leaves them open.

    Returns:
        For each picture its regions, the best first: ``x``, ``y``, ``width``, ``height`` in whole px, ``label``,
        ``score``; and where they are, B x H x W, 0 or 1.

    Raises:
        CamouflageError: no such file, or none that can be used; a label that it does not know.
    """
    pictures = to_pixels(images, "image")
    path = _path(model)
    detector = _detector(path, digest_of(path), resolution)
    wanted = wanted_classes(labels, detector.names)
    progress = comfy.utils.ProgressBar(len(pictures))
    boxes = []
    mask = torch.zeros(len(pictures), *pictures[0].shape[:2])
    for area, pixels in zip(mask, pictures, strict=True):
        found = detector.find(pixels, threshold, wanted, tiles, mm.throw_exception_if_processing_interrupted)
        boxes.append([_box(one, detector) for one in found])
        for box in boxes[-1]:
            area[box["y"]:box["y"] + box["height"], box["x"]:box["x"] + box["width"]] = 1
        progress.update(1)
    return boxes, mask.to(mm.intermediate_device())


def _box(found: FoundRegion, detector: RegionDetector) -> dict[str, Any]:
    left, top = math.floor(found.box_ltrb[0]), math.floor(found.box_ltrb[1])
    right, bottom = math.ceil(found.box_ltrb[2]), math.ceil(found.box_ltrb[3])
    return {"x": left, "y": top, "width": right - left, "height": bottom - top,
            "label": detector.names.get(found.number, f"class {found.number}"), "score": round(found.score, 4)}


def _path(name: str) -> Path:
    found = folder_paths.get_full_path(FOLDER, f"{UNDER}/{name}") if name in (listed := names()) else None
    if found is None:
        there = (f"Found: {', '.join(listed)}. Choose one of them." if listed else
                 "There is none yet: no detector comes with this extension. Put an ONNX file of a YOLO detector there, "
                 "and reload the page.")
        raise CamouflageError(f"'model' is '{name}', which is not in models/{FOLDER}/{UNDER}. {there}")
    return Path(found)


@functools.lru_cache(maxsize=1)
def _detector(path: Path, sha256: str, resolution: int) -> RegionDetector:
    return RegionDetector(path, resolution)
