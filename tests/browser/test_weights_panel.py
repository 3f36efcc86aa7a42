"""The panel about weights in the sidebar: it agrees with the disk in every state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bad_server import BadServer, running
from camouflage.batch.server import ComfyServer
from camouflage.weights import Weight, size_text
from frontends import READY, Frontend
from newest import NEWEST
from stand_ins import BASE, address, on_disk, publish, stand_ins
from weights_tab import ALL_ROWS, OPEN, ROWS, TOGGLE

FILES = stand_ins(30_000, 90_000)
SHOWS = """states => Object.entries(states).every(
    ([file, state]) => document.querySelector(`[data-file="${file}"]`)?.dataset.state === state)"""
LISTED = """async name => {
    const definitions = await (await fetch('/api/object_info/CheckpointLoaderSimple')).json()
    const node = LiteGraph.createNode('CheckpointLoaderSimple')
    const values = node.widgets.find(widget => widget.name === 'ckpt_name').options.values
    const listed = typeof values === 'function' ? values() : values
    return JSON.stringify(definitions).includes(name) && listed.includes(name)
}"""


@dataclass
class Place:
    """A ComfyUI without weights, and the server that has them."""

    url: str
    models: Path
    hub: BadServer


@pytest.fixture(scope="module")
def place(comfyui: Path, front_end: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("weights")
    with running() as hub:
        publish(FILES, hub, folder / "run" / "models")
        environment = {"CAMOUFLAGE_CACHE": str(folder / "cache"), "HF_ENDPOINT": hub.url}
        with ComfyServer(comfyui, folder / "run", environment=environment, arguments=front_end) as server:
            yield Place(f"http://{server.address}", folder / "run" / "models", hub)


@pytest.fixture(scope="module")
def url(place: Place) -> str:
    return place.url


@dataclass
class Panel:
    """What a person sees and does."""

    frontend: Frontend
    place: Place

    def __post_init__(self) -> None:
        self.page = self.frontend.page
        self.open()

    def open(self) -> None:
        self.page.evaluate(OPEN)
        self.page.wait_for_selector(".camouflage-weights li")

    def press(self, button: str) -> None:
        """With the keyboard."""
        self.page.get_by_role("button", name=button, exact=True).focus()
        self.page.keyboard.press("Enter")

    def look(self, **states: Weight) -> dict[str, dict]:
        """Looks at the disk again, until these files are in these states."""
        self.page.get_by_role("button", name="Look at the disk again").click()
        return self.shows({weight.path: state for state, weight in states.items()})

    def shows(self, states: dict[str, str]) -> dict[str, dict]:
        """Waits until it does; all rows."""
        self.page.wait_for_function(SHOWS, arg=states)
        return self.rows()

    def rows(self) -> dict[str, dict]:
        return self.page.eval_on_selector_all(ALL_ROWS, ROWS)

    def says(self, what: str) -> None:
        """Waits until it does."""
        self.page.locator(".camouflage-weights").get_by_text(what).wait_for()

    def agrees(self) -> dict[str, dict]:
        """With the disk, on every file; the words are there, too."""
        rows = self.shows(on_disk(FILES, self.place.models))
        words = {"partly": "partly there"}
        for row in rows.values():
            assert not row["shown"] or words.get(row["state"], row["state"]) in row["text"]
        return rows


@pytest.fixture
def panel(frontend: Frontend, place: Place) -> Panel:
    return Panel(frontend, place)


@NEWEST
def test_the_panel_agrees_with_the_disk_from_nothing_to_all(panel: Panel) -> None:
    page, place = panel.page, panel.place
    rows = panel.agrees()
    assert {row["state"] for row in rows.values()} == {"missing", "to be trained"}
    assert {file for file, row in rows.items() if row["shown"]} == {weight.path for weight in BASE}
    panel.says("Missing: 27 of 27 files. To download: 4.14 GB. Files of unknown size: 16.")
    assert not list(place.models.rglob("*.part")) and place.hub.asked == [], "nothing comes before somebody orders it"

    place.hub.pause = 0.3
    panel.press("Download")
    page.wait_for_selector('[data-state="downloading"]')
    page.wait_for_function("() => /\\d of 27 files, .*B of .*B, .*B\\/s/.test("
                           "document.querySelector('.camouflage-weights-pace').textContent)")
    assert page.get_by_role("button", name="Download", exact=True).is_disabled()
    refused = page.request.post(f"{place.url}/camouflage/weights/get", data={"pipelines": ["base"]})
    assert refused.status == 409 and "already" in refused.json()["error"]

    page.reload()
    page.wait_for_function(READY)
    page.evaluate(OPEN)
    page.wait_for_selector('[data-state="downloading"]')
    panel.press("Stop")
    panel.says("Download goes on from there.")
    rows = panel.agrees()
    assert any(row["state"] == "partly" and "Download goes on with it." in row["text"] for row in rows.values())

    place.hub.pause, last = 0.0, BASE[-1]
    content = place.hub.files.pop(address(last))
    panel.press("Download")
    panel.says("Files that could not be had: 1.")
    assert "the server answered 404" in panel.agrees()[last.path]["text"]
    page.evaluate(TOGGLE)
    page.wait_for_selector(".camouflage-weights", state="detached")
    panel.open()
    assert "the server answered 404" in panel.agrees()[last.path]["text"], "what was found wrong stays"
    place.hub.files[address(last)] = content
    panel.press("Download")
    panel.says("Nothing is missing.")
    rows = panel.agrees()
    assert {file for file, row in rows.items() if row["state"] == "present"} == {weight.path for weight in BASE}
    assert size_text(len(FILES[BASE[0]])) in rows[BASE[0].path]["text"]
    page.wait_for_function(LISTED, arg=BASE[0].file)
    assert panel.frontend.ours() == []


@NEWEST
def test_damaged_files_are_named_and_replaced_only_if_wanted(panel: Panel) -> None:
    page, models = panel.page, panel.place.models
    whole(models)
    (models / BASE[0].path).write_bytes(b"<html>login</html>")
    (models / BASE[1].path).write_bytes(FILES[BASE[1]][:-1] + b"!")
    rows = panel.look(damaged=BASE[0], unverified=BASE[1])
    assert "'Check digests' does it" in rows[BASE[1].path]["text"]
    panel.press("Check digests")
    panel.says("Checked. Right: 25; nothing to compare with: 0; damaged: 2.")
    text = panel.agrees()[BASE[0].path]["text"]
    assert "It is a web page" in text and "Tick 'Replace damaged files'" in text
    assert page.get_by_role("button", name="Download", exact=True).is_disabled()
    page.get_by_label("Replace damaged files").check()
    panel.press("Download")
    panel.says("Files that have come: 2.")
    assert {row["state"] for row in panel.agrees().values() if row["shown"]} == {"present"}
    page.get_by_label("Replace damaged files").wait_for(state="hidden")


def whole(models: Path) -> None:
    """All of Base is there."""
    for weight, content in FILES.items():
        (models / weight.path).parent.mkdir(parents=True, exist_ok=True)
        (models / weight.path).write_bytes(content)


@NEWEST
def test_choosing_and_searching(panel: Panel) -> None:
    page, models = panel.page, panel.place.models
    whole(models)
    (models / BASE[2].path).unlink()
    panel.look(missing=BASE[2])

    def shown() -> list[str]:
        return [file for file, row in panel.rows().items() if row["shown"]]

    page.get_by_label("Only what is missing").check()
    assert shown() == [BASE[2].path]
    page.get_by_label("Only what is missing").uncheck()
    page.get_by_label("Search the files").fill("openpose not allowed")
    assert sorted(shown()) == sorted(weight.path for weight in BASE if weight.role == "pose")
    page.get_by_label("Search the files").fill("nothing like that")
    panel.says("No file is like that.")
    page.get_by_label("Search the files").fill("")

    page.get_by_label("Only weights that a company may use").check()
    panel.says("Others do the work of pose: set 'network' of 'Pose Map' to ViTPose.")
    panel.says("Others do the work of checkpoint: set 'ckpt_name' of 'Checkpoint' to v1-5-pruned-emaonly.safetensors.")
    assert not any("pose/" in file for file in shown()) and any("keypoints/" in file for file in shown())
    page.locator(".camouflage-weights select").select_option(label="CAMOUFLaGE-Light")
    panel.says("No licence clearly lets a company use the files for: face attributes, face encoder, ")
    page.get_by_label("Only weights that a company may use").uncheck()
    panel.says("Files that you have to train: 2.")
    trained = panel.rows()["camouflage/light/camouflage_light_sd15.safetensors"]["text"]
    assert "`python run.py train`" in trained and "docs/training.md" in trained
    links = page.eval_on_selector_all(".camouflage-weights li a", "all => all.map(a => [a.target, a.rel, a.href])")
    assert links and all(target == "_blank" and "noopener" in rel and href.startswith("https://")
                         for target, rel, href in links)
    page.locator(".camouflage-weights select").select_option(label="CAMOUFLaGE-Base")


@NEWEST
def test_a_closed_tab_asks_nothing(panel: Panel) -> None:
    page, place = panel.page, panel.place
    whole(place.models)
    (place.models / BASE[2].path).unlink()
    panel.look(missing=BASE[2])
    page.evaluate(OPEN)
    assert page.locator(".camouflage-weights").count() == 1, "opening it twice leaves it open"
    page.evaluate(TOGGLE)
    page.wait_for_selector(".camouflage-weights", state="detached")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "camouflage/weights" in request.url else None)
    with page.expect_response(lambda answer: answer.url.endswith("/object_info")):  # loaders learn of it all the same
        page.request.post(f"{place.url}/camouflage/weights/get", data={"pipelines": ["base"]})
    assert (place.models / BASE[2].path).read_bytes() == FILES[BASE[2]] and asked == []
