"""ComfyUI's frontend as an open page, for tests with a real browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testing import frontend as newer_frontend

if TYPE_CHECKING:
    from playwright.sync_api import Page

VERSIONS = ["own", newer_frontend.VERSION]
READY = "() => window.app?.graph && window.app.vueAppReady"
LOOK_AT = """id => {
    const node = app.graph.getNodeById(id)
    app.canvas.ds.scale = 1
    app.canvas.ds.offset = [400 - node.pos[0], 200 - node.pos[1]]
    app.canvas.setDirty(true, true)
}"""
SHOW_ALL = """() => {
    app.canvas.ds.scale = 0.25
    app.canvas.ds.offset = [400, 400]
    app.canvas.setDirty(true, true)
}"""
WIRES_DRAWN = "() => app.graph.links.size > 0 && [...app.graph.links.values()].every(link => link.path)"



@dataclass
class Frontend:
    """An open page, and what went wrong on it."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def load(self, workflow: dict[str, Any]) -> None:
        """Opens a workflow, as dropping its file does, and waits until all its wires are drawn."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.page.evaluate(SHOW_ALL)  # wires out of sight are not drawn
        self.page.wait_for_function(WIRES_DRAWN)

    def select(self, node_type: str) -> None:
        """Selects the workflow's node of a type and brings it into view."""
        node = self.page.evaluate("type => app.graph.nodes.find(node => node.type === type).id", node_type)
        self.page.evaluate(LOOK_AT, node)
        self.page.evaluate("id => app.canvas.selectNode(app.graph.getNodeById(id))", node)

    def ours(self) -> list[str]:
        """What the console says that comes from the pack.

        The frontend asks its registry who owns a node; that fails without a network and is no fault of the node.
        """
        return [error for error in self.errors
                if error.startswith("uncaught") or ("camouflage" in error.lower() and "api.comfy.org" not in error)]


@contextlib.contextmanager
def in_nodes_2(page: Page) -> Iterator[None]:
    """Nodes 2.0 instead of the classic canvas, until the block ends."""
    def switch(on: bool) -> None:
        page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)

    switch(True)
    try:
        yield
    finally:
        switch(False)
