"""The tab about weights beside all others, on every frontend; what it does is tested with a ComfyUI of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from camouflage.provision.digests import KnownDigests
from camouflage.provision.state import states
from camouflage.weights import REGISTRY
from weights_tab import ALL_ROWS, OPEN, ROWS, TOGGLE

if TYPE_CHECKING:
    from frontends import Frontend


def test_the_tab_opens_says_what_the_command_says_and_closes(
        frontend: Frontend, miniature_models: Path, cache: Path, tmp_path: Path) -> None:
    page = frontend.page
    page.evaluate(OPEN)
    page.wait_for_selector(ALL_ROWS)
    rows = page.eval_on_selector_all(ALL_ROWS, ROWS)
    listed = states(REGISTRY, lambda key: [tmp_path / key, miniature_models / key], KnownDigests(cache / "digests"))
    assert {file: row["state"] for file, row in rows.items()} == {file.weight.path: file.state for file in listed}
    page.evaluate(TOGGLE)
    page.wait_for_selector(".camouflage-weights", state="detached")
    page.get_by_role("button", name="CAMOUFLaGE weights").click()
    page.wait_for_selector(ALL_ROWS)
    assert frontend.ours() == []
