"""A real browser for tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REQUIRED = os.environ.get("CAMOUFLAGE_REQUIRE_BROWSER") == "1"  # in CI nothing here may be skipped
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def missing(what: str) -> NoReturn:
    """Skips the test, or fails it where it must run."""
    (pytest.fail if REQUIRED else pytest.skip)(what)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser. While it runs, Playwright's event loop is in the way of asyncio.run."""
    if REQUIRED:
        from playwright import sync_api
    else:
        sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package 'playwright' is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        missing(f"no browser is on PATH (looked for {', '.join(NAMES)})")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()
