"""Writes ``subgraphs/``: every blueprint is a shipped workflow in one node, with the few inputs that matter.

All nodes of the workflow are in it but the one that loads the photo, with the same ids, titles, places and values, so
that a blueprint gives what its workflow gives. ComfyUI offers the files of this folder beside its nodes (since 0.3.67).
What inputs the nodes have is asked of a ComfyUI over HTTP, as in ``scripts/document.py``.

    python -m scripts.blueprints            # writes subgraphs/
    python -m scripts.blueprints --check    # only says what is stale
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from camouflage.errors import CamouflageError
from camouflage.files import ROOT

from .document import object_info_now

FOLDER = ROOT / "subgraphs"
INPUTS, OUTPUTS = -10, -20
"""The ids that the frontend gives to the two ends of a subgraph."""
PREVIEW = "$$canvas-image-preview"
"""The frontend's name of the pictures that a node shows."""
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
"""Types of inputs that are widgets."""
ALIASES = ("camouflage", "anonymize", "blur face", "privacy")
"""Words with which the search for nodes finds the blueprints, too."""
SLOT, MARGIN = 20, 220
"""Pixels: height of a slot, and room for the two ends beside the nodes."""
_NAMES = uuid.UUID("3b0f6c1e-5f0b-5d51-9d55-2f9a7c1d6e40")

ObjectInfo = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Knob:
    """A widget on the blueprint's node.

    Attributes:
        name: for the frontend and for saved workflows; it stays as it is.
        label: for people.
        targets: node class and widget; where there are several, they get the same value.
    """

    name: str
    label: str
    targets: tuple[tuple[str, str], ...]


def _knob(label: str, *targets: str) -> Knob:
    first, *more = [(kind, name) for kind, _, name in (target.partition(".") for target in targets)]
    return Knob(first[1], label, (first, *more))


@dataclass(frozen=True)
class Blueprint:
    """A workflow as one node.

    Attributes:
        name: of the node and of its file.
        workflow: the workflow's name, without "camouflage_".
        description: what it does, in a sentence or two.
        judge: class of the node whose picture, verdict and report come out.
        knobs: from top to bottom.
    """

    name: str
    workflow: str
    description: str
    judge: str
    knobs: tuple[Knob, ...]

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.json"


_SAMPLER = "CamouflageSafeSampler"
_SIZE = _knob("size", "CamouflagePrepareImage.size")
_PAINTED = (_knob("seed", "RandomNoise.noise_seed"), _knob("steps", "BasicScheduler.steps"))
_JUDGED = (_knob("tries", f"{_SAMPLER}.tries"), _knob("policy", f"{_SAMPLER}.policy"),
           _knob("redaction", f"{_SAMPLER}.redaction"), _knob("no face", f"{_SAMPLER}.no_face"))
_FILE = (_knob("file name prefix", "CamouflageSaveImage.filename_prefix"),)
_PRESET = _knob("attributes", "CamouflageEditAttributes.preset")
_LIGHT = (_SIZE, _knob("weight of the photo", "CamouflageApplyImagePrompt.weight"), *_PAINTED, *_JUDGED, *_FILE)
_VERIFIED = ("Everybody is compared with the original, whoever is not proved to be another person is covered, and only "
         "then is the picture saved.")

BLUEPRINTS = (
    Blueprint("Anonymize (Base)", "base",
              f"Repaints everybody in a photo with CAMOUFLaGE-Base; the scene stays. {_VERIFIED}", _SAMPLER,
              (_SIZE, _knob("anonymization scale", "CamouflageGuider.anonymization_scale"), *_PAINTED, *_JUDGED,
               *_FILE)),
    Blueprint("Anonymize (Light)", "light",
              "Repaints everybody in a photo with CAMOUFLaGE-Light; the scene and the attributes of each person stay. "
              f"Needs adapters that must be trained. {_VERIFIED}", _SAMPLER, (_PRESET, *_LIGHT)),
    Blueprint("Anonymize (Light, public weights)", "light_public",
              "Repaints everybody in a photo with the part of CAMOUFLaGE-Light that runs with downloads alone. "
              f"{_VERIFIED}", _SAMPLER, _LIGHT),
    Blueprint("Redact, verify and save", "redact",
              "Covers every head that is found in a photo, verifies that nobody is recognised any more, and only then "
              "saves the picture. Needs no weights and no GPU.", "CamouflageVerify",
              (_knob("redaction", "CamouflageRedact.redaction", "CamouflageVerify.redaction"),
               _knob("size", "CamouflageRedact.size"), _knob("policy", "CamouflageVerify.policy"),
               _knob("no face", "CamouflageRedact.no_face", "CamouflageVerify.no_face"), *_FILE)),
)


