"""Our nodes and panels in the frontend's language: what a person reads is what ``locales/`` has for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frontends import READY, Frontend

ROOT = Path(__file__).resolve().parents[2]
NODES = """() => Object.fromEntries(Object.keys(LiteGraph.registered_node_types)
    .filter(type => type.startsWith('Camouflage')).map(type => {
        const node = LiteGraph.createNode(type)
        const widgets = node.widgets?.filter(each => !each.name.startsWith('camouflage_')) ?? []
        return [type, {
            title: node.title, category: node.constructor.category,
            inputs: Object.fromEntries(node.inputs.map(each => [each.name, each.localized_name])),
            widgets: Object.fromEntries(widgets.map(each => [each.name, each.label ?? each.name])),
            outputs: node.outputs.map(each => each.localized_name)}]
    }))"""
PLACE = """() => {
    app.graph.clear()
    const node = LiteGraph.createNode('CamouflageVerify')
    app.graph.add(node)
    node.pos = [0, 0]
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [500, 300]
    app.canvas.draw(true, true)
    const canvas = app.canvas.canvas.getBoundingClientRect()
    return [canvas.left + 560, canvas.top + 308 + node.widgets.find(each => each.name === 'threshold').last_y]
}"""
PANEL = """async () => {
    const scripts = await (await fetch('/extensions')).json()
    return (await import(scripts.find(path => path.endsWith('/texts.js')))).t('Close')
}"""


def locale(language: str, name: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(params=["zh", "en"])
def language(request: pytest.FixtureRequest, frontend: Frontend, url: str) -> Iterator[str]:
    """The language of the frontend, which is loaded once more with it."""
    page = frontend.page
    page.on("console", lambda message: frontend.errors.append(message.text) if "intlify" in message.text else None)
    page.request.post(f"{url}/settings", data={"Comfy.Locale": request.param, "Comfy.VueNodes.Enabled": False})
    page.reload()
    page.wait_for_function(READY)
    yield request.param
    page.request.post(f"{url}/settings", data={"Comfy.Locale": "en"})


def test_nodes_and_panels_are_in_the_language_of_the_frontend(frontend: Frontend, language: str) -> None:
    definitions, main = locale(language, "nodeDefs"), locale(language, "main")
    nodes = frontend.page.evaluate(NODES)
    assert set(nodes) == set(definitions)
    for name, shown in nodes.items():
        known = definitions[name]
        names = {key: socket["name"] for key, socket in known["inputs"].items()}
        assert shown["title"] == known["display_name"]
        assert {key: names[key] for key in shown["inputs"]} == shown["inputs"], name
        assert {key: names[key] for key in shown["widgets"]} == shown["widgets"], name
        assert [known["outputs"][str(index)]["name"] for index in range(len(shown["outputs"]))] == shown["outputs"]
    pack, *stages = main["nodeCategories"].values()
    assert {shown["category"] for shown in nodes.values()} == {f"{pack}/{stage}" for stage in stages}

    x, y = frontend.page.evaluate(PLACE)
    frontend.page.mouse.move(x - 30, y)
    frontend.page.mouse.move(x, y)
    tooltip = definitions["CamouflageVerify"]["inputs"]["threshold"]["tooltip"]
    frontend.page.locator(".node-tooltip", has_text=tooltip).wait_for()
    assert frontend.page.evaluate(PANEL) == main["camouflage"]["Close"]
    if language != "en":
        assert main["camouflage"]["Close"] != "Close" and definitions["CamouflageVerify"]["display_name"] != "Verify"
    assert frontend.ours() == []
