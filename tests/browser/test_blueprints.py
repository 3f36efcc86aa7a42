"""The shipped blueprints and workflows in ComfyUI's frontend: opened, turned, run from its button, and compared."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skimage.data
from comfy_cli.workflow_to_api import convert_ui_to_api
from PIL import Image

from blueprints import NAMED, flat, known_inputs, with_photo, without_ids
from camouflage.files import ROOT
from frontends import READY, VERSIONS, Frontend
from newest import NEWEST
from sampled import everything
from scripts.blueprints import BLUEPRINTS, Blueprint
from shipped import pixels, workflow

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORKFLOWS = sorted(path.stem.removeprefix("camouflage_") for path in (ROOT / "workflows").glob("*.json"))
OPENED = [(version, blueprint) for version in VERSIONS for blueprint in BLUEPRINTS
          if everything or (version, blueprint.workflow) in [("own", "base"), (VERSIONS[-1], "light")]]
RUN = [(version, name) for version in VERSIONS for name in WORKFLOWS if everything or name == "redact"]
SMALL = {"CamouflagePrepareImage": {0: 128}, "BasicScheduler": {1: 1}, "CamouflagePoseMap": {0: 64, 1: False},
         "CamouflageDepthMap": {0: 64}, "CamouflageNormalMap": {0: 64}, "CamouflageSegmentationMap": {0: 64},
         "CamouflageLineartMap": {0: 64}}
"""Places and values of widgets with which a run is short."""
PROMPT = "async () => (await app.graphToPrompt()).output"
TURN = """([name, value]) => {
    const widget = app.graph.nodes.find(node => node.subgraph).widgets.find(widget => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
SIZE = """() => {
    const node = app.graph.nodes.find(node => node.subgraph)
    return {size: [...node.size], least: [...node.computeSize()]}
}"""
SHOWN = """() => {
    app.canvas.setDirty(true, true)  // as when the mouse moves over it
    return app.graph.nodes.find(node => node.subgraph).widgets.at(-1).type === "custom"
}"""
LISTEN = """() => {
    window.ran = null
    for (const what of ["execution_success", "execution_error"])
        comfyAPI.api.api.addEventListener(what, event => { window.ran ??= [what, event.detail] }, {once: true})
}"""


@pytest.fixture
def nodes_2(frontend: Frontend, url: str, version: str) -> Iterator[Frontend]:
    """The newer frontend with its newer nodes, as it has them by default; the host's own one as it is."""
    page = frontend.page
    if version != "own":
        page.request.post(f"{url}/settings", data={"Comfy.VueNodes.Enabled": True})
        page.reload()
        page.wait_for_function(READY)
    yield frontend
    page.request.post(f"{url}/settings", data={"Comfy.VueNodes.Enabled": False})


@pytest.fixture
def photo(frontend: Frontend, url: str) -> str:
    """Name on the server of a public-domain photo of one person."""
    file = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()[:384, 96:352]).save(file, "png")
    answer = frontend.page.request.post(f"{url}/upload/image", multipart={"overwrite": "true", "image": {
        "name": "one_person.png", "mimeType": "image/png", "buffer": file.getvalue()}})
    return answer.json()["name"]


def small(graph: dict[str, Any], photo: str = "") -> dict[str, Any]:
    """A workflow, or one with a blueprint, with a photo and settings with which it runs in seconds."""
    for inside in graph.get("definitions", {}).get("subgraphs", []):
        small(inside)
    for node in graph["nodes"]:
        if node["type"] == "LoadImage":
            node["widgets_values"][0] = photo
        for place, value in SMALL.get(node["type"], {}).items():
            node["widgets_values"][place] = value
        for knob, value in (("size", 128), ("steps", 1)):
            widgets = [slot["name"] for slot in node["inputs"] if "widget" in slot]
            if "-" in node["type"] and "steps" in widgets:
                node["widgets_values"][widgets.index(knob)] = value
    return graph


def told(page: Page, address: str) -> dict[str, Any]:
    """What the server's history says of a prompt; it is written a moment after the page hears of its end."""
    for _ in range(100):
        if found := page.request.get(address).json():
            return found
        page.wait_for_timeout(100)
    raise AssertionError("the history does not know the prompt")


def saved(frontend: Frontend, url: str, graph: dict[str, Any]) -> tuple[np.ndarray, str]:
    """What a workflow saves that is run by the button, and its file's name; nothing is left from an earlier run."""
    page = frontend.page
    page.request.post(f"{url}/free", data={"unload_models": False, "free_memory": True})
    frontend.load(graph)
    page.evaluate(LISTEN)
    page.locator("button:visible", has_text=re.compile(r"^\s*Run\s*$")).first.click()
    what, detail = page.wait_for_function("() => window.ran", timeout=180_000).json_value()
    assert what == "execution_success", detail
    outputs = told(page, f"{url}/history/{detail['prompt_id']}")[detail["prompt_id"]]["outputs"]
    (image,) = [image for output in outputs.values() for image in output.get("images", [])
                if image["type"] == "output"]
    return pixels(page.request.get(f"{url}/view", params=image).body()), image["filename"]


@pytest.mark.parametrize(("version", "blueprint"), OPENED, indirect=["version"], scope="session",
                         ids=[f"{version}-{blueprint.workflow}" for version, blueprint in OPENED])
def test_a_blueprint_opens_clean_means_its_workflow_and_keeps_what_is_set(
        frontend: Frontend, url: str, blueprint: Blueprint) -> None:
    page = frontend.page
    schemas = page.request.get(f"{url}/object_info").json()
    known = known_inputs(schemas)
    frontend.load(with_photo(blueprint))
    page.wait_for_timeout(500)  # the dialogs come a moment after the graph
    assert page.locator(".p-toast-message").all_inner_texts() == []
    assert page.get_by_role("dialog").all_inner_texts() == []
    shown = without_ids(page.evaluate(PROMPT), known)
    assert shown == without_ids(convert_ui_to_api(flat(blueprint), schemas), known)
    node = page.evaluate(SIZE)
    assert all(has >= least for has, least in zip(node["size"], node["least"], strict=True))

    for name, value in (("policy", "block"), ("filename_prefix", "holiday")):
        page.evaluate(TURN, [name, value])
    frontend.load(page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))"))
    turned = without_ids(page.evaluate(PROMPT), known)
    changed = {(kind, name): value for (kind, title), inputs in turned.items() for name, value in inputs.items()
               if value != shown[kind, title][name]}
    assert changed == {(blueprint.judge, "policy"): "block", ("CamouflageSaveImage", "filename_prefix"): "holiday"}
    assert frontend.ours() == []


