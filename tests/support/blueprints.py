"""The shipped blueprints as a person uses them, and prompts compared whatever the ids of their nodes."""

from __future__ import annotations

import copy
import json
from typing import Any

from camouflage.files import ROOT
from scripts.blueprints import BLUEPRINTS, Blueprint

NAMED = {blueprint.workflow: blueprint for blueprint in BLUEPRINTS}
"""By the workflows that they are made of."""


def with_photo(blueprint: Blueprint, photo: str = "example.png") -> dict[str, Any]:
    """A workflow of two nodes: Load Image, and the blueprint's."""
    graph = copy.deepcopy(json.loads(blueprint.file.read_text(encoding="utf-8")))
    (node,) = graph["nodes"]
    load = {"id": node["id"] + 1, "type": "LoadImage", "title": "Photo", "pos": [0, 0], "size": [400, 490],
            "flags": {}, "order": 0, "mode": 0, "inputs": [], "properties": {}, "widgets_values": [photo, "image"],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}, {"name": "MASK", "type": "MASK",
                                                                          "links": []}]}
    node["pos"], node["order"], node["inputs"][0]["link"] = [480, 0], 1, 1
    return {**graph, "nodes": [load, node], "links": [[1, load["id"], 0, node["id"], 0, "IMAGE"]],
            "last_node_id": load["id"], "last_link_id": 1}


def flat(blueprint: Blueprint) -> dict[str, Any]:
    """The workflow that a blueprint is made of."""
    return json.loads((ROOT / "workflows" / f"camouflage_{blueprint.workflow}.json").read_text(encoding="utf-8"))


def without_ids(prompt: dict[str, Any], known: dict[str, set[str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """A prompt with class and title in the place of every id; of inputs only those that the server knows."""
    names = {key: (node["class_type"], node["_meta"]["title"]) for key, node in prompt.items()}
    assert len(set(names.values())) == len(names)
    return {names[key]: {name: (names[value[0]], value[1]) if isinstance(value, list) else value
                         for name, value in node["inputs"].items() if name in known[node["class_type"]]}
            for key, node in prompt.items()}


def known_inputs(object_info: dict[str, Any]) -> dict[str, set[str]]:
    """Class -> names of all inputs."""
    return {name: {key for kind in schema["input"].values() for key in kind} for name, schema in object_info.items()}
