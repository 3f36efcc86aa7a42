"""Which weights a workflow uses, as one digest, so that a run is not gone on with by others."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from ..batch.host import ServerOptions
from ..comfy.installed import MODEL_FOLDERS, first_file, model_folders
from ..provision.digests import KnownDigests
from ..weights import needed_by
from .environments import cache_folder
from .pipelines import PIPELINES


def weights_digest(strings: Collection[str], pipeline: str, server: ServerOptions) -> str:
    """SHA-256 of the names and contents of all weight files that are found; the same wherever they lie.

    Args:
        strings: texts in the workflow's widgets; those that name a file in a models folder count.
        pipeline: of the shipped workflow, whose other weights (of annotators) count, too.
        server: where models are.
    """
    files: dict[str, Path] = {}
    folders = {key: [*model_folders(server.comfyui, key), *(root / key for root in server.models)]
               for key in MODEL_FOLDERS}
    for name in filter(None, strings):
        for key, places in folders.items():
            with contextlib.suppress(OSError, ValueError):
                found = next((place / name for place in places if (place / name).is_file()), None)
                if found:
                    files[f"{key}/{name}"] = found
    for weight in needed_by(pipeline, strings) if pipeline in PIPELINES else ():
        if found := first_file(folders[weight.folder], weight):
            files[weight.path] = found
    digests = KnownDigests(cache_folder() / "digests")
    known = [[name, digests.of(file)] for name, file in sorted(files.items())]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
