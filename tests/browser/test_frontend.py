"""The pack in ComfyUI's frontend, driven by a real Chromium: what a person sees who opens the workflow.

On the host's own frontend and on a newer one, which ``testing/frontend.py`` fetches before the tests.
"""

from __future__ import annotations

import copy
import json
import re
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api

from frontends import LOOK_AT, VERSIONS, Frontend
from newest import NEWEST
from sampled import everything, sampled

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))
BASE = ROOT / "workflows" / "camouflage_base.json"
OPENED = [(version, path) for version in VERSIONS for path in TEMPLATES if everything or path == BASE]
OPENED += [] if everything else [(VERSIONS[-1], path) for path in sampled(TEMPLATES, 1, seed=3) if path != BASE]
TITLE_ROOM = 1.4  # a group's title bar, in font sizes

GEOMETRY = """() => ({
    nodes: app.graph.nodes.map(node => ({
        name: `${node.id} ${node.title}`, box: [...node.getBounding()],
        size: [...node.size], least: [...node.computeSize()]})),
    groups: app.graph.groups.map(group => ({
        name: group.title, box: [...group._bounding], font: group.font_size})),
})"""
NOTE_TEXT = """id => {
    const text = app.graph.getNodeById(id).widgets[0].element.querySelector('.tiptap')
    if (!text?.clientHeight) return null
    return {room: text.getBoundingClientRect().bottom, used: text.lastElementChild.getBoundingClientRect().bottom}
}"""


@pytest.fixture
def base() -> dict[str, Any]:
    return json.loads(BASE.read_text(encoding="utf-8"))


stem = attrgetter("stem")


@pytest.fixture
def template(request: pytest.FixtureRequest) -> Path:
    """One of the shipped workflows."""
    return request.param


