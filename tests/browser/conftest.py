"""The pack in ComfyUI's frontend: one browser and a server for each frontend, for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browsers import launched, missing
from camouflage.batch.server import ComfyServer
from frontends import READY, VERSIONS, Frontend
from kept import kept
from testing import frontend as newer_frontend

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LEFT_OPEN = ("[role=dialog], dialog[open], .p-dialog, .p-toast-message, .sidebar-content-container, "
             ".node-help-content, .camouflage-weights")
TIDY = """() => {
    document.querySelectorAll('dialog[open]').forEach(dialog => dialog.close())
    localStorage.clear()
    sessionStorage.clear()
}"""


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """The frontend: the host's own, or that of ``testing/frontend.py``."""
    return request.param


@pytest.fixture(scope="session")
def front_end(cache: Path, version: str) -> list[str]:
    """ComfyUI's arguments for the frontend."""
    if version == "own":
        return []
    if not (newer := newer_frontend.folder(cache)).is_dir():
        missing(f"{newer.name} was not fetched: `python run.py test` does it")
    return ["--front-end-root", str(newer)]


@pytest.fixture(scope="module")
def url(comfyui: Path, miniature_models: Path, version: str, front_end: list[str]) -> str:
    """Address of the ComfyUI with the frontend; there is one for all tests of this folder.

    The pack is under a plain name. Under an odd one (the other server's) the nodes work, but the host does not serve
    thumbnails and help pages to a path with spaces, and the frontend takes a folder's name up to its first dot.
    """
    server = kept(version, lambda: ComfyServer(comfyui, models=[miniature_models], arguments=front_end))
    return f"http://{server.address}"


@pytest.fixture(scope="module")
def browser() -> Browser:
    return kept("browser", launched)


@pytest.fixture(scope="module")
def opened(browser: Browser, url: str, comfyui: Path) -> Iterator[Frontend]:
    """A profile and a page for a ComfyUI, not yet opened; the workflows' example picture is where ComfyUI ships it."""
    example = comfyui / "input" / "example.png"
    with browser.new_context(viewport={"width": 1920, "height": 1080}) as context:
        frontend = Frontend(page := context.new_page())
        page.add_init_script("performance.setResourceTimingBufferSize(10000)")  # tests find our files by it
        page.request.post(f"{url}/upload/image", multipart={"overwrite": "true", "image": {
            "name": example.name, "mimeType": "image/png", "buffer": example.read_bytes()}})
        page.request.post(f"{url}/settings", data={"Comfy.TutorialCompleted": True})
        page.on("console", lambda message: frontend.errors.append(
            f"{message.text} [{message.location.get('url', '')}]") if message.type == "error" else None)
        page.on("pageerror", lambda error: frontend.errors.append(f"uncaught: {error}"))
        yield frontend


@pytest.fixture
def frontend(opened: Frontend, url: str) -> Iterator[Frontend]:
    """The frontend, ready for work: to open the page takes longer than most tests, so that it stays for the next one of
    the file, with an empty workflow. What a test leaves open ends with a new page."""
    page = opened.page
    opened.errors.clear()
    if page.url.partition("#")[0].rstrip("/") != url or page.locator(LEFT_OPEN).count():
        page.goto("about:blank")  # to another fragment of the same address is no new page
        page.goto(url)
        page.wait_for_function(READY)
    else:
        page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    yield opened
    page.evaluate(TIDY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A page that never answers is waited for, but not as long as a computation."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(150))
