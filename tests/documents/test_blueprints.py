"""Every blueprint and variant is what its workflow makes it, and means what the workflow means."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api

from blueprints import flat, known_inputs, with_photo, without_ids
from camouflage.batch.graphs import make_graph
from camouflage.errors import CamouflageError
from camouflage.weights import INSTEAD, needed_by, of_role
from scripts import blueprints
from scripts import workflow_variants as variants
from scripts.blueprints import BLUEPRINTS, Blueprint

each = pytest.mark.parametrize("blueprint", BLUEPRINTS, ids=lambda blueprint: blueprint.workflow)


def test_nothing_is_stale(object_info: dict[str, Any]) -> None:
    assert blueprints.stale(object_info) == [], "run: python -m scripts.blueprints"


def test_what_is_stale_is_named(object_info: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blueprints, "ROOT", tmp_path)
    monkeypatch.setattr(blueprints, "FOLDER", tmp_path / "subgraphs")
    for blueprint in BLUEPRINTS:
        for path, graph in ((tmp_path / "workflows" / f"camouflage_{blueprint.workflow}.json", flat(blueprint)),
                            (blueprint.file, blueprints.made(blueprint, flat(blueprint), object_info))):
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(graph, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    assert blueprints.stale(object_info) == []
    changed = flat(BLUEPRINTS[0])
    changed["groups"][0]["title"] = "Another"
    (tmp_path / "workflows" / "camouflage_base.json").write_text(json.dumps(changed), encoding="utf-8")
    (tmp_path / "subgraphs" / "Redact, verify and save.json").unlink()
    (tmp_path / "subgraphs" / "Left over.json").write_text("{}", encoding="utf-8")
    assert blueprints.stale(object_info) == [f"subgraphs/{name}.json" for name in (
        "Anonymize (Base)", "Left over", "Redact, verify and save")]


@each
def test_it_means_what_its_workflow_means(blueprint: Blueprint, object_info: dict[str, Any]) -> None:
    known = known_inputs(object_info)
    ours, theirs = (without_ids(convert_ui_to_api(graph, object_info), known)
                    for graph in (with_photo(blueprint), flat(blueprint)))
    assert len(theirs) > 6 and ours == theirs


@each
def test_every_knob_turns_what_it_names_and_nothing_else(blueprint: Blueprint, object_info: dict[str, Any]) -> None:
    known = known_inputs(object_info)
    graph = with_photo(blueprint)
    before = without_ids(convert_ui_to_api(graph, object_info), known)
    for place, knob in enumerate(blueprint.knobs):
        turned = copy.deepcopy(graph)
        turned["nodes"][1]["widgets_values"][place] = "another"
        after = without_ids(convert_ui_to_api(turned, object_info), known)
        changed = {(kind, name) for (kind, title), inputs in after.items() for name, value in inputs.items()
                   if value != before[kind, title][name]}
        assert changed == set(knob.targets)


@each
def test_nothing_of_the_workflow_is_lost(blueprint: Blueprint) -> None:
    file = json.loads(blueprint.file.read_text(encoding="utf-8"))
    ((node,), (inside,)) = (file["nodes"], file["definitions"]["subgraphs"])
    theirs = [one for one in flat(blueprint)["nodes"] if one["type"] != "LoadImage"]
    assert node["type"] == inside["id"] and node["id"] not in {one["id"] for one in inside["nodes"]}
    for kept in ("id", "type", "title", "mode", "pos", "size", "widgets_values"):
        assert [one.get(kept) for one in inside["nodes"]] == [one.get(kept) for one in theirs]
    links = {link["id"]: link for link in inside["links"]}
    assert len(links) == len(inside["links"])
    ends = {(one["id"], place): slot for one in inside["nodes"] for place, slot in enumerate(one["inputs"])}
    for link in links.values():
        if link["target_id"] != -20:
            assert ends[link["target_id"], link["target_slot"]]["link"] == link["id"]
        if link["origin_id"] == -10:
            assert link["id"] in inside["inputs"][link["origin_slot"]]["linkIds"]


@each
def test_inside_nothing_lies_on_anything_else(blueprint: Blueprint) -> None:
    (inside,) = json.loads(blueprint.file.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    boxes = [inside["inputNode"]["bounding"], *(group["bounding"] for group in inside["groups"]),
             inside["outputNode"]["bounding"]]
    assert all(x + width <= right for (x, _, width, _), (right, *_) in pairwise(boxes)), "it reads from left to right"


@each
def test_a_dataset_takes_the_blueprint_like_its_workflow(blueprint: Blueprint, object_info: dict[str, Any]) -> None:
    ours, theirs = (make_graph(graph, object_info) for graph in (with_photo(blueprint), flat(blueprint)))
    known = known_inputs(object_info)
    assert without_ids(dict(ours.prompt), known) == without_ids(dict(theirs.prompt), known)
    assert len(ours.seeds) == len(theirs.seeds) and ours.left_out and ours.suffix == ".png"
    set_inside = make_graph(with_photo(blueprint), object_info, settings={"Anonymized.format": "JPEG"})
    assert set_inside.suffix == ".jpg"


def test_a_blueprint_alone_has_no_photo_and_says_so(object_info: dict[str, Any]) -> None:
    for blueprint in BLUEPRINTS:
        with pytest.raises(CamouflageError, match="exactly one Load Image node"):
            make_graph(json.loads(blueprint.file.read_text(encoding="utf-8")), object_info)


def test_the_commercial_workflow_is_base_with_other_weights_alone() -> None:
    base, ours = (json.loads(path.read_text(encoding="utf-8")) for path in (variants.BASE, variants.COMMERCIAL))
    assert not variants.stale(), "run: python -m scripts.workflow_variants"
    changed = {title: new["widgets_values"] for (title, old), (_, new) in zip(
        *([(node["title"], node) for node in graph["nodes"]] for graph in (base, ours)), strict=True)
        if new["widgets_values"] != old["widgets_values"]}
    assert changed.pop("Read me first")[0].startswith("# CAMOUFLaGE-Base for commercial use\n\n")
    assert changed == {"Checkpoint": ["v1-5-pruned-emaonly.safetensors"], "Pose Map": [512, True, False, "ViTPose"]}
    assert ours["links"] == base["links"] and ours["groups"] == base["groups"]
    needed = needed_by("base_commercial")
    assert all(weight.commercial for weight in needed) and set(needed) == set(
        needed_by("base", [value for _, value in INSTEAD.values()]))
    (loader,) = [node for node in ours["nodes"] if node["title"] == "Checkpoint"]
    (weight,) = of_role("checkpoint (SD 1.5)")
    assert loader["properties"]["models"] == [{"name": weight.file, "url": weight.url, "directory": weight.folder}]


def test_a_setting_reaches_a_node_by_its_title_and_by_its_name_in_the_library(object_info: dict[str, Any]) -> None:
    for graph in (flat(BLUEPRINTS[0]), with_photo(BLUEPRINTS[0])):
        for name in ("Guidance away from identity", "CAMOUFLaGE Guider"):
            prompt = make_graph(graph, object_info, settings={f"{name}.anonymization_scale": "1.5"}).prompt
            (guider,) = [node for node in prompt.values() if node["class_type"] == "CamouflageGuider"]
            assert guider["inputs"]["anonymization_scale"] == 1.5
