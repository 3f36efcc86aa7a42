"""A dataset that needs no ComfyUI: what is tested with it is the order of things; tests/server has the real one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from camouflage.batch.graphs import Graph
from camouflage.batch.host import Result, ServerOptions
from camouflage.batch.names import Names
from camouflage.batch.plan import Plan
from camouflage.batch.sources import Wanted, open_source
from camouflage.batch.worker import Worker

GRAPH = Graph({"1": {"class_type": "LoadImage", "inputs": {}},
               "2": {"class_type": "CamouflageSaveImage", "inputs": {"format": "PNG", "quality": 95}}}, "1", "2", ())


def picture(red: int, width: int = 64, height: int = 64) -> bytes:
    """A picture whose red says what becomes of it, see ``StandIn``."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def record(verdict: str = "redacted", **faces: int) -> dict:
    persons = [] if verdict == "nobody" else [{"verdict": verdict, "distance": 0.9, "kind": "original",
                                               "box_ltrb": [0, 0, 32, 32]}]
    return {"format": "camouflage-manifest", "threshold": {"distance": 0.6}, "file": {"name": "picture_00001.png"},
            "checked": {"verdict": verdict, "persons": persons, "tries": [], "width": 64, "height": 64,
                        "faces": {"lost": 0, "new": 0, "elsewhere": 0, **faces}}}


class StandIn:
    """In place of ``Host``: notes what goes through together, and answers by the red of a picture."""

    def __init__(self, answers: dict[int, Result | Callable[[], Result]] | None = None) -> None:
        self.answers, self.together, self.seeds, self.closed = answers or {}, [], [], False

    def _answer(self, image: Image.Image) -> Result:
        red = image.getpixel((0, 0))[0]
        found = self.answers.get(red, Result(picture(255 - red, *image.size), record()))
        return found() if callable(found) else found

    def saved(self, graph: Graph, images: Sequence[Image.Image], seed: int) -> list[Result] | None:
        self.together.append([image.getpixel((0, 0))[0] for image in images])
        self.seeds.append(seed)
        results = [self._answer(image) for image in images]
        return None if any(one.data is None for one in results) else results

    def alone(self, graph: Graph, image: Image.Image, seed: int) -> Result:
        self.together.append([image.getpixel((0, 0))[0]])
        self.seeds.append(seed)
        return self._answer(image)

    def accepted(self, graph: Graph, image: Image.Image, seed: int) -> Result:
        self.together.append([image.getpixel((0, 0))[0]])
        return Result(picture(1), record("nobody"))

    def close(self) -> None:
        self.closed = True


def make_dataset(folder: Path, photos: dict[str, bytes], answers: dict | None = None, batch_size: int = 1,
                 seed: int = 0, output: str = "out") -> SimpleNamespace:
    """source, units, plan, worker, output, host (the stand-in), pixels(name) and record(name)."""
    for name, data in photos.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    source, _ = open_source(Wanted((folder / "in",), Names()))
    plan = Plan(source, folder / output, "redact", GRAPH, GRAPH, seed, batch_size, ServerOptions(folder))
    host = StandIn(answers)
    plan.output.mkdir(exist_ok=True)
    return SimpleNamespace(source=source, units=source.units(), plan=plan, host=host, worker=Worker(plan, host),
                           output=plan.output, folder=folder / "in",
                           pixels=lambda name: int(np.asarray(Image.open(plan.output / name))[0, 0, 0]),
                           record=lambda name: json.loads((plan.output / name).read_text(encoding="utf-8")))
