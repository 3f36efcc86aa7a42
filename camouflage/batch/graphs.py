"""A workflow as a run sees it: where the picture comes in, where it is saved, and which seeds it has."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CamouflageError
from ..output.encoding import SUFFIXES

LOAD, LOAD_MANY, SAVE = "LoadImage", "CamouflageLoadPhotos", "CamouflageSaveImage"
JUDGES = ("CamouflageRedact", "CamouflageVerify", "CamouflageSafeSampler", SAVE)
"""Nodes of ours that let nothing pass that is not settled."""
SEEDS = ("noise_seed", "seed")


@dataclass(frozen=True)
class Graph:
    """What Save Anonymized needs of a workflow, in the host's format for prompts. Plain data.

    Attributes:
        prompt: node id -> {"class_type", "inputs", "_meta"}.
        load, save: the nodes of the picture that comes and of the one that goes.
        seeds: node, input and largest value of every seed.
        left_out: titles of nodes of the workflow that only show something, and do not run.
    """

    prompt: Mapping[str, Any]
    load: str
    save: str
    seeds: tuple[tuple[str, str, int], ...]
    left_out: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of everything in it that can change pixels."""
        bare = {node: {"class_type": one["class_type"], "inputs": one["inputs"]} for node, one in self.prompt.items()}
        return hashlib.sha256(json.dumps([bare, self.load, self.save], sort_keys=True).encode()).hexdigest()

    @property
    def suffix(self) -> str:
        """The ending of the saved pictures' names."""
        return SUFFIXES[self.prompt[self.save]["inputs"]["format"]]

    @property
    def strings(self) -> set[str]:
        """All texts in the nodes' widgets; files of weights are among them."""
        return {value for node in self.prompt.values() for value in node["inputs"].values() if isinstance(value, str)}

    def for_pictures(self, files: Sequence[str], seed: int) -> dict[str, Any]:
        """The prompt for a batch of pictures of one size, which lie in the host's input folder."""
        prompt = copy.deepcopy(dict(self.prompt))
        prompt[self.load]["class_type"] = LOAD_MANY
        prompt[self.load]["inputs"] = {"photos": "\n".join(files), "batch_size": len(files), "unreadable": "stop"}
        for node, name, most in self.seeds:
            prompt[node]["inputs"][name] = seed % (most + 1)
        return prompt

    def with_values(self, values: Mapping[str, object], classes: Iterable[str] = ()) -> Graph:
        """Another graph, with these values for every input of that name (of nodes of these classes, if any)."""
        prompt = copy.deepcopy(dict(self.prompt))
        for node in prompt.values():
            if not classes or node["class_type"] in classes:
                node["inputs"].update({name: value for name, value in values.items() if name in node["inputs"]})
        return Graph(prompt, self.load, self.save, self.seeds, self.left_out)


