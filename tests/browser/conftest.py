"""The pack in ComfyUI's frontend: one server for each frontend, for all tests of this folder."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browsers import missing
from camouflage.batch.server import ComfyServer
from frontends import VERSIONS, Frontend
from testing import frontend as newer_frontend

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """The frontend: the host's own, or that of ``testing/frontend.py``."""
    return request.param


@pytest.fixture(scope="session")
def servers(comfyui: Path, miniature_models: Path, cache: Path) -> Iterator[Callable[[str], str]]:
    """The address of the ComfyUI with a frontend; each is started once, and all run until the end.

    The pack is under a plain name. Under an odd one (the other server's) the nodes work, but the host does not serve
    thumbnails and help pages to a path with spaces, and the frontend takes a folder's name up to its first dot.
    """
    newer = newer_frontend.folder(cache)
    with contextlib.ExitStack() as running:

        @functools.cache
        def address(version: str) -> str:
            if version != "own" and not newer.is_dir():
                missing(f"{newer.name} was not fetched: `python run.py test` does it")
            root = [] if version == "own" else ["--front-end-root", str(newer)]
            server = running.enter_context(ComfyServer(comfyui, models=[miniature_models], arguments=root))
            return f"http://{server.address}"

        yield address


@pytest.fixture(scope="session")
def url(servers: Callable[[str], str], version: str) -> str:
    """Address of a ComfyUI with the frontend."""
    return servers(version)


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
