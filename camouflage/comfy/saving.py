"""Saving in the host: its output folder, its model folders, its progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch

from ..errors import CamouflageError
from ..images import as_rgb
from ..output.encoding import SUFFIXES, encoded, manifest, vouch
from ..output.publishing import checked_prefix, save
from .annotators.common import to_uint8
from .weights import digest_of

# Only what ends like weights is ever named, so that no photo's name gets into a manifest.
_WEIGHTS = {*folder_paths.supported_pt_extensions, ".onnx", ".gguf"}
_NO_MODELS = {"custom_nodes", "configs"}


def save_pictures(images: torch.Tensor, report: object, prefix: str, format: str, quality: int,
                  with_manifest: bool = True, prompt: object = None, node_id: object = None) -> list[str]:
    """Saves verified pictures in the host's output folder. All are checked before the first is written.

    Args:
        images: B x H x W x C, 0..1.
        report: a :class:`~camouflage.verification.report.Report` of exactly these pictures.
        prefix: see :func:`checked_prefix`.
        format, quality: see :func:`~camouflage.output.encoding.encode`.
        with_manifest: also write a JSON file beside every picture.
        prompt, node_id: the host's prompt and the saving node in it; model files are read off it, nothing else.

    Returns:
        The pictures' paths in the output folder, with "/".

    Raises:
        CamouflageError: what is not vouched for, a bad prefix or setting, or a disk that does not take the files.
    """
    checked_prefix(prefix)
    pictures = [to_uint8(image) for image in as_rgb(images, "image").split(1)]
    vouched = vouch(report, pictures)
    files = model_files(prompt, node_id) if with_manifest else []
    progress = comfy.utils.ProgressBar(len(pictures) + len(files))
    ready, models = [], []
    for index, pixels in enumerate(pictures):
        mm.throw_exception_if_processing_interrupted()
        ready.append(encoded(vouched, index, pixels, format, quality, mm.throw_exception_if_processing_interrupted))
        progress.update(1)
    for file in files:
        mm.throw_exception_if_processing_interrupted()
        models.append((file.name, _digest(file)))
        progress.update(1)
    mm.throw_exception_if_processing_interrupted()
    output = Path(folder_paths.get_output_directory())
    saved: list[str] = []
    for index, picture in enumerate(ready):
        describe = partial(manifest, vouched, index, picture, models=models) if with_manifest else None
        try:
            path = save(output, prefix, SUFFIXES[format], picture.data, describe)
        except CamouflageError as error:
            if not saved:
                raise
            raise CamouflageError(f"{error} Pictures saved before: {', '.join(saved)}.") from error
        saved.append(path.relative_to(output.resolve()).as_posix())
    return saved


def model_files(prompt: object, node_id: object) -> list[Path]:
    """Model files that the nodes before a node name, in an order that depends on the files' names alone.

    A name counts if it ends like weights and a model folder of the host has such a file; one that several folders
    have stands for all of them. Files in the input, output and temp folders are no models. Without a usable node id
    every node of the prompt counts; what is no prompt has no models.

    Args:
        prompt: node id -> {"inputs": {name: value or [node id, output]}}, as the host runs it.
        node_id: where to start.
    """
    private = [Path(folder).resolve() for folder in (folder_paths.get_input_directory(),
                                                     folder_paths.get_output_directory(),
                                                     folder_paths.get_temp_directory())]
    found: dict[Path, None] = {}
    for name in _names(prompt, node_id):
        for key in sorted(set(folder_paths.folder_names_and_paths) - _NO_MODELS):
            path = folder_paths.get_full_path(key, name)
            if path is not None:
                real = Path(path).resolve()
                if not any(real.is_relative_to(folder) for folder in private):
                    found[Path(path)] = None
    return sorted(found, key=lambda path: (path.name, path.as_posix()))


def _names(prompt: object, node_id: object) -> Iterator[str]:
    """All strings that end like weights in the inputs of the nodes upstream."""
    nodes = {str(key): node for key, node in prompt.items()} if isinstance(prompt, dict) else {}
    waiting = [str(node_id)] if str(node_id) in nodes else list(nodes)
    seen = set(waiting)
    while waiting:
        node = nodes[waiting.pop()]
        values: list[Any] = [node.get("inputs")] if isinstance(node, dict) else []
        while values:  # nested, for some packs' widgets hold lists and dictionaries
            value = values.pop()
            if isinstance(value, str):
                if Path(value).suffix.lower() in _WEIGHTS:
                    yield value
            elif isinstance(value, dict):
                values.extend(value.values())
            elif isinstance(value, list):
                if len(value) == 2 and isinstance(value[1], int) and str(value[0]) in nodes:
                    if str(value[0]) not in seen:
                        seen.add(str(value[0]))
                        waiting.append(str(value[0]))
                else:
                    values.extend(value)


def _digest(file: Path) -> str:
    try:
        return digest_of(file)
    except OSError as error:
        raise CamouflageError(f"The model file {file.name} cannot be read ({error.strerror}), so the manifest cannot "
                              "state its SHA-256. Put it back, or switch 'manifest' off.") from error