def read_workflow(file: Path) -> dict[str, Any]:
    """A workflow's file, of the frontend's form or of the API's. Raises CamouflageError."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CamouflageError(f"The workflow {file} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise CamouflageError(f"{file} is no workflow: it is no JSON ({error}). Save it in ComfyUI again, by Save or "
                              "by Export (API).") from error
    if not isinstance(document, dict) or not document:
        raise CamouflageError(f"{file} is no workflow of ComfyUI. Save it in ComfyUI again, by Save or Export (API).")
    return document


def make_graph(document: Mapping[str, Any], object_info: Mapping[str, Any], load: str | None = None,
               settings: Mapping[str, str] | None = None) -> Graph:
    """The part of a workflow that a run needs.

    Args:
        document: see :func:`read_workflow`.
        object_info: the host's schemas, by class.
        load: id or title of the Load Image node that gets the pictures, where there are several.
        settings: "node.input" -> value as text; the node by id, by title, or by its name in the node library.

    Raises:
        CamouflageError: a class that the host does not know, not exactly one Save Anonymized, none or several Load
            Image nodes, a node that writes files, a wrong setting; all with what to do.
    """
    prompt = _as_prompt(document, object_info)
    if unknown := sorted({node["class_type"] for node in prompt.values()} - object_info.keys()):
        raise CamouflageError(f"The workflow has nodes that this ComfyUI does not know: {', '.join(unknown)}. Name the "
                              "folder of the custom nodes they belong to with --pack FOLDER, or leave them out.")
    for name, value in (settings or {}).items():
        _set(prompt, object_info, name, value)
    save = _only(prompt, SAVE, "Save Anonymized", None)
    writers = [node for node, one in prompt.items()
               if node != save and object_info[one["class_type"]].get("output_node")]
    if bad := [node for node in writers if "preview" not in prompt[node]["class_type"].lower()]:
        raise CamouflageError(f"Besides Save Anonymized the workflow has nodes that write files: "
                              f"{', '.join(_titled(prompt, node) for node in bad)}. What they write is not verified. "
                              "Remove them.")
    needed = _before(prompt, save)
    loads = [node for node in prompt if node in needed and prompt[node]["class_type"] == LOAD]
    chosen = _only({node: prompt[node] for node in loads}, LOAD, "Load Image", load)
    if mask := [node for node in needed if [chosen, 1] in prompt[node]["inputs"].values()]:
        raise CamouflageError(f"{_titled(prompt, mask[0])} takes the mask of {_titled(prompt, chosen)}, but the "
                              "pictures of a dataset have none.")
    kept = {node: one for node, one in prompt.items() if node in needed}
    kept[save]["inputs"].update(manifest=True, filename_prefix="picture")
    kept[chosen]["inputs"] = {}
    return Graph(kept, chosen, save, tuple(_seeds(kept, object_info)),
                 tuple(_titled(prompt, node) for node in writers))


def _as_prompt(document: Mapping[str, Any], object_info: Mapping[str, Any]) -> dict[str, Any]:
    if "nodes" in document:
        from comfy_cli.workflow_to_api import WorkflowConversionError, convert_ui_to_api  # slow to import

        try:
            return convert_ui_to_api(dict(document), dict(object_info))
        except (WorkflowConversionError, KeyError, TypeError, ValueError) as error:
            raise CamouflageError(f"The workflow cannot be converted ({error}). In ComfyUI save it by Export (API), "
                                  "and name that file.") from error
    prompt = document.get("prompt", document)
    if not isinstance(prompt, Mapping) or not all(
            isinstance(one, Mapping) and isinstance(one.get("class_type"), str)
            and isinstance(one.get("inputs"), Mapping) for one in prompt.values()):
        raise CamouflageError("This is no workflow of ComfyUI. In ComfyUI save it by Save or by Export (API).")
    return copy.deepcopy({str(node): dict(one) for node, one in prompt.items()})


def _before(prompt: Mapping[str, Any], node: str) -> set[str]:
    """A node and all that it needs."""
    found, waiting = {node}, [node]
    while waiting:
        for value in prompt[waiting.pop()]["inputs"].values():
            if isinstance(value, list) and len(value) == 2 and str(value[0]) in prompt and str(value[0]) not in found:
                found.add(str(value[0]))
                waiting.append(str(value[0]))
    return found


def _title(prompt: Mapping[str, Any], node: str) -> str:
    return prompt[node].get("_meta", {}).get("title") or prompt[node]["class_type"]


def _titled(prompt: Mapping[str, Any], node: str) -> str:
    return f"{_title(prompt, node)} (node {node})"


def _only(prompt: Mapping[str, Any], kind: str, what: str, chosen: str | None) -> str:
    """The one node of a class, or the one of them that was chosen by id or title."""
    found = [node for node, one in prompt.items() if one["class_type"] == kind]
    if chosen is not None:
        named = [node for node in found if chosen in (node, _title(prompt, node))]
        if len(named) != 1:
            raise CamouflageError(f"--input must name one of the workflow's {what} nodes, by id or title; '{chosen}' "
                                  f"names {len(named)}. There are: "
                                  f"{', '.join(_titled(prompt, node) for node in found) or 'none'}.")
        return named[0]
    if len(found) != 1:
        listed = f": {', '.join(_titled(prompt, node) for node in found)}" if found else ""
        more = " Name the one that gets the pictures with --input." if kind == LOAD and found else ""
        raise CamouflageError(f"The workflow must have exactly one {what} node that leads to the saved picture; it has "
                              f"{len(found)}{listed}.{more}")
    return found[0]


def _seeds(prompt: Mapping[str, Any], object_info: Mapping[str, Any]) -> Iterable[tuple[str, str, int]]:
    for node, one in prompt.items():
        for name in SEEDS:
            kind, limits = _declared(object_info, one["class_type"], name)
            if name in one["inputs"] and kind == "INT":
                one["inputs"][name] = 0  # also where another node gave it: each picture has its own
                yield node, name, int(limits.get("max", 2**64 - 1))


def _declared(object_info: Mapping[str, Any], kind: str, name: str) -> tuple[Any, Mapping[str, Any]]:
    """Type and limits of an input; the type of a choice is the list of its values."""
    for part in object_info[kind].get("input", {}).values():
        if isinstance(part, Mapping) and name in part:
            declared = part[name]
            limits = declared[1] if len(declared) > 1 and isinstance(declared[1], Mapping) else {}
            return (limits.get("options", []) if declared[0] == "COMBO" else declared[0]), limits
    return None, {}


def _set(prompt: dict[str, Any], object_info: Mapping[str, Any], name: str, text: str) -> None:
    """Puts a value into a widget. Raises CamouflageError where there is no such widget, or it takes no such value."""
    who, _, socket = name.rpartition(".")
    nodes = ([node for node in prompt if who in (node, _title(prompt, node))]
             or [node for node, one in prompt.items() if who == object_info[one["class_type"]].get("display_name")])
    if len(nodes) != 1:
        raise CamouflageError(f"--set {name}={text}: '{who}' names {len(nodes)} nodes of the workflow, by id, title or "
                              "name; it must name one.")
    kind, _ = _declared(object_info, prompt[nodes[0]]["class_type"], socket)
    parse = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": {"true": True, "false": False}.__getitem__}
    try:
        value = next(one for one in kind if str(one) == text) if isinstance(kind, list) else parse[kind](text)
    except (KeyError, ValueError, StopIteration, TypeError):
        may = f" It takes {', '.join(map(str, kind[:20]))}." if isinstance(kind, list) else ""
        raise CamouflageError(f"--set {name}={text}: {_titled(prompt, nodes[0])} has no widget '{socket}' that takes "
                              f"this value.{may}") from None
    prompt[nodes[0]]["inputs"][socket] = value
