"""The attribute editor of 'Edit Attributes': pointer and keys, and what its text means to the node in the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from attribute_editor import (
    AS_WRITTEN,
    HEIGHT,
    MIDDLE,
    NODE,
    NOTE,
    PREPARE,
    SET,
    WIDTH,
    chip,
    closed,
    inputs,
    meant,
    open_graph,
    opened,
    page,
    people,
    read,
    run,
    says,
    told,
)
from camouflage.comfy.face_facts import face_facts
from camouflage.method.attributes import DEMOGRAPHICS, EXPRESSION, edit
from camouflage.method.faces import ATTRIBUTES
from frontends import READY, in_nodes_2
from newest import NEWEST

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["page"]


def test_after_a_real_run_every_face_has_a_card_with_its_part_of_the_photo(page: Page) -> None:
    assert page.evaluate(NOTE, NODE).strip().endswith("Run the workflow once: then every face has a card here.")
    assert page.get_by_role("button", name="Edit ").filter(has_text="person").count() == 0
    run(page)
    opened(page)
    cards = page.locator(".camouflage-card:has(canvas)")
    page.wait_for_function("() => [...document.querySelectorAll('.camouflage-face')].every(one => one.dataset.drawn)")
    assert cards.count() >= 2
    for number in range(cards.count()):
        card = cards.nth(number)
        size, at = card.get_by_text("px at").inner_text().split(";")[0].replace(" px", "").split(" at ")
        width, height = map(int, size.split(" x "))
        left, top = map(int, at.split(", "))
        scale = HEIGHT / 512  # the square at the centre
        x, y = (WIDTH - HEIGHT) / 2 + scale * (left + width / 2), scale * (top + height / 2)
        np.testing.assert_allclose(card.locator("canvas").evaluate(MIDDLE)[:2], [255 * x / WIDTH, 255 * y / HEIGHT],
                                   atol=2)
    page.keyboard.press("9")
    says(page, {"0": {"Smiling": 0.9}})
    assert cards.first.locator(".camouflage-card-edits").inner_text() == "Smiling set to 0.9"
    closed(page)
    assert page.evaluate("() => document.activeElement.textContent").startswith("Edit ")

    saved = page.evaluate("() => app.graph.serialize()")
    run(page)
    page.reload()
    page.wait_for_function(READY)
    open_graph(page, saved)
    assert "Run the workflow once" in page.evaluate(NOTE, NODE)
    run(page)  # all of it is in the host's cache
    assert opened(page).locator(".camouflage-card:has(canvas)").count() == cards.count()
    says(page, {"0": {"Smiling": 0.9}})


@NEWEST
def test_set_keep_forget_with_pointer_and_keys(page: Page) -> None:
    faces = people(2)
    told(page, faces)
    opened(page)
    before = read(faces)
    assert chip(page, "Person 1", "Male").input_value() == f"Male {before[1]['Male']:.2f}"
    other = float(before[1]["Male"] < 0.5)
    chip(page, "Person 1", "Male").click()
    says(page, {"1": {"Male": int(other)}})
    assert meant(page, faces) == [before[0], {**before[1], "Male": other}]
    chip(page, "Person 1", "Male").click()
    says(page, {"1": {"Male": "forget"}})
    assert meant(page, faces)[1] == {**before[1], "Male": None}
    chip(page, "Person 1", "Male").click()
    assert inputs(page)["edits"] == "" and meant(page, faces) == before

    keys = page.keyboard
    chip(page, "Person 0", "Smiling").focus()
    keys.press("3")
    keys.press("ArrowRight")
    keys.press("Enter")
    keys.press("Enter")
    keys.press("ArrowDown")
    keys.press("Home")
    keys.press("ArrowRight")
    keys.press("Shift+Tab")
    keys.press("Tab")  # back to the same chip: the card is one stop
    assert page.evaluate("() => document.activeElement.title") == "Smiling"
    keys.press("ArrowRight")
    says(page, {"0": {"Smiling": 0.3, "Mouth_Slightly_Open": "forget"}})
    keys.press("Delete")
    says(page, {"0": {"Smiling": 0.3}})
    keys.press("Tab")
    keys.press("End")  # of the slider
    says(page, {"0": {"Smiling": 0.3, "Mouth_Slightly_Open": 1}})
    assert meant(page, faces)[0] == {**before[0], "Smiling": 0.3, "Mouth_Slightly_Open": 1.0}
    page.get_by_role("region", name="Person 0").get_by_role("button", name="forget all: Male").click()
    assert {name for name, p in meant(page, faces)[0].items() if p is None} == DEMOGRAPHICS
    page.get_by_role("searchbox").fill("hat")
    assert page.locator(".camouflage-chip:visible").count() == 3, "of both persons and of everybody"
    page.get_by_role("button", name="Clear the edits of Person 0").click()
    assert inputs(page)["edits"] == ""
    words = """async () => {
        const sheet = document.querySelector('link[href$="attributes.css"]').href
        const { GROUPS } = await import(new URL('attribute_words.js', sheet).href)
        return GROUPS.map(({ title, attributes }) => [title, Object.keys(attributes)])
    }"""
    groups = dict(page.evaluate(words))
    assert sorted(name for group in groups.values() for name in group) == sorted(ATTRIBUTES)
    assert set(groups["Demographics"]) == DEMOGRAPHICS and set(groups["Expression"]) == EXPRESSION


@NEWEST
def test_presets_are_those_of_the_node_and_one_in_the_text_follows(page: Page) -> None:
    faces = people(1)
    told(page, faces)
    opened(page)
    options = page.evaluate("id => app.graph.getNodeById(id).widgets.find(one => one.name === 'preset').options.values",
                            NODE)
    radios = page.locator(".camouflage-dialog").get_by_role("radio")
    assert radios.evaluate_all("all => all.map(one => one.value)") == options
    radios.nth(options.index("expression only")).check()
    says(page, {}, "expression only")
    chip(page, "Person 0", "Male").click()  # forgotten by the preset: kept by hand
    says(page, {"0": {"Male": "keep"}}, "expression only")
    assert {name for name, p in meant(page, faces)[0].items() if p is not None} == {*EXPRESSION, "Male"}
    closed(page)

    page.evaluate(SET, [NODE, "preset", "paper"])
    page.evaluate(SET, [NODE, "edits", '{"persons": {"0": {"Young": 1}}, "preset": "no demographics"}'])
    editor = opened(page)
    assert "'preset' is 'paper', but the text names 'no demographics'" in editor.get_by_role("alert").inner_text()
    editor.get_by_role("radio", name=AS_WRITTEN).check()
    assert editor.get_by_role("alert").count() == 0 and meant(page, faces)[0]["Male"] is None
    assert chip(page, "Person 0", "Male").get_attribute("data-state") == "forget"
    editor.get_by_role("radio", name="demographics only").check()
    given = inputs(page)
    assert given["preset"] == "demographics only"
    assert json.dumps(json.loads(given["edits"])) == '{"persons": {"0": {"Young": 1}}, "preset": "demographics only"}'
    assert {name for name, p in meant(page, faces)[0].items() if p is not None} == DEMOGRAPHICS


@NEWEST
def test_what_everybody_gets_what_a_picture_gets_and_what_one_person_gets(page: Page) -> None:
    faces = people(3)
    before = read(faces)
    told(page, faces)
    page.evaluate(SET, [NODE, "edits", '{"persons": {"2": {"Bald": 0.5, "Male": 0}, "all": {"Young": "forget"}, '
                                       '"0:1": {"Male": 1}}}'])
    editor = opened(page)
    assert chip(page, "Person 1", "Young").get_attribute("data-state") == "forget"
    chip(page, "Person 1", "Young").click()
    says(page, {"2": {"Bald": 0.5, "Male": 0}, "all": {"Young": "forget"}, "0:1": {"Male": 1, "Young": "keep"}})
    assert meant(page, faces) == [{**before[0], "Young": None}, {**before[1], "Male": 1.0},
                                  {**before[2], "Young": None, "Bald": 0.5, "Male": 0.0}]
    editor.get_by_role("button", name="Apply the edits of Person 1 to everybody").click()
    says(page, {"2": {"Bald": 0.5}, "all": {"Male": 1}})
    assert meant(page, faces) == [{**before[0], "Male": 1.0}, {**before[1], "Male": 1.0},
                                  {**before[2], "Male": 1.0, "Bald": 0.5}]
    chip(page, "Everybody", "Smiling").click()
    says(page, {"2": {"Bald": 0.5}, "all": {"Male": 1, "Smiling": 1}})
    editor.get_by_role("button", name="Undo the last change").click()
    editor.get_by_role("button", name="Undo the last change").click()
    says(page, {"2": {"Bald": 0.5, "Male": 0}, "all": {"Young": "forget"}, "0:1": {"Male": 1, "Young": "keep"}})
    closed(page)

    faces = people(2, 0, 1)  # several pictures have sections
    before = read(faces)
    told(page, faces)
    page.evaluate(SET, [NODE, "edits", '{"persons": {"1": {"Bald": 1}}}'])
    editor = opened(page)
    assert editor.locator("h3").all_inner_texts() == [f"Picture {i} (counted from 0)" for i in range(3)]
    assert editor.get_by_text("No face was found in this picture.").count() == 1
    assert editor.get_by_role("region", name="Person 1 of every picture").get_by_text("Bald set to 1").count() == 1
    chip(page, "Picture 2, person 0", "Male").focus()
    page.keyboard.press("1")
    page.get_by_role("button", name="Show attributes: Everybody in picture 0").click()
    chip(page, "Everybody in picture 0", "Young").click()
    page.keyboard.press("Space")
    says(page, {"1": {"Bald": 1}, "2:0": {"Male": 0.1}, "0:all": {"Young": "forget"}})
    assert meant(page, faces) == [{**before[0], "Young": None}, {**before[1], "Young": None, "Bald": 1.0},
                                  {**before[2], "Male": 0.1}]


@NEWEST
def test_undo_here_and_afterwards_in_the_frontend(page: Page) -> None:
    told(page, people(1))
    opened(page)
    for key in ("2", "4", "Control+z", "Control+Shift+z", "Control+z"):
        page.keyboard.press(key)
    says(page, {"0": {"Smiling": 0.2}})
    page.wait_for_timeout(300)
    assert page.locator(".camouflage-dialog").count() == 1, "the workflow's own undo is left alone"
    page.mouse.click(300, 400)  # beside everything: the keys stay with the editor
    page.keyboard.press("6")
    says(page, {"0": {"Smiling": 0.6}})
    closed(page)
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("Control+z")
    page.wait_for_function("id => app.graph.getNodeById(id).widgets[1].value.includes('0.2')", arg=NODE)
    says(page, {"0": {"Smiling": 0.2}})
    assert opened(page).locator(".camouflage-card:has(canvas)").count() == 1, "it still knows who is there"
    assert chip(page, "Person 0", "Smiling").input_value() == "Smiling = 0.2"


@NEWEST
def test_neither_a_text_that_the_node_refuses_nor_a_connected_one_is_overwritten(page: Page) -> None:
    told(page, people(1))
    for text, where in (('{"persons": {\n  "0": {Smiling: 1}\n}}', "Line 2, column 9"),
                        ('{"persons": {"0": {}, "0": {}}}', 'the name "0" stands twice'),
                        ('{"persons": {"0": {"Smilling": 1}}}', 'persons["0"]["Smilling"] is no attribute'),
                        ('{"persons": {"first": {}}}', 'persons["first"] is no person'),
                        ('{"persons": {"0": {"Male": 2}}}', "a probability from 0 to 1")):
        with pytest.raises(ValueError, match="edits"):
            edit(people(1), text)
        page.evaluate(SET, [NODE, "edits", text])
        editor = opened(page)
        assert where in editor.get_by_role("alert").inner_text()
        chip(page, "Person 0", "Male").click(force=True)  # it says that it is disabled
        page.keyboard.press("9")
        assert inputs(page)["edits"] == text
        closed(page)
    editor = opened(page)
    editor.get_by_role("button", name="Start anew").click()
    assert inputs(page)["edits"] == ""
    chip(page, "Person 0", "Male").focus()
    page.keyboard.press("9")
    says(page, {"0": {"Male": 0.9}})
    for _ in range(2):
        page.keyboard.press("Control+z")
    assert inputs(page)["edits"] == text
    closed(page)

    page.evaluate(SET, [NODE, "edits", ""])
    page.evaluate("id => app.graph.getNodeById(id).disconnectInput(0)", PREPARE)
    editor = opened(page)
    assert "There is another picture now" in editor.get_by_role("alert").inner_text()
    assert editor.locator("canvas[data-drawn]").count() == 0
    closed(page)
    page.evaluate("""id => {
        const text = LiteGraph.createNode('PrimitiveStringMultiline')
        app.graph.add(text)
        const node = app.graph.getNodeById(id)
        text.connect(0, node, node.inputs.findIndex(slot => slot.name === 'edits'))
    }""", NODE)
    editor = opened(page)
    assert "'edits' is connected" in editor.get_by_role("alert").first.inner_text()
    chip(page, "Person 0", "Male").click(force=True)
    page.keyboard.press("9")
    assert editor.get_by_role("radio").first.is_disabled()
    widgets = page.evaluate("id => app.graph.getNodeById(id).widgets.slice(0, 2).map(one => one.value)", NODE)
    assert widgets == ["paper", ""]


@NEWEST
def test_edits_of_persons_who_are_not_found_any_more_stay_until_they_are_deleted(page: Page, url: str) -> None:
    told(page, people(4))
    page.evaluate(SET, [NODE, "edits", '{"persons": {"3": {"Male": 1}, "all": {"Young": 0}, "0:2": {"Bald": 0}}}'])
    faces = people(2)
    page.evaluate("""([id, facts]) => {
        const { api } = window.comfyAPI.api
        api.dispatchEvent(new CustomEvent('camouflage.faces', { detail: { node: String(id), output: facts } }))
    }""", [NODE, face_facts(faces)])
    page.wait_for_function(f"id => ({NOTE})(id).includes('Not found now: Person 3; Picture 0, person 2.')", arg=NODE)
    editor = opened(page)
    assert editor.locator(".camouflage-card:has(canvas)").count() == 2
    lost = editor.get_by_role("region", name="(not found now)")
    assert lost.locator("h4").all_inner_texts() == ["Person 3 (not found now)", "Person 2 (not found now)"]
    chip(page, "Person 0", "Smiling").focus()
    page.keyboard.press("5")
    editor.get_by_role("button", name="Apply the edits of Person 0 to everybody").click()
    says(page, {"3": {"Male": 1}, "all": {"Young": 0, "Smiling": 0.5}, "0:2": {"Bald": 0}})
    with pytest.raises(ValueError, match="names person 3"):
        meant(page, faces)
    lost.get_by_role("button").first.click()
    lost.get_by_role("button").first.click()
    assert lost.count() == 0
    says(page, {"all": {"Young": 0, "Smiling": 0.5}})
    assert meant(page, faces) == [{**one, "Young": 0.0, "Smiling": 0.5} for one in read(faces)]
    page.keyboard.press("Control+z")
    assert lost.count() == 1 and list(json.loads(inputs(page)["edits"])["persons"]) == ["all", "0:2"]


@NEWEST
def test_copies_reloads_and_a_second_editor_have_their_own_edits(page: Page) -> None:
    told(page, people(2))
    opened(page)
    page.keyboard.press("7")
    closed(page)
    page.evaluate("""id => {
        app.canvas.selectNode(app.graph.getNodeById(id))
        app.canvas.copyToClipboard()
        app.canvas.pasteFromClipboard({connectInputs: true})
    }""", NODE)
    copy = page.evaluate("() => app.graph.nodes.map(node => node.id).at(-1)")
    page.evaluate("id => { app.graph.getNodeById(id).pos = [1130, 60] }", copy)
    assert copy != NODE and "Run the workflow once" in page.evaluate(NOTE, copy)
    says(page, {"0": {"Smiling": 0.7}}, node=copy)
    told(page, people(1), copy)
    editor = opened(page, 1)
    assert editor.locator(".camouflage-card:has(canvas)").count() == 1
    page.keyboard.press("1")
    says(page, {"0": {"Smiling": 0.1}}, node=copy)
    says(page, {"0": {"Smiling": 0.7}})
    closed(page)
    saved = page.evaluate("() => app.graph.serialize()")
    assert "box_ltrb" not in json.dumps(saved) and "camouflage_attributes" not in json.dumps(saved["nodes"])
    page.reload()
    page.wait_for_function(READY)
    open_graph(page, saved)
    says(page, {"0": {"Smiling": 0.1}}, node=copy)
    says(page, {"0": {"Smiling": 0.7}})
    told(page, people(2))
    opened(page)
    assert chip(page, "Person 0", "Smiling").input_value() == "Smiling = 0.7"
    page.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", NODE)
    page.locator(".camouflage-dialog").wait_for(state="detached")


@NEWEST
def test_in_nodes_2_the_text_on_the_node_follows(page: Page) -> None:
    with in_nodes_2(page):
        told(page, people(1))
        opened(page)
        page.keyboard.press("8")
        closed(page)
        says(page, {"0": {"Smiling": 0.8}})
        text = page.locator("textarea:visible").first
        assert '"Smiling": 0.8' in text.input_value()
        text.fill('{"persons": {"all": {"Male": "forget"}}}')
        opened(page)
        assert chip(page, "Person 0", "Male").get_attribute("data-state") == "forget"