@NEWEST
def test_the_search_for_nodes_offers_the_blueprints(frontend: Frontend, url: str) -> None:
    page = frontend.page
    entries = page.request.get(f"{url}/global_subgraphs").json().values()
    assert {entry["name"] for entry in entries} == {blueprint.name for blueprint in BLUEPRINTS}
    page.evaluate("() => app.graph.clear()")
    page.mouse.dblclick(960, 540)
    page.wait_for_function("() => document.activeElement?.tagName === 'INPUT'")
    page.keyboard.type(NAMED["redact"].name)
    page.get_by_text("Covers every head that is found").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function("() => app.graph.nodes.length === 1")
    values = page.evaluate("() => app.graph.nodes[0].widgets.map(widget => [widget.name, widget.value])")
    assert {name: value for name, value in values if "preview" not in name} == {
        "redaction": "solid", "size": 1, "policy": "redact", "no_face": "block", "filename_prefix": "camouflage"}


@pytest.mark.parametrize(("version", "name"), RUN, indirect=["version"], scope="session",
                         ids=[f"{version}-{name}" for version, name in RUN])
def test_the_button_runs_it_and_the_blueprint_gives_the_very_same_picture(
        nodes_2: Frontend, url: str, photo: str, name: str) -> None:
    page = nodes_2.page
    theirs, _ = saved(nodes_2, url, small(workflow(name), photo))
    assert theirs.std() > 1
    if name not in NAMED:
        return
    fetched: list[str] = []
    page.on("response", lambda response: fetched.append(response.url))
    ours, file = saved(nodes_2, url, small(with_photo(NAMED[name]), photo))
    assert np.array_equal(ours, theirs)
    if page.evaluate("() => document.querySelector('[data-node-id]') !== null"):
        page.locator(f"[data-node-id] img[src*='{file}']").wait_for()
    else:
        page.wait_for_function(SHOWN)
        assert any(f"filename={file}" in address for address in fetched)
