"""The review page in a real browser: what a reviewer sees, and does by the keyboard alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import mixed_photos
from camouflage.batch import reviewing
from camouflage.batch.accounts import Accounts
from camouflage.batch.decisions import Decision, read_decisions
from camouflage.batch.host import Result
from camouflage.batch.review_server import Review, ReviewServer
from small_datasets import make_dataset, record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WITHHELD = Result(state="blocked", reason="No face was found in the original, so nothing is proved.")


@pytest.fixture
def run(tmp_path):
    """A run over three photos, the first of which was withheld, and its review being served."""
    photos = {"a <b>odd</b> name.png": mixed_photos.encoded(mixed_photos.landscape(size=400)),
              "b/portrait.png": mixed_photos.encoded(mixed_photos.portrait(400)),
              "c/portrait.png": mixed_photos.encoded(mixed_photos.portrait(300, "hopper"))}
    at = make_dataset(tmp_path, photos)
    covered = mixed_photos.portrait(400)
    covered.paste((128, 128, 128), (120, 20, 260, 200))
    answers = iter([WITHHELD, *(Result(mixed_photos.encoded(covered), record("redacted", new=1)) for _ in "bc")])
    at.host._answer = lambda image: next(answers)
    at.worker.work(at.units[0], {})
    entries = reviewing.entries(Accounts(at.output).lines([0]), 0)
    with ReviewServer(Review(at.source, at.units, at.output, entries)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at.server = server
        yield at
        server.shutdown()


@pytest.fixture
def page(browser: Browser, run):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(run.server.address)
    page.wait_for_function("() => document.querySelector('#progress').textContent.includes('of 3')")
    yield page
    page.close()


def loaded(page: Page, name: str) -> bool:
    page.wait_for_function("name => { const one = document.getElementById(name); "
                           "return one.complete && one.naturalWidth > 0 }", arg=name)
    return True


def test_it_shows_original_and_result_and_takes_nothing_from_elsewhere(page: Page, run, tmp_path) -> None:
    assert page.inner_text("#key") == "a <b>odd</b> name.png" and page.locator("#key b").count() == 0
    assert "withheld by the verification" in page.inner_text("#why")
    assert "No face was found" in page.inner_text("#state")
    assert loaded(page, "original") and not page.is_visible("#result")
    assert "nothing to show" in page.inner_text("#no-result")
    assert page.is_disabled("[data-seen=true]"), "of nothing nothing can be said"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#key") == "b/portrait.png" and loaded(page, "original") and loaded(page, "result")
    assert page.evaluate("document.getElementById('result').naturalWidth") == 400
    assert page.errors == []
    home = f"http://127.0.0.1:{run.server.server_port}/"
    assert all(url.startswith(home) for url in page.requests)
    page.screenshot(path=str(tmp_path / "review.png"))


def test_a_reviewer_needs_no_mouse(page: Page, run) -> None:
    page.keyboard.press("a")  # the withheld one
    page.wait_for_function("() => document.querySelector('[data-word=accept]').ariaPressed === 'true'")
    page.keyboard.press("y")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("n")
    page.wait_for_function("() => document.querySelector('[data-seen=false]').ariaPressed === 'true'")
    page.keyboard.press("j")
    page.keyboard.press("y")
    page.wait_for_function("() => document.querySelector('[data-seen=true]').ariaPressed === 'true'")
    page.keyboard.press("x")
    page.wait_for_function("() => document.querySelector('[data-word=reject]').ariaPressed === 'true'")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#key") == "c/portrait.png", "the last one stays"
    assert read_decisions(run.output) == {
        (0, "a <b>odd</b> name.png"): Decision("a <b>odd</b> name.png", 0, "accept"),
        (0, "b/portrait.png"): Decision("b/portrait.png", 0, "", False),
        (0, "c/portrait.png"): Decision("c/portrait.png", 0, "reject", True)}
    assert page.inner_text("#risk").startswith("Residual risk: 1 of 2 pictures of a random sample")
    page.keyboard.press("u")
    page.wait_for_function("() => document.querySelector('[data-word=reject]').ariaPressed === 'false'")
    page.reload()
    page.wait_for_function("() => document.querySelector('#progress').textContent.includes('3 of 3 looked at')")
    assert page.errors == []


def test_every_control_is_reached_by_tab_and_named(page: Page) -> None:
    page.keyboard.press("ArrowRight")
    names = []
    for _ in range(9):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.innerText || document.activeElement.id"))
    assert (len(set(names)) == 9 and "filter" in names[0]) or "all" in names[0]
    focused = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert focused != "none"


def test_the_list_can_be_narrowed(page: Page) -> None:
    page.select_option("#filter", "withheld")
    assert page.inner_text("#progress").startswith("1 of 1 shown")
    page.select_option("#filter", "sample")
    assert page.inner_text("#progress").startswith("1 of 2 shown")


def test_without_its_token_the_page_shows_nothing(browser: Browser, run) -> None:
    page = browser.new_page()
    answer = page.goto(run.server.address.partition("?")[0])
    assert answer.status == 403 and "Open the address" in page.content() and "portrait" not in page.content()
    page.close()


def test_a_page_of_another_origin_gets_nothing(browser: Browser, run) -> None:
    page = browser.new_page()
    page.goto("data:text/html,<title>elsewhere</title>")
    said = page.evaluate("""async address => {
        const image = await new Promise(done => { const one = new Image(); one.onload = () => done('seen')
            one.onerror = () => done('refused'); one.src = address.replace('/?', '/original?entry=0&') })
        const list = await fetch(address.replace('/?', '/list?')).then(one => one.text(), () => 'refused')
        return [image, list]
    }""", run.server.address)
    assert said == ["refused", "refused"]
    page.close()
