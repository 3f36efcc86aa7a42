"""What the tests of the attribute editor share: a graph, people, an editor that is open, and what its text means."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from camouflage.comfy.face_facts import face_facts
from camouflage.method.attributes import edit
from camouflage.method.faces import ATTRIBUTES, Face, Faces, Picture

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from frontends import Frontend

LOADER, PREPARE, READ, NODE, SHOW, LOOK = range(1, 7)
PHOTO, WIDTH, HEIGHT = "attribute_editor.png", 900, 700
AS_WRITTEN = "as in the edits"


def a_node(number: int, kind: str, inputs: dict[str, tuple[str, int | None]], outputs: dict[str, list[int]],
           values: list[Any]) -> dict[str, Any]:
    return {"id": number, "type": kind, "pos": [20 + 370 * ((number - 1) % 3), 60 + 360 * ((number - 1) // 3)],
            "size": [340, 300], "mode": 0, "flags": {}, "order": number, "properties": {}, "widgets_values": values,
            "inputs": [{"name": name, "type": kind, "link": link} for name, (kind, link) in inputs.items()],
            "outputs": [{"name": kind.lower(), "type": kind, "links": links} for kind, links in outputs.items()]}


FACES = "CAMOUFLAGE_FACES"
GRAPH = {"nodes": [
    a_node(LOADER, "LoadImage", {}, {"IMAGE": [1], "MASK": []}, [PHOTO, "image"]),
    a_node(PREPARE, "CamouflagePrepareImage", {"image": ("IMAGE", 1)}, {"IMAGE": [2, 3]}, [512, "square"]),
    a_node(READ, "CamouflageFaceAttributes", {"image": ("IMAGE", 2)}, {FACES: [4]}, [0.5, 0, False]),
    a_node(NODE, "CamouflageEditAttributes", {"faces": (FACES, 4)}, {FACES: [5]}, ["paper", ""]),
    a_node(SHOW, "CamouflageFacePreview", {"image": ("IMAGE", 3), "faces": (FACES, 5)}, {"IMAGE": [6]}, [3]),
    a_node(LOOK, "PreviewImage", {"images": ("IMAGE", 6)}, {}, [])],
    "links": [[1, LOADER, 0, PREPARE, 0, "IMAGE"], [2, PREPARE, 0, READ, 0, "IMAGE"],
              [3, PREPARE, 0, SHOW, 0, "IMAGE"], [4, READ, 0, NODE, 0, FACES], [5, NODE, 0, SHOW, 1, FACES],
              [6, SHOW, 0, LOOK, 0, "IMAGE"]],
    "id": "7d1ff0d6-52a5-4c63-9a55-2b9e0a3f5a16", "revision": 0, "groups": [], "config": {}, "extra": {},
    "last_node_id": LOOK, "last_link_id": 6, "version": 0.4}  # fmt: skip
SET = """([id, name, value]) => {
    const widget = app.graph.getNodeById(id).widgets.find(widget => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
NOTE = "id => app.graph.getNodeById(id).widgets.find(one => one.name === 'camouflage_attributes').element.textContent"
MIDDLE = """canvas => [...canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data]"""


def person(left: float, top: float, seed: int) -> Face:
    attributes = np.random.default_rng(seed).uniform(0.1, 0.9, 40).round(2)
    return Face((left, top, left + 60, top + 80), 0.9, tuple((left + 30, top + 40 + i) for i in range(5)), None,
                tuple(attributes.tolist()))


def people(*counts: int) -> Faces:
    """Pictures of 512 x 512 px with so many persons, from left to right."""
    return Faces(tuple(Picture(512, 512, tuple(person(40 + 100 * n, 60 + 90 * n, 10 * p + n) for n in range(count)))
                       for p, count in enumerate(counts)))


def png() -> bytes:
    """A photo that says in each pixel where it is: red from left to right, green from top to bottom."""
    x, y = np.meshgrid(np.arange(WIDTH) / WIDTH, np.arange(HEIGHT) / HEIGHT)
    written = io.BytesIO()
    Image.fromarray((255 * np.stack([x, y, np.full_like(x, 0.5)], axis=2)).astype(np.uint8)).save(written, "PNG")
    return written.getvalue()


@pytest.fixture
def page(frontend: Frontend, url: str) -> Iterator[Page]:
    """The graph with its photo; what goes out over the network and what is kept by the browser is watched."""
    page = frontend.page
    page.request.post(f"{url}/upload/image", multipart={"overwrite": "true", "image": {
        "name": PHOTO, "mimeType": "image/png", "buffer": png()}})
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/upload/" in request.url
            and request.method == "POST" else None)
    open_graph(page, GRAPH)
    yield page
    stored = page.evaluate("() => JSON.stringify({...localStorage, ...sessionStorage})")
    assert "data:image" not in stored and "blob:" not in stored and "box_ltrb" not in stored
    assert sent == [], "no picture leaves the browser"
    assert frontend.ours() == []


def open_graph(page: Page, graph: dict[str, Any]) -> None:
    page.evaluate("graph => app.loadGraphData(graph)", graph)
    page.evaluate("""() => {
        app.canvas.ds.scale = 1
        app.canvas.ds.offset = [100, 100]
        app.canvas.setDirty(true, true)
    }""")


def told(page: Page, faces: Faces, node: int = NODE) -> None:
    """As after a run in which these faces were found."""
    page.evaluate("([id, facts]) => app.graph.getNodeById(id).onExecuted(facts)", [node, face_facts(faces)])


def opened(page: Page, which: int = 0) -> Locator:
    page.get_by_role("button", name="Edit ").filter(has_text="person").nth(which).click()
    editor = page.locator(".camouflage-dialog")
    editor.wait_for()
    return editor


def closed(page: Page) -> None:
    page.keyboard.press("Escape")
    page.locator(".camouflage-dialog").wait_for(state="detached")


def chip(page: Page, who: str, attribute: str) -> Locator:
    """The chip of an attribute, by CelebA's name, on the card of somebody."""
    return page.get_by_role("region", name=who, exact=True).get_by_title(attribute, exact=True)


def inputs(page: Page, node: int = NODE) -> dict[str, Any]:
    """What the server would get of the node."""
    return page.evaluate("async id => (await app.graphToPrompt()).output[id].inputs", node)


def says(page: Page, persons: dict[str, Any], preset: str = "paper", node: int = NODE, **more: str) -> None:
    """Asserts the text, with its order."""
    given = inputs(page, node)
    assert given["preset"] == preset
    expected = {**more, **({"persons": persons} if persons else {})}
    assert json.dumps(json.loads(given["edits"] or "{}")) == json.dumps(expected)


def meant(page: Page, faces: Faces, node: int = NODE) -> list[dict[str, float | None]]:
    """The attributes of every person after the node's own edits."""
    given = inputs(page, node)
    text = given["edits"]
    if given["preset"] != AS_WRITTEN:
        edit(faces, text)
        text = json.dumps({**json.loads(text or "{}"), "preset": given["preset"]})
    return [dict(zip(ATTRIBUTES, picture.faces[i].attributes, strict=True))
            for picture in edit(faces, text).pictures for i in picture.persons()]


def read(faces: Faces) -> list[dict[str, float | None]]:
    return [dict(zip(ATTRIBUTES, picture.faces[i].attributes, strict=True))
            for picture in faces.pictures for i in picture.persons()]


def run(page: Page) -> None:
    """Runs the workflow to its end."""
    page.evaluate("""async () => {
        const ended = new Promise(end => comfyAPI.api.api.addEventListener('execution_success', end, { once: true }))
        await app.queuePrompt(0, 1)
        await ended
    }""")
