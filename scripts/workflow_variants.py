"""Writes ``workflows/camouflage_base_commercial.json``: Base with weights that a company may use by their licences.

    python -m scripts.workflow_variants            # writes it
    python -m scripts.workflow_variants --check    # only says whether it is stale
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from typing import Any

from camouflage.files import ROOT
from camouflage.weights import INSTEAD, REGISTRY

BASE, COMMERCIAL = (ROOT / "workflows" / f"camouflage_{name}.json" for name in ("base", "base_commercial"))
PLACES = {"CheckpointLoaderSimple": 0, "CamouflagePoseMap": 3}
"""Where the nodes keep the values of the widgets that ``INSTEAD`` names."""
_NOTE = """# CAMOUFLaGE-Base for commercial use

Base with weights that a company may use by their licences: Stable Diffusion 1.5 paints, and ViTPose finds \
the poses.

1. Choose **your photo** in *Photo*.
2. Press **Run**.
3. Read *Verdict*, and look at *Anonymized*.

**Read the licences** (docs/weights.md of this pack): those of the checkpoint and the ControlNets restrict what you \
may make with them.

**Missing models?** `python run.py weights get --pipeline base_commercial` fetches them, in the folder of this pack. \
Nothing is downloaded without you.

**Nothing is shown or saved unverified.** *Safe Sampler* paints the picture and looks for every face of the original \
in it. Whoever is not proved to be another person gets a grey head.

Look at the picture all the same: a face that no detector finds is not verified, and clothes, places and lettering can \
identify a person, too."""
_NOTE_HEIGHT, _GAP, _PHOTO_HEIGHT = 380, 60, 520  # px: note, what is between, and the node that loads the photo


def commercial(base: dict[str, Any]) -> dict[str, Any]:
    """Base with the values of ``INSTEAD``, and a note that says so."""
    graph: dict[str, Any] = copy.deepcopy(base) | {"id": "c0a3e1f7-2b64-4d0c-8f5e-91b7d6a4e250"}
    nodes = {node["type"]: node for node in graph["nodes"]}
    for title, value in ((widget.split(".")[0], value) for widget, value in INSTEAD.values()):
        (node,) = [node for node in graph["nodes"] if node["title"] == title]
        node["widgets_values"][PLACES[node["type"]]] = value
    checkpoint = nodes["CheckpointLoaderSimple"]
    (weight,) = [weight for weight in REGISTRY if weight.file == checkpoint["widgets_values"][0]]
    checkpoint["properties"]["models"] = [{"name": weight.file, "url": weight.url, "directory": weight.folder}]
    (note,) = [node for node in graph["nodes"] if node["title"] == "Read me first"]
    note["widgets_values"], note["size"][1] = [_NOTE], _NOTE_HEIGHT
    photo = nodes["LoadImage"]
    photo["pos"][1], photo["size"][1] = note["pos"][1] + _NOTE_HEIGHT + _GAP, _PHOTO_HEIGHT
    return graph


def text() -> str:
    """What the file must say."""
    return json.dumps(commercial(json.loads(BASE.read_text(encoding="utf-8"))), ensure_ascii=False, indent=1) + "\n"


def stale() -> bool:
    return not COMMERCIAL.is_file() or COMMERCIAL.read_text(encoding="utf-8") != text()


def main(arguments: list[str] | None = None) -> int:
    """Write the workflow, or only say whether it is stale."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if it is stale")
    check, old = parser.parse_args(arguments).check, stale()
    if old:
        print(f"{COMMERCIAL.relative_to(ROOT).as_posix()} {'is stale' if check else 'is written anew'}.")
    if not check:
        COMMERCIAL.write_text(text(), encoding="utf-8", newline="\n")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
