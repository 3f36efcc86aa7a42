"""The README says what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from camouflage.commands.train import COMMANDS
from camouflage.files import ROOT
from camouflage.weights import REGISTRY
from scripts import readme


@pytest.fixture(scope="module")
def text() -> str:
    return readme.README.read_text(encoding="utf-8")


def test_the_weights_table_is_the_registry(text: str) -> None:
    assert f"{readme.BEGIN}\n{readme.weights_table()}\n{readme.END}" in text, "run: python -m tools.readme"
    assert readme.updated(text) == text


def test_the_weights_table_has_every_file_with_what_a_person_needs() -> None:
    rows = readme.weights_table().splitlines()[2:]
    assert len(rows) == len(REGISTRY)
    for row, weight in zip(rows, REGISTRY, strict=True):
        assert f"models/{weight.path}" in row
        assert weight.licence in row
        assert (weight.url or "(#training)") in row
        assert row.count("|") == 7
    assert "722.6 MB" in readme.weights_table()
    assert [readme.size_text(size) for size in (None, 5_000_000, 2_130_000_000)] == ["-", "5.0 MB", "2.13 GB"]


def test_every_node_and_every_socket_is_described(text: str, host: SimpleNamespace) -> None:
    ours = {name: node for name, node in host.nodes.items() if name.startswith("Camouflage")}
    assert ours
    for name, node in ours.items():
        schema = node.GET_SCHEMA()
        heading = f"### {schema.display_name} (`{name}`)\n"
        assert heading in text
        section = text.split(heading)[1].split("\n## ")[0].split("\n### ")[0]
        sockets = [socket.id for socket in schema.inputs] + [socket.display_name for socket in schema.outputs]
        assert [socket for socket in sockets if f"`{socket}`" not in section] == [], name


def test_every_workflow_has_a_row(text: str) -> None:
    assert [file.name for file in (ROOT / "workflows").glob("*.json") if f"workflows/{file.name}" not in text] == []


def anchors(file: Path) -> set[str]:
    """What a link to a heading of a markdown file says behind the #, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["README.md", "training/README.md"])
def test_links_inside_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", (ROOT / name).read_text(encoding="utf-8"))
    assert links
    for path, anchor in links:
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), path
        assert not anchor or anchor in anchors(file), anchor


def test_every_command_and_every_benchmark_is_named(text: str) -> None:
    commands = [*(f"python run.py {name}" for name in ("demo", "calibrate", "test")),
                *(f"python run.py train {name}" for name in COMMANDS),
                *(f"python -m benchmarks.{file.stem}" for file in (ROOT / "benchmarks").glob("*.py")
                  if file.stem not in ("__init__", "host"))]
    assert [command for command in commands if command not in text] == []