def made(blueprint: Blueprint, workflow: Mapping[str, Any], object_info: ObjectInfo) -> dict[str, Any]:
    """A blueprint's file."""
    nodes = {node["id"]: copy.deepcopy(node) for node in workflow["nodes"] if node["type"] != "LoadImage"}
    kinds = {node["type"]: node for node in nodes.values()}
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links: list[dict[str, Any]] = [dict(zip(keys, link, strict=True)) for link in workflow["links"]]
    numbers = count(workflow["last_link_id"] + 1)
    photos = [link for link in links if link["origin_id"] not in nodes]
    for link in photos:
        link.update(origin_id=INPUTS, origin_slot=0)
    inputs, values = [_slot(blueprint, "image", "IMAGE", [link["id"] for link in photos])], []
    for place, knob in enumerate(blueprint.knobs, 1):
        ends = []
        for kind, widget in knob.targets:
            node, declared = kinds[kind], declared_inputs(object_info[kind])
            _complete(node, declared)
            at = next(slot for slot in node["inputs"] if slot["name"] == widget)
            at["link"] = next(numbers)
            ends.append({"id": at["link"], "origin_id": INPUTS, "origin_slot": place, "target_id": node["id"],
                         "target_slot": node["inputs"].index(at), "type": at["type"]})
        links += ends
        first, name = knob.targets[0]
        values.append(value_of(kinds[first], object_info[first], name))
        inputs.append(_slot(blueprint, knob.name, ends[0]["type"], [link["id"] for link in ends])
                      | {"label": knob.label})
    outputs, judge = [], kinds[blueprint.judge]
    for place, slot in enumerate(judge["outputs"][:3]):  # image, report, verdict
        link = {"id": next(numbers), "origin_id": judge["id"], "origin_slot": place, "target_id": OUTPUTS,
                "target_slot": place, "type": slot["type"]}
        slot["links"].append(link["id"])
        links.append(link)
        outputs.append(_slot(blueprint, slot["name"], slot["type"], [link["id"]]))
    for order, node in enumerate(sorted(nodes.values(), key=lambda node: node["order"])):
        node["order"] = order
    definition = {
        "id": _id(blueprint, "definition"), "version": 1, "revision": 0, "config": {}, "name": blueprint.name,
        "description": blueprint.description, "category": "CAMOUFLaGE",
        "state": {"lastGroupId": len(workflow["groups"]), "lastNodeId": workflow["last_node_id"],
                  "lastLinkId": next(numbers) - 1, "lastRerouteId": 0},
        **_ends(workflow["groups"], inputs, outputs), "inputs": inputs, "outputs": outputs, "widgets": [],
        "nodes": list(nodes.values()), "groups": copy.deepcopy(workflow["groups"]), "links": links, "extra": {}}
    node = _node(blueprint, definition, values, kinds["CamouflageSaveImage"]["id"])
    return {
        "id": _id(blueprint, "file"), "revision": 0, "last_node_id": node["id"], "last_link_id": 0, "nodes": [node],
        "links": [], "groups": [], "definitions": {"subgraphs": [definition]}, "config": {},
        "extra": {"BlueprintDescription": blueprint.description, "BlueprintSearchAliases": list(ALIASES)},
        "version": 0.4}


def declared_inputs(schema: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any] | None]]:
    """Type and, of widgets, settings of every input, in the order of the frontend: sockets before widgets."""
    sockets, widgets = {}, {}
    for part in ("required", "optional"):
        declared = schema["input"].get(part, {})
        for name in schema.get("input_order", {}).get(part, declared):
            kind, *rest = declared[name]
            kind, settings = ("COMBO" if isinstance(kind, list) else kind), (rest[0] if rest else {})
            if kind in WIDGETS and not settings.get("forceInput"):
                widgets[name] = (kind, settings)
            else:
                sockets[name] = (kind, None)
    return sockets | widgets


def value_of(node: Mapping[str, Any], schema: Mapping[str, Any], name: str) -> Any:
    """A widget's value in a workflow; what becomes of a seed after a run has a value of its own behind it."""
    names = []
    for widget, (_, settings) in declared_inputs(schema).items():
        if settings is not None:
            names += [widget, ""] if settings.get("control_after_generate") else [widget]
    return node["widgets_values"][names.index(name)]