@pytest.fixture
def workflow(template: Path) -> dict[str, Any]:
    return json.loads(template.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pack(browser: Browser, url: str) -> str:
    """The folder name under which the server knows the pack's templates."""
    page = browser.new_page()
    templates = page.request.get(f"{url}/api/workflow_templates").json()
    page.close()
    owners = [name for name, workflows in templates.items() if BASE.stem in workflows]
    assert len(owners) == 1
    assert sorted(templates[owners[0]]) == [path.stem for path in TEMPLATES]
    return owners[0]


def overlap(a: list[float], b: list[float]) -> bool:
    """Whether two boxes (left, top, width, height) share any area."""
    return all(a[i] < b[i] + b[i + 2] and b[i] < a[i] + a[i + 2] for i in (0, 1))


def inputs(prompt: dict[str, Any], schemas: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Class and inputs of every node; without those of widgets that only the frontend has, to show a result in."""
    known = {name: {key for kind in schema["input"].values() for key in kind} for name, schema in schemas.items()}
    return {key: (kind, {name: value for name, value in node["inputs"].items() if name in known[kind]})
            for key, node in prompt.items() if (kind := node["class_type"])}


@pytest.mark.parametrize(("version", "template"), OPENED, indirect=True, scope="session",
                         ids=[f"{version}-{path.stem}" for version, path in OPENED])
def test_the_workflow_opens_clean_and_means_what_the_server_gets(
        frontend: Frontend, url: str, workflow: dict[str, Any]) -> None:
    frontend.load(workflow)
    frontend.page.wait_for_timeout(1000)  # the dialogs come a moment after the graph
    assert frontend.page.locator(".p-toast-message").all_inner_texts() == []
    assert frontend.page.get_by_role("dialog").all_inner_texts() == []

    shown = frontend.page.evaluate("async () => (await app.graphToPrompt()).output")
    schemas = frontend.page.request.get(f"{url}/object_info").json()
    queued = convert_ui_to_api(workflow, schemas)
    bypassed = 4  # what Ctrl+B makes of a node's mode
    assert len(shown) == sum(node["type"] != "MarkdownNote" and node["mode"] != bypassed for node in workflow["nodes"])
    assert inputs(shown, schemas) == inputs(queued, schemas)


@NEWEST
def test_a_missing_weight_is_named_with_its_folder(frontend: Frontend, base: dict[str, Any]) -> None:
    changed = copy.deepcopy(base)
    loader = next(node for node in changed["nodes"] if node["title"] == "Pose ControlNet")
    loader["widgets_values"] = ["not_there.safetensors"]
    loader["properties"]["models"][0]["name"] = "not_there.safetensors"
    page = frontend.page
    page.evaluate("workflow => app.loadGraphData(workflow)", changed)
    dialog, details = page.get_by_role("dialog"), page.get_by_role("button", name="View details")
    dialog.or_(details).wait_for()
    if dialog.is_visible():
        assert [line for line in dialog.inner_text().splitlines() if " / " in line] == [
            "controlnet / not_there.safetensors"]
    else:  # in 1.49 and newer the loader has a red frame, and the rest is in a panel
        details.click()
        group = page.get_by_test_id("error-group-missing-model")
        group.wait_for()
        listed = group.inner_text().splitlines()
        assert [line for line in listed if line.endswith(".safetensors")] == ["not_there.safetensors"]
        assert "controlnet" in listed


@NEWEST
@pytest.mark.parametrize("template", sampled(TEMPLATES, 1, seed=1), indirect=True, ids=stem)
def test_app_mode_asks_for_no_more_than_it_must(frontend: Frontend, workflow: dict[str, Any]) -> None:
    page = frontend.page
    frontend.load(workflow)
    if tuple(map(int, page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__").split(".")[:2])) >= (1, 41):
        page.evaluate("() => app.extensionManager.command.execute('Comfy.ToggleLinear')")
        for _, widget in workflow["extra"]["linearData"]["inputs"]:
            page.get_by_text(widget, exact=True).wait_for()
        page.locator("button:visible", has_text=re.compile(r"^\s*Run\s*$")).wait_for()
        titles = {node["title"] for node in workflow["nodes"]}
        assert [title for title in titles if page.get_by_text(title, exact=True).locator("visible=true").count()] == []
    kept = page.evaluate("() => app.graph.serialize().extra.linearData")
    assert kept == workflow["extra"]["linearData"], "and an older frontend keeps it for the next one"


@NEWEST
@pytest.mark.parametrize("template", sampled(TEMPLATES, 1, seed=11), indirect=True, ids=stem)
def test_the_layout_leaves_everything_readable(frontend: Frontend, workflow: dict[str, Any]) -> None:
    frontend.load(workflow)
    seen = frontend.page.evaluate(GEOMETRY)
    nodes, groups = seen["nodes"], seen["groups"]
    assert len(nodes) == len(workflow["nodes"])

    pairs = [(a, b) for i, a in enumerate(nodes) for b in nodes[:i]]
    assert [(a["name"], b["name"]) for a, b in pairs if overlap(a["box"], b["box"])] == []
    assert not any(overlap(a["box"], b["box"]) for i, a in enumerate(groups) for b in groups[:i])
    small = [(node["name"], node["size"], node["least"]) for node in nodes
             if any(has < least for has, least in zip(node["size"], node["least"], strict=True))]
    assert small == []

    def holds(group: dict[str, Any], node: dict[str, Any]) -> bool:
        (left, top, width, height), (x, y, w, h) = group["box"], node["box"]
        top += TITLE_ROOM * group["font"]
        return left <= x and x + w <= left + width and top <= y and y + h <= group["box"][1] + height

    homes = {node["name"]: [group["name"] for group in groups if holds(group, node)] for node in nodes}
    assert [name for name, home in homes.items() if len(home) != 1] == []
    numbers = [int(group["name"].split("  ")[0]) for group in sorted(groups, key=lambda group: group["box"][0])]
    assert numbers == list(range(1, len(groups) + 1))


@NEWEST
@pytest.mark.parametrize("template", sampled(TEMPLATES, 1, seed=2), indirect=True, ids=stem)
def test_every_note_shows_its_whole_text(frontend: Frontend, workflow: dict[str, Any]) -> None:
    frontend.load(workflow)
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert notes
    for note in notes:
        frontend.page.evaluate(LOOK_AT, note["id"])
        text = frontend.page.wait_for_function(NOTE_TEXT, arg=note["id"]).json_value()
        assert text["used"] <= text["room"], f"note {note['title']!r} is cut off"


@NEWEST
@pytest.mark.parametrize("template", sampled(TEMPLATES, 1, seed=14), indirect=True, ids=stem)
def test_the_template_browser_shows_and_opens_the_workflow(
        frontend: Frontend, pack: str, template: Path, workflow: dict[str, Any]) -> None:
    page = frontend.page
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(pack, exact=True).click()
    thumbnail = dialog.get_by_alt_text(template.stem, exact=True)
    thumbnail.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth >= 600", arg=thumbnail.element_handle())
    assert template.with_suffix(".jpg").stat().st_size < 80_000
    thumbnail.click()
    page.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]))
    dialog.wait_for(state="detached")
    assert page.locator(".p-toast-message").all_inner_texts() == []


@NEWEST
def test_the_help_page_of_a_node_is_shown(frontend: Frontend, url: str, pack: str,
                                          base: dict[str, Any]) -> None:
    page = frontend.page
    for file in sorted((ROOT / "js" / "docs").glob("*/en.md")):
        answer = page.request.get(f"{url}/extensions/{quote(pack)}/docs/{file.parent.name}/en.md")
        assert answer.status == 200, file
        assert answer.text() == file.read_text(encoding="utf-8")
    frontend.load(base)
    frontend.select("CamouflageGuider")
    page.get_by_test_id("info-button").click()
    shown = page.locator(".node-help-content")
    text = (ROOT / "js" / "docs" / "CamouflageGuider" / "en.md").read_text(encoding="utf-8")
    shown.get_by_text(text.split("\n\n")[0].replace("\n", " ")).wait_for()
    assert shown.get_by_role("heading", name="Inputs").count() == 1
    assert shown.get_by_text("anonymization_scale").count() > 0


def test_nothing_on_the_console_comes_from_the_pack(frontend: Frontend, base: dict[str, Any]) -> None:
    frontend.load(base)
    frontend.select("CamouflageSceneControl")
    frontend.page.get_by_test_id("info-button").click()
    frontend.page.locator(".node-help-content").get_by_role("heading", name="Inputs").wait_for()
    assert frontend.ours() == []
