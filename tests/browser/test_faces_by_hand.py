"""Faces that a person draws on the photo: pointer, keys and numbers, and where the boxes come out at the end."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from frontends import READY, Frontend, in_nodes_2
from newest import NEWEST

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WIDTH, HEIGHT = 900, 700
PHOTO, SMALL = "by_hand.png", "by_hand_small.png"
LOADER, PREPARE, NODE, SHOW = 1, 2, 3, 4
WIDGET = "([id, name]) => app.graph.getNodeById(id).widgets.find(widget => widget.name === name).value"
SET = """([id, name, value]) => {
    const widget = app.graph.getNodeById(id).widgets.find(widget => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
PANEL = """id => {
    const panel = app.graph.getNodeById(id).widgets.find(widget => widget.name === 'camouflage_boxes').element
    const canvas = panel.querySelector('canvas')
    const pixels = canvas.hidden ? [] : canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
    let drawn = 0
    for (let i = 0; i < pixels.length; i += 4) drawn += pixels[i] > 240 && pixels[i + 2] < 90
    return {note: panel.querySelector('[role=status]').textContent, hidden: canvas.hidden, drawn}
}"""
GRAPH = {"nodes": [
    {"id": LOADER, "type": "LoadImage", "pos": [40, 60], "size": [280, 320], "mode": 0, "inputs": [],
     "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}], "widgets_values": [PHOTO, "image"]},
    {"id": PREPARE, "type": "CamouflagePrepareImage", "pos": [360, 60], "size": [280, 160], "mode": 0,
     "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
     "outputs": [{"name": "image", "type": "IMAGE", "links": [2]}], "widgets_values": [512, "crop"]},
    {"id": NODE, "type": "CamouflageFacesByHand", "pos": [700, 60], "size": [320, 200], "mode": 0,
     "inputs": [{"name": "image", "type": "IMAGE", "link": 2}],
     "outputs": [{"name": "boxes", "type": "BOUNDING_BOX", "links": [3]}], "widgets_values": ["", "crop"]},
    {"id": SHOW, "type": "PreviewAny", "pos": [1060, 60], "size": [280, 160], "mode": 0,
     "inputs": [{"name": "source", "type": "*", "link": 3}], "outputs": [], "widgets_values": []},
], "links": [[1, LOADER, 0, PREPARE, 0, "IMAGE"], [2, PREPARE, 0, NODE, 0, "IMAGE"], [3, NODE, 0, SHOW, 0, "*"]],
    "groups": [], "config": {}, "extra": {}, "last_node_id": SHOW, "last_link_id": 3, "version": 0.4}  # fmt: skip


def png(width: int, height: int) -> bytes:
    """A dark photo with grain; nothing in it looks like a drawn box."""
    levels = np.random.default_rng(width).integers(20, 120, (height, width, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(levels).save(written, "PNG")
    return written.getvalue()


@pytest.fixture
def page(frontend: Frontend, url: str) -> Iterator[Page]:
    """The graph with its photo; what goes out over the network is watched."""
    page = frontend.page
    for name, size in ((PHOTO, (WIDTH, HEIGHT)), (SMALL, (300, 500))):
        page.request.post(f"{url}/upload/image", multipart={"overwrite": "true", "image": {
            "name": name, "mimeType": "image/png", "buffer": png(*size)}})
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/upload/" in request.url
            and request.method == "POST" else None)
    frontend.load(GRAPH)
    look_at(page)
    yield page
    assert sent == [], "no picture leaves the browser"
    assert frontend.ours() == []


def look_at(page: Page) -> None:
    page.evaluate("""() => {
        app.canvas.ds.scale = 1
        app.canvas.ds.offset = [100, 150]
        app.canvas.setDirty(true, true)
    }""")


def opened(page: Page, which: int = 0) -> Locator:
    """The photo in the open dialog."""
    page.get_by_role("button", name="Draw faces…").nth(which).click()
    photo = page.locator(".camouflage-boxes-photo")
    photo.wait_for()
    return photo


def drag(page: Page, photo: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of the photo to another, in its px."""
    box = photo.bounding_box()
    assert box
    scale = box["width"] / photo.evaluate("image => image.naturalWidth")
    points = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=4)
    page.mouse.up()


def note_says(page: Page, words: str) -> None:
    """Waits until the node says so."""
    page.wait_for_function(f"([id, words]) => ({PANEL})(id).note.includes(words)", arg=[NODE, words])


def drawn(page: Page, node: int = NODE) -> list[tuple[int, ...]]:
    """What the text says: px of the photo."""
    text = page.evaluate(WIDGET, [node, "boxes"])
    return [tuple(box.values()) for box in json.loads(text)["boxes"]] if text else []


def near(boxes: list[tuple[int, ...]], *expected: tuple[float, ...], within: float = 1.5) -> None:
    assert len(boxes) == len(expected), boxes
    np.testing.assert_allclose(boxes, expected, atol=within)  # a pixel of the screen is 1.25 of the photo


def came_out(page: Page, url: str) -> list[tuple[int, ...]]:
    """The boxes that the node gives when the workflow is run, px of the picture that it got."""
    prompt = page.evaluate("async () => (await app.graphToPrompt()).output")
    answer = page.request.post(f"{url}/prompt", data={"prompt": prompt}).json()
    for _ in range(200):
        entry = page.request.get(f"{url}/history/{answer['prompt_id']}").json().get(answer["prompt_id"])
        if entry:
            (boxes,) = json.loads(entry["outputs"][str(SHOW)]["text"][0])
            return [tuple(box.values()) for box in boxes]
        page.wait_for_timeout(50)
    raise AssertionError("the prompt did not end")


def expected(place: tuple[int, ...], width: int, height: int, fit: str) -> list[float]:
    """The closed form: a box of the photo in a picture of that size."""
    across, down = width / WIDTH, height / HEIGHT
    if fit != "stretch":
        across = down = max(across, down)
    x, y, w, h = place
    return [(width - WIDTH * across) / 2 + x * across, (height - HEIGHT * down) / 2 + y * down, w * across, h * down]


def test_boxes_that_are_drawn_lie_on_the_same_place_of_the_picture(page: Page, url: str) -> None:
    photo = opened(page)
    drag(page, photo, (200, 150), (320, 300))
    near(drawn(page), (200, 150, 120, 150))
    drag(page, photo, (690, 560), (600, 480))  # backwards
    near(drawn(page), (200, 150, 120, 150), (600, 480, 90, 80))
    drag(page, photo, (260, 220), (360, 260))  # moved
    near(drawn(page), (300, 190, 120, 150), (600, 480, 90, 80))
    drag(page, photo, (420, 340), (400, 400))  # its lower right handle
    near(drawn(page), (300, 190, 100, 210), (600, 480, 90, 80), within=2.5)
    drag(page, photo, (650, 520), (710, 530))  # the other one: chosen and moved
    near(drawn(page)[1:], (660, 490, 90, 80), within=2.5)
    drag(page, photo, (750, 530), (790, 600))  # its right handle
    near(drawn(page)[1:], (660, 490, 130, 80), within=4)
    page.keyboard.press("Escape")
    page.locator(".camouflage-dialog").wait_for(state="detached")

    places = drawn(page)
    assert json.loads(page.evaluate(WIDGET, [NODE, "boxes"]))["drawn_on"] == {"width": WIDTH, "height": HEIGHT}
    for fit, own, size in (("crop", "crop", (512, 384)), ("square", "crop", (512, 512)),
                           ("stretch", "stretch", (512, 384))):
        page.evaluate(SET, [PREPARE, "fit", fit])
        page.evaluate(SET, [NODE, "fit", own])
        near(came_out(page, url), *[expected(place, *size, fit) for place in places], within=1)


@NEWEST
def test_prepare_image_that_stretches_is_seen_and_taken_over(page: Page) -> None:
    photo = opened(page)
    drag(page, photo, (200, 150), (320, 300))
    page.keyboard.press("Escape")
    page.evaluate(SET, [PREPARE, "fit", "stretch"])
    page.evaluate("() => app.graph.getNodeById(3).onConnectionsChange?.()")
    note_says(page, "'Prepare Image' is set to 'stretch'")
    opened(page)
    page.keyboard.press("n")
    assert page.evaluate(WIDGET, [NODE, "fit"]) == "stretch"
    page.wait_for_function(f"id => ({PANEL})(id).note === ''", arg=NODE)


@NEWEST
def test_everything_can_be_done_with_keys(page: Page) -> None:
    opened(page)
    keys = page.keyboard
    keys.press("Enter")  # the photo has the focus
    (first,) = drawn(page)
    assert first[0] + first[2] / 2 == pytest.approx(WIDTH / 2, abs=1)
    for key in ("ArrowRight", "Shift+ArrowRight", "ArrowUp", "Alt+ArrowRight", "Alt+Shift+ArrowDown", "Alt+ArrowUp"):
        keys.press(key)
    moved = (first[0] + 11, first[1] - 1, first[2] + 1, first[3] + 9)
    assert drawn(page) == [moved]
    keys.press("n")
    second = drawn(page)[1]
    keys.press("Shift+Tab")
    keys.press("ArrowLeft")
    assert drawn(page) == [(moved[0] - 1, *moved[1:]), second]
    keys.press("Tab")
    keys.press("ArrowDown")
    assert drawn(page)[1] == (second[0], second[1] + 1, *second[2:])
    keys.press("Delete")
    assert len(drawn(page)) == 1
    keys.press("Control+z")
    keys.press("Control+z")
    assert drawn(page) == [(moved[0] - 1, *moved[1:]), second]
    keys.press("Control+Shift+z")
    assert drawn(page)[1] == (second[0], second[1] + 1, *second[2:])
    assert page.locator(".camouflage-dialog").count() == 1, "the workflow's own undo is left alone"
    for _ in range(4):
        keys.press("+")
    closer = page.locator(".camouflage-boxes-photo").bounding_box()
    keys.press("0")
    whole = page.locator(".camouflage-boxes-photo").bounding_box()
    assert closer and whole and closer["width"] > 3 * whole["width"]
    chosen = page.get_by_role("spinbutton", name="Box 1, width in px")
    chosen.fill("77")
    chosen.press("Tab")
    assert drawn(page)[0][2] == 77
    chosen.press("Delete")
    assert len(drawn(page)) == 2, "in a number the key is for the number"
    while drawn(page):
        page.get_by_role("button", name="Delete box 1").click()
    assert page.evaluate(WIDGET, [NODE, "boxes"]) == ""


@NEWEST
def test_boxes_are_there_again_after_a_reload_and_in_a_copy(page: Page) -> None:
    photo = opened(page)
    drag(page, photo, (200, 150), (320, 300))
    page.keyboard.press("Escape")
    kept = drawn(page)
    saved = page.evaluate("() => app.graph.serialize()")
    page.reload()
    page.wait_for_function(READY)
    page.evaluate("workflow => app.loadGraphData(workflow)", saved)
    page.wait_for_function(f"id => ({PANEL})(id).drawn > 50", arg=NODE)
    assert drawn(page) == kept
    page.evaluate("""id => {
        app.canvas.selectNode(app.graph.getNodeById(id))
        app.canvas.copyToClipboard()
        app.canvas.pasteFromClipboard({connectInputs: true})
    }""", NODE)
    copy = page.evaluate("() => app.graph.nodes.map(node => node.id).at(-1)")
    assert copy != NODE and drawn(page, copy) == kept
    page.evaluate("id => { app.graph.getNodeById(id).pos = [700, 560]; app.canvas.setDirty(true, true) }", copy)
    look_at(page)
    page.wait_for_function(f"id => ({PANEL})(id).drawn > 50", arg=copy)
    opened(page, 1)
    page.keyboard.press("n")
    assert len(drawn(page, copy)) == 2 and drawn(page) == kept, "each node has its own boxes"
    page.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", copy)
    page.locator(".camouflage-dialog").wait_for(state="detached")
    stored = page.evaluate("() => JSON.stringify({...localStorage, ...sessionStorage})")
    assert "data:image" not in stored and "blob:" not in stored


@NEWEST
def test_on_another_photo_nothing_is_lost_and_what_lies_outside_is_marked(page: Page) -> None:
    photo = opened(page)
    drag(page, photo, (200, 150), (280, 300))
    drag(page, photo, (600, 300), (700, 400))
    page.keyboard.press("Escape")
    kept = drawn(page)
    page.evaluate(SET, [LOADER, "image", SMALL])
    page.mouse.click(60, 900)
    note_says(page, "on a photo of 900 x 700 px, but this one has 300 x 500 px")
    assert "Boxes outside of the photo: 1." in page.evaluate(PANEL, NODE)["note"]
    opened(page)
    assert drawn(page) == kept
    assert page.locator(".camouflage-box.camouflage-outside").count() == 1
    page.get_by_role("button", name="Box 2: .* It lies outside of the photo").or_(
        page.locator(".camouflage-box.camouflage-outside")).first.focus()
    page.keyboard.press("ArrowLeft")
    assert drawn(page)[1][0] == 200 and page.locator(".camouflage-box.camouflage-outside").count() == 0


@NEWEST
def test_what_cannot_be_drawn_can_be_written(page: Page) -> None:
    for text, words in (("[[], []]", "a list of boxes for each of 2 pictures"), ("[{", "is not JSON"),
                        ('[{"x": 1}]', "Box 1 in the text needs x, y, width and height"),
                        ('[{"x": 1, "y": 2, "width": 3, "height": 4}]', "not the photo as it was loaded")):
        page.evaluate(SET, [NODE, "boxes", text])
        note_says(page, words)
        page.get_by_role("button", name="Draw faces…").click()
        field = page.get_by_role("textbox", name="Boxes as JSON")
        assert field.input_value() == text and page.locator(".camouflage-dialog").get_by_text(words).count() == 1
        field.fill("[[], [], []]")
        page.keyboard.press("Escape")
        page.wait_for_function(f"([id, text]) => ({WIDGET})([id, 'boxes']) === text", arg=[NODE, "[[], [], []]"])
    page.evaluate(SET, [NODE, "boxes", ""])
    page.evaluate("""id => {
        const node = LiteGraph.createNode('EmptyImage')
        app.graph.add(node)
        node.connect(0, app.graph.getNodeById(id), 0)
    }""", NODE)
    note_says(page, "do not come from one 'Load Image'")
    assert page.evaluate(PANEL, NODE)["hidden"]
    page.evaluate("id => app.graph.getNodeById(id).disconnectInput(0)", NODE)
    note_says(page, "Connect the pictures to 'image'")


@NEWEST
def test_in_nodes_2_it_is_the_same(page: Page) -> None:
    with in_nodes_2(page):
        photo = opened(page)
        drag(page, photo, (200, 150), (320, 300))
        near(drawn(page), (200, 150, 120, 150))
        page.keyboard.press("Escape")
        page.wait_for_function(f"id => ({PANEL})(id).drawn > 50", arg=NODE)
        shown = page.locator(".camouflage-boxes-thumbnail").bounding_box()
        assert shown and shown["height"] > 60