def _complete(node: dict[str, Any], declared: Mapping[str, tuple[str, Mapping[str, Any] | None]]) -> None:
    """Writes down all inputs of a node: the host's own frontend finds widgets by their place among them."""
    known = {slot["name"]: slot for slot in node["inputs"]}
    node["inputs"] = [known.get(name) or {"name": name, "type": kind, "link": None}
                      | ({} if settings is None else {"widget": {"name": name}})
                      for name, (kind, settings) in declared.items()]


def _id(blueprint: Blueprint, what: str) -> str:
    """An id that stays the same."""
    return str(uuid.uuid5(_NAMES, f"{blueprint.name}/{what}"))


def _slot(blueprint: Blueprint, name: str, kind: str, links: list[int]) -> dict[str, Any]:
    return {"id": _id(blueprint, f"slot {name}"), "name": name, "type": kind, "linkIds": links}


def _ends(groups: list[dict[str, Any]], inputs: list[dict[str, Any]],
          outputs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Places for the two ends of a subgraph, left and right of its groups; and of their slots, which it writes."""
    top = min(group["bounding"][1] for group in groups)
    left = min(group["bounding"][0] for group in groups) - MARGIN
    right = max(group["bounding"][0] + group["bounding"][2] for group in groups) + MARGIN // 4
    for slots, x in ((inputs, left + MARGIN - 2 * SLOT), (outputs, right + SLOT)):
        for place, slot in enumerate(slots, 1):
            slot["pos"] = [x, top + SLOT * place]
    return {"inputNode": {"id": INPUTS, "bounding": [left, top, MARGIN - SLOT, SLOT * (len(inputs) + 2)]},
            "outputNode": {"id": OUTPUTS, "bounding": [right, top, MARGIN - SLOT, SLOT * (len(outputs) + 2)]}}


def _node(blueprint: Blueprint, definition: Mapping[str, Any], values: list[Any], saves: int) -> dict[str, Any]:
    """The blueprint's only node: its widgets, and the picture that the saving node shows.

    The frontend keeps the latter as one of ``proxyWidgets`` up to 1.45, as one of ``previewExposures`` since.
    """
    widgets = [knob.name for knob in blueprint.knobs]
    inputs = [{key: slot[key] for key in ("name", "type", "label") if key in slot}
              | ({"widget": {"name": slot["name"]}} if slot["name"] in widgets else {}) | {"link": None}
              for slot in definition["inputs"]]
    outputs = [{"name": slot["name"], "type": slot["type"], "links": []} for slot in definition["outputs"]]
    return {
        "id": definition["state"]["lastNodeId"] + 1, "type": definition["id"], "pos": [0, 0],
        "size": [400, 120 + 26 * len(values) + 340], "flags": {}, "order": 0, "mode": 0,
        "inputs": inputs, "outputs": outputs, "title": blueprint.name,
        "properties": {
            "proxyWidgets": [[str(saves), PREVIEW]],
            "previewExposures": [{"name": PREVIEW, "sourceNodeId": str(saves), "sourcePreviewName": PREVIEW}]},
        "widgets_values": values}


def text_of(blueprint: Blueprint, object_info: ObjectInfo) -> str:
    """What its file must say."""
    flat = json.loads((ROOT / "workflows" / f"camouflage_{blueprint.workflow}.json").read_text(encoding="utf-8"))
    return json.dumps(made(blueprint, flat, object_info), ensure_ascii=False, indent=1) + "\n"


def stale(object_info: ObjectInfo) -> list[str]:
    """Blueprints that are not what their workflows make them, and files that are no blueprint."""
    there = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    due = {blueprint.file: text_of(blueprint, object_info) for blueprint in BLUEPRINTS}
    return sorted(path.relative_to(ROOT).as_posix() for path in there.keys() | due.keys()
                  if there.get(path) != due.get(path))


def main(arguments: list[str] | None = None) -> int:
    """Write what is stale, or only say it."""
    parser = argparse.ArgumentParser(prog="python -m scripts.blueprints", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something is stale")
    options = parser.parse_args(arguments)
    try:
        object_info = object_info_now()
    except CamouflageError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    old = stale(object_info)
    if not options.check:
        FOLDER.mkdir(exist_ok=True)
        for blueprint in BLUEPRINTS:
            blueprint.file.write_text(text_of(blueprint, object_info), encoding="utf-8", newline="\n")
    for path in old:
        print(f"{path} {'is stale' if options.check else 'is written anew'}.")
    return 1 if options.check and old else 0


if __name__ == "__main__":
    sys.exit(main())
