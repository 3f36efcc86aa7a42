"""What a run does: decided once, written beside the output, and held against every later run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..files import write_whole
from .graphs import Graph
from .host import ServerOptions
from .photos import RUN, Source, Unit

FORMAT, VERSION = "camouflage-run", 1
FILE = "run.json"
_NAMES = {"workflow": "the workflow or a setting in it", "weights": "the weights", "seed": "--seed",
          "batch_size": "--batch-size", "form": "the form of the source", "keep": "--keep",
          "hash_names": "--hash-names", "pipeline": "--pipeline", "units": "the pictures in the source"}


def picture_seed(seed: int, keys: Sequence[str]) -> int:
    """The seed of pictures that are sampled together: of their keys and the run's seed, 64 bits."""
    text = json.dumps([seed, *keys], ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Plan:
    """What a run does, for workers on whatever machine. Plain data.

    Attributes:
        source, output: where pictures come from and go to.
        pipeline: name of the shipped workflow, or of the file.
        graph: what is run on every picture; ``redact``: on those that a reviewer wants covered.
        seed: of the run, 0..2^64-1.
        batch_size: the most pictures of one size that are sampled together.
        server: of every worker.
    """

    source: Source
    output: Path
    pipeline: str
    graph: Graph
    redact: Graph
    seed: int
    batch_size: int
    server: ServerOptions

    def picture_seed(self, keys: Sequence[str]) -> int:
        """The seed of the pictures that are sampled together."""
        return picture_seed(self.seed, keys)


@dataclass(frozen=True)
class Manifest:
    """The run manifest, ``run.json``: what was decided, so that a later run does the same or is refused.

    Attributes:
        settings: all that can change pixels or names: "pipeline", "workflow" and "weights" (digests), "seed",
            "batch_size", "form", "keep", "hash_names", "format".
        units: digest of every unit of the source, in order.
        told: why this pipeline was chosen.
        software: versions, for people; another one is no other run.
        source: path of the source, for people and the review.
        document: digest of the workflow's file and what is changed in it; where it is the same, so is the workflow.
    """

    settings: Mapping[str, Any]
    units: tuple[str, ...]
    told: str
    software: Mapping[str, str]
    source: Mapping[str, Any]
    document: str = ""

    def write(self, output: Path) -> None:
        """Writes it, whole, where there is none. Raises OSError."""
        folder = output / RUN
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        content = {"format": FORMAT, "version": VERSION, "settings": self.settings, "told": self.told,
                   "software": self.software, "source": self.source, "document": self.document,
                   "units": self.units}
        write_whole(folder / FILE, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())

    def demand_same(self, before: Manifest, output: Path) -> None:
        """Raises CamouflageError, which names what differs from the run that the output belongs to.

        Settings that are not known yet count as the same.
        """
        different = [f"{_NAMES.get(name, name)} ({_short(self.settings.get(name))}, before "
                     f"{_short(before.settings.get(name))})"
                     for name in self.settings if self.settings[name] != before.settings.get(name)]
        if self.units != before.units:
            at = next((n for n, (a, b) in enumerate(zip(self.units, before.units, strict=False)) if a != b),
                      min(len(self.units), len(before.units)))
            different.append(f"the pictures in the source, from part {at + 1} of {len(before.units)} on")
        if different:
            raise CamouflageError(f"{output} belongs to a run with other settings: {'; '.join(different)}. Go on with "
                                  "the former ones, or name another --output.")


def read_manifest(output: Path) -> Manifest | None:
    """The manifest of the run that an output folder belongs to; None if there is none.

    Raises:
        CamouflageError: it is damaged, or of a newer version.
    """
    file = output / RUN / FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"version {content['version']}")
        return Manifest(content["settings"], tuple(content["units"]), content["told"], content["software"],
                        content["source"], content["document"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CamouflageError(f"{file} is no manifest of a run that this version can go on with ({error}). Name "
                              "another --output.") from error


def demand_apart(source: Source, output: Path) -> None:
    """Raises CamouflageError where the output would lie in the source, or the source in the output."""
    real, root = Path(os.path.realpath(output)), Path(os.path.realpath(source.root))
    inside = getattr(source, "walked", False) and real.is_relative_to(root)
    same = any(Path(os.path.realpath(source.root / path)).is_relative_to(real) for path in source.paths)
    if inside or same:
        raise CamouflageError(f"The output {output} and the source {source.root} lie within each other. Originals and "
                              "results must be kept apart: name an --output elsewhere.")


def demand_free(output: Path) -> None:
    """Raises CamouflageError where the output folder holds something else than a run."""
    if not os.path.lexists(output):
        return
    if not output.is_dir():
        raise CamouflageError(f"--output must name a folder; {output} is a file.")
    if read_manifest(output) is None and any(name for name in os.listdir(output) if name != RUN):
        raise CamouflageError(f"The folder {output} is not empty, and not the output of a run that could go on. Name "
                              "another --output.")


def digests(source_units: Sequence[Unit]) -> tuple[str, ...]:
    """The digest of every unit."""
    return tuple(unit.digest for unit in source_units)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{text[:12]}…" if isinstance(value, str) and len(text) == 64 else text[:120]
