"""Small files in the place of Base's weights: a server has them, SHA256SUMS vouches for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from bad_server import BadServer
from camouflage.weights import REGISTRY, SUMS, Weight, needed_by

BASE = needed_by("base")


def stand_ins(least: int = 2_000, most: int = 60_000) -> dict[Weight, bytes]:
    """Seeded bytes for every file of Base."""
    numbers = np.random.default_rng(0)
    lengths = {weight: int(numbers.integers(least, most)) for weight in BASE}
    return {weight: json.dumps("x" * length).encode() if weight.file.endswith("json") else numbers.bytes(length)
            for weight, length in lengths.items()}


def address(weight: Weight) -> str:
    """Where the server has it."""
    return urlsplit(weight.url or "").path


def publish(files: dict[Weight, bytes], server: BadServer, models: Path) -> None:
    """Gives the files to the server, and their digests to the models folder."""
    server.files = {address(weight): content for weight, content in files.items()}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {weight.file}\n" for weight, content in files.items()]
    (models / "camouflage").mkdir(parents=True, exist_ok=True)
    (models / "camouflage" / SUMS).write_text("".join(lines), encoding="utf-8")


def on_disk(files: dict[Weight, bytes], *folders: Path) -> dict[str, str]:
    """What is to be said of every file of the registry, looked up without the code that says it."""
    def state(weight: Weight) -> str:
        for folder in folders:
            if (folder / weight.path).exists():
                return "present" if (folder / weight.path).read_bytes() == files.get(weight) else "damaged"
        if weight.url is None:
            return "to be trained"
        return "partly" if (folders[0] / f"{weight.path}.part").exists() else "missing"

    return {weight.path: state(weight) for weight in REGISTRY}
