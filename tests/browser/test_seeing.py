"""What came out, on the nodes: verdicts, tries, the report as a page, before and after."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from camouflage.comfy.messages import report_facts
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.recognition import Threshold
from camouflage.verification.report import Attempt, CheckedPicture, Person, Report, Verdict
from frontends import Frontend
from graphs import queue, redaction, upload
from newest import NEWEST

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHOTO = skimage.data.astronaut()[:384, 96:352]
ADD = """type => {
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    return node.id
}"""
TELL = "([type, detail]) => window.comfyAPI.api.api.dispatchEvent(new CustomEvent(type, {detail}))"
EXECUTED = "([id, output]) => app.graph.getNodeById(id).onExecuted(output)"
PANEL = """id => {
    const panel = app.graph.getNodeById(id).widgets.find(widget => widget.name === 'camouflage_verdict')
    return panel && !panel.hidden ? panel.element.innerText.trim().split(/\\n+/) : []
}"""
PROMPT = "async () => JSON.stringify((await app.graphToPrompt()).output)"
FROM_OURS = """async ([file, name, args]) => {
    const loaded = performance.getEntriesByType('resource').find(entry => entry.name.endsWith(`/${file}`)).name
    return void (await import(loaded))[name](...args)
}"""
LOADED = "() => [...document.querySelectorAll('.camouflage-stage img')].every(image => image.naturalWidth > 0)"
STORED = "() => JSON.stringify([{...localStorage}, {...sessionStorage}])"


def opened(page: Page) -> Any:
    """The dialog of ours that is open."""
    return page.locator("dialog.camouflage-dialog")


def test_a_run_shows_verdict_report_and_before_and_after(frontend: Frontend) -> None:
    page = frontend.page
    upload(page, "seeing.png", PHOTO)
    frontend.load(redaction("seeing.png"))
    asked = page.evaluate(PROMPT)
    assert page.locator(".camouflage-panel").count() == 0
    queue(frontend)
    badges = page.locator(".camouflage-badge")
    badges.nth(1).wait_for()
    assert [text.split() for text in badges.locator(".camouflage-redacted").all_inner_texts()] == [["redacted"]] * 2
    assert all("Persons: 1 redacted." in text for text in badges.all_inner_texts())
    assert page.evaluate(PROMPT) == asked, "panels are no part of what is queued"

    badges.get_by_role("button", name="Report").first.click()
    report = opened(page)
    (row,) = [text.split("\t") for text in report.locator("tbody tr").all_inner_texts()]
    assert row[0] == "person 0" and row[1].strip() == "redacted"
    assert "the region was replaced (solid)" in row[4] and "Found by CenterFace" in row[4]
    assert "Threshold 0.600 (dlib's advice)" in report.inner_text()
    page.keyboard.press("Escape")
    opened(page).wait_for(state="detached")

    page.get_by_role("button", name="Before and after").click()
    pictures = opened(page).locator("img")
    page.wait_for_function(LOADED)
    addresses = pictures.evaluate_all("images => images.map(image => image.src)")
    assert len(addresses) == 2 and all(address.startswith("blob:") for address in addresses)
    assert pictures.evaluate_all("images => images.map(i => [i.naturalWidth, i.naturalHeight])") == [[256, 384]] * 2
    stage = opened(page).locator(".camouflage-stage")
    for key, shown in (("ArrowRight", "51%"), ("Home", "0%"), ("End", "100%")):
        page.keyboard.press(key)
        assert stage.evaluate("stage => stage.style.getPropertyValue('--shown')") == shown
    assert "The original stays in this browser's memory." in opened(page).inner_text()
    page.keyboard.press("Escape")
    opened(page).wait_for(state="detached")
    gone = "async urls => Promise.all(urls.map(url => fetch(url).then(() => false, () => true)))"
    assert page.evaluate(gone, addresses) == [True, True]

    stored = page.evaluate(STORED)
    assert [word for word in ("blob:", "data:image", "camouflage_report", "was replaced") if word in stored] == []
    assert [error for error in frontend.ours() if "blob:" not in error] == []


def shot(page: Page, shown: int) -> np.ndarray:
    """The stage with this much of the original, in percent."""
    stage = opened(page).locator(".camouflage-stage")
    stage.evaluate("(stage, shown) => stage.style.setProperty('--shown', `${shown}%`)", shown)
    return np.asarray(Image.open(io.BytesIO(stage.screenshot())).convert("RGB")).astype(int)


@NEWEST
def test_an_original_of_another_size_lies_exactly_on_its_crop(frontend: Frontend) -> None:
    page = frontend.page
    rows, columns = np.mgrid[0:300, 0:620]
    squares = (rows // 20 + columns // 20) % 2 * 200
    whole = np.stack([columns * 255 // 620, rows * 255 // 300, squares], 2).astype(np.uint8)
    upload(page, "whole.png", whole)
    crop = Image.fromarray(whole[:, 110:510]).resize((768, 576), Image.Resampling.LANCZOS)
    upload(page, "crop.png", np.asarray(crop))
    upload(page, "other.png", np.full_like(whole, 90))
    saved = [{"filename": name, "subfolder": "", "type": "input"} for name in ("crop.png", "other.png")]
    address = page.evaluate("name => window.comfyAPI.api.api.apiURL(`/view?type=input&filename=${name}`)", "whole.png")
    page.evaluate(FROM_OURS, ["compare.js", "openComparison", [saved, [address, address]]])
    page.wait_for_function(LOADED)
    before, after = shot(page, 100), shot(page, 0)
    inside = (slice(8, -8), slice(8, -8))
    apart, shifted = (np.abs(np.roll(before, by, axis=1)[inside] - after[inside]).mean() for by in (0, 2))
    assert apart < 2 and shifted > 2 * apart, "and a shift of 2 px would be seen"

    opened(page).get_by_role("button", name="Next").click()
    page.wait_for_function("() => document.querySelector('.camouflage-after').naturalWidth === 620")
    assert opened(page).get_by_role("status").inner_text() == "2 of 2"
    page.keyboard.press("Escape")
    for originals, words in (([address], "Originals that this browser knows: 1. Saved pictures: 2."),
                             (None, "does not know the original")):
        page.evaluate(FROM_OURS, ["compare.js", "openComparison", [saved, originals]])
        assert words in opened(page).inner_text()
        assert opened(page).locator("img").count() == 1 and opened(page).get_by_role("slider").count() == 0
        page.keyboard.press("Escape")


def facts() -> dict[str, Any]:
    """Two pictures in which everything happens that can be said, and one that was left out."""
    person = Person(0, (10, 20, 74, 100), Verdict.SAFE, 0.71, 1, "a stranger is there", ("CenterFace",))
    persons = (person, replace(person, number=1, verdict=Verdict.RECOGNISABLE, distance=0.31),
               replace(person, number=2, verdict=Verdict.EXEMPT, distance=0.0),
               replace(person, number=3, verdict=Verdict.UNVERIFIABLE, distance=float("inf"), nearest=None, kind="area",
                       reason="no face: nothing can be compared", detectors=()),
               replace(person, number=4, verdict=Verdict.REDACTED, kind="new"))
    tries = (Attempt(2**60 + 1, 1.25, (Verdict.RECOGNISABLE,), 0.2), Attempt(8, 1.5, (Verdict.SAFE,), 0.7, kept=True))
    first = CheckedPicture(480, 640, "aa", persons, 1, 2, attempts=tries, moved="turned by 90 degrees")
    nobody = CheckedPicture(480, 640, "bb", (), nobody_passed=True)
    threshold = Threshold(0.5, "R", 0.001, "measured", advised=0.6)
    return report_facts(Report((first, nobody), threshold, ModelInfo("R", "1", "CC0"), (ModelInfo("D", "1", "MIT"),),
                               skipped=(2,)))


@NEWEST
def test_the_report_says_everything_can_be_printed_and_copied(frontend: Frontend) -> None:
    page, told = frontend.page, facts()
    node = page.evaluate(ADD, "CamouflageVerify")
    page.evaluate(EXECUTED, [node, told])
    assert page.evaluate(PANEL, node) == [
        "recognisable", "Persons: 1 safe, 1 redacted, 1 exempt, 1 unverifiable, 1 recognisable. "
        "Left out, no face found: 1. Do not publish this.", "Report"]
    page.evaluate(FROM_OURS, ["report.js", "openReport", [told["camouflage_report"]]])
    report = opened(page)
    text = report.inner_text()
    for words in ("Picture 0 (counted from 0) of 2", "This picture does not pass. Do not publish it.",
                  "turned by 90 degrees", "0.710", "nearest: person 1", "person area 3", "new face 4",
                  "nothing to compare", "64 x 80 at 10, 20", "false-accept rate 0.001", "laxer than advised (0.600)",
                  "Faces that are gone without a redaction: 1.", "It was let through because somebody chose so.",
                  "kept", "Left out, no face found (counted from 0 as they came): 2.", "≈ "):
        assert words in text, words
    scale = report.locator("tbody .camouflage-scale").first
    assert scale.get_attribute("aria-label") == "Distance 0.710, threshold 0.500"
    place = "line => ['--threshold', '--at'].map(name => parseFloat(line.style.getPropertyValue(name)))"
    assert scale.evaluate(place) == [50, pytest.approx(71)]
    assert report.locator("tbody .camouflage-scale i").count() == 4, "no dot where nothing was compared"

    page.evaluate("""() => { window.print = () => {
        window.printed = [...document.body.children].filter(part => getComputedStyle(part).display !== 'none')
            .map(part => part.className)} }""")
    report.get_by_role("button", name="Print").click()
    assert page.evaluate("() => window.printed") == ["camouflage-dialog camouflage-report camouflage-printed"]
    assert page.evaluate("() => document.documentElement.className.includes('camouflage')") is False
    page.evaluate("""() => Object.defineProperty(navigator, 'clipboard',
                         {value: {writeText: async text => { window.copied = text }}})""")
    report.get_by_role("button", name="Copy as text").click()
    report.get_by_text("Copied.").wait_for()
    assert page.evaluate("() => window.copied") == told["camouflage_report"][0]["text"]


@NEWEST
def test_tries_are_listed_as_they_happen_and_a_subgraph_hides_no_node_and_no_original(frontend: Frontend) -> None:
    page = frontend.page
    frontend.load(redaction("example.png"))
    source = "([ours, id]) => import(ours).then(host => host.sourcePictures(app.graph.getNodeById(id)))"
    save, host = page.evaluate("""() => [app.graph.nodes.find(node => node.type === 'CamouflageSaveImage').id,
        performance.getEntriesByType('resource').find(entry => /camouflage.*\\/host.js$/i.test(entry.name)).name]""")
    originals = page.evaluate(source, [host, save])
    assert len(originals) == 1 and "filename=example.png" in originals[0]
    holder = page.evaluate("""type => app.graph.convertToSubgraph(
        new Set([app.graph.nodes.find(node => node.type === type)])).node.id""", "CamouflageVerify")
    assert page.evaluate(source, [host, save]) == originals
    page.evaluate("id => app.graph.getNodeById(id).disconnectInput(0)", holder)
    assert page.evaluate(source, [host, save]) is None, "the result of the same photo is no original"

    inside = """id => {
        const [node] = app.graph.getNodeById(id).subgraph.nodes
        const panel = node.widgets.find(widget => widget.name === 'camouflage_verdict')
        return [node.id, panel && !panel.hidden ? panel.element.innerText.split('\\n') : []]
    }"""
    node = f"{holder}:{page.evaluate(inside, holder)[0]}"
    for number, verdicts in ((1, {"recognisable": 1}), (2, {"safe": 2})):
        page.evaluate(TELL, ["camouflage.try", {"node": node, "number": number, "of": 3, "verdicts": verdicts}])
    listed = "id => [...app.graph.getNodeById(id).subgraph.nodes[0].widgets.at(-1).element.querySelectorAll('li')]"
    assert page.evaluate(f"{listed}.map(line => line.textContent)", holder) == [
        "Try 1 of 3: 1 recognisable", "Try 2 of 3: 2 safe"]
    page.evaluate(TELL, ["camouflage.try", {"node": "99:1", "number": 1, "of": 3, "verdicts": {}}])
    page.evaluate(TELL, ["executing", node])
    assert page.evaluate(inside, holder)[1] == []
    assert frontend.ours() == []
