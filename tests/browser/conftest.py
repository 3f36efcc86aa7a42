"""The pack in ComfyUI's frontend: one server for each frontend, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browsers import missing
from camouflage.batch.server import ComfyServer
from frontends import VERSIONS, Frontend
from kept import kept
from testing import frontend as newer_frontend

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """The frontend: the host's own, or that of ``testing/frontend.py``."""
    return request.param


@pytest.fixture(scope="module")
def url(comfyui: Path, miniature_models: Path, cache: Path, version: str) -> str:
    """Address of the ComfyUI with the frontend; there is one for all tests of this folder.

    The pack is under a plain name. Under an odd one (the other server's) the nodes work, but the host does not serve
    thumbnails and help pages to a path with spaces, and the frontend takes a folder's name up to its first dot.
    """
    root = []
    if version != "own":
        if not (newer := newer_frontend.folder(cache)).is_dir():
            missing(f"{newer.name} was not fetched: `python run.py test` does it")
        root = ["--front-end-root", str(newer)]
    server = kept(version, lambda: ComfyServer(comfyui, models=[miniature_models], arguments=root))
    return f"http://{server.address}"


@pytest.fixture(scope="module")
def context(browser: Browser, version: str) -> Iterator[BrowserContext]:
    """A profile for every frontend: what a page has fetched need not be fetched by the next one."""
    with browser.new_context(viewport={"width": 1920, "height": 1080}) as opened:
        yield opened


@pytest.fixture
def frontend(context: BrowserContext, url: str, comfyui: Path) -> Iterator[Frontend]:
    """The frontend of somebody new, ready for work; the workflow's example picture is where ComfyUI ships it."""
    page = context.new_page()
    opened = Frontend(page)
    page.on("console", lambda message: opened.errors.append(f"{message.text} [{message.location.get('url', '')}]")
            if message.type == "error" else None)
    page.on("pageerror", lambda error: opened.errors.append(f"uncaught: {error}"))
    example = comfyui / "input" / "example.png"
    page.request.post(f"{url}/upload/image", multipart={
        "image": {"name": example.name, "mimeType": "image/png", "buffer": example.read_bytes()}, "overwrite": "true"})
    page.request.post(f"{url}/settings", data={"Comfy.TutorialCompleted": True})
    page.goto(url)
    page.wait_for_function("() => window.app?.graph && window.app.vueAppReady")
    yield opened
    page.evaluate("() => { localStorage.clear(); sessionStorage.clear() }")
    page.close()
