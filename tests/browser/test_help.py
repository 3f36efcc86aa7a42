"""The help of every node, as its info button shows it."""

from __future__ import annotations

import re
from pathlib import Path

from frontends import Frontend

PAGES = sorted((Path(__file__).resolve().parents[2] / "js" / "docs").glob("*/en.md"))
PUT = """types => {
    app.graph.clear()
    for (const [index, type] of types.entries()) {
        const node = LiteGraph.createNode(type)
        app.graph.add(node)
        node.pos = [index % 8 * 600, Math.floor(index / 8) * 900]
    }
    return Object.keys(LiteGraph.registered_node_types).filter(type => type.startsWith('Camouflage'))
}"""
SHOWN = """text => {
    const shown = document.querySelector('.node-help-content')
    return shown?.textContent.includes(text) && [...shown.querySelectorAll('h2')].map(each => each.textContent.trim())
}"""


def beginning(text: str) -> str:
    """The first words of a help page: up to the first that is set in another way."""
    return re.split(r"[`*\[\n]", text)[0].strip()


def test_the_help_of_every_node_opens(frontend: Frontend) -> None:
    names = [page.parent.name for page in PAGES]
    assert sorted(frontend.page.evaluate(PUT, names)) == names
    for page in PAGES:
        frontend.select(page.parent.name)
        frontend.page.get_by_test_id("info-button").dispatch_event("click")  # the menu may lie over it
        text = page.read_text(encoding="utf-8")
        assert len(beginning(text)) > 20
        headings = frontend.page.wait_for_function(SHOWN, arg=beginning(text)).json_value()
        assert headings == re.findall(r"^## (.+)$", text, re.MULTILINE), page
    assert frontend.ours() == []
