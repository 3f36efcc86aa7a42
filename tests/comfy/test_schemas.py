"""What a person reads on the nodes, and the help pages beside it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node_ids import NODE_IDS

DOCS = Path(__file__).resolve().parents[2] / "js" / "docs"
STAGES = {"CAMOUFLaGE/load", "CAMOUFLaGE/annotate", "CAMOUFLaGE/control", "CAMOUFLaGE/guide", "CAMOUFLaGE/light",
          "CAMOUFLaGE/verify"}


@pytest.fixture
def schema(host: SimpleNamespace, request: pytest.FixtureRequest) -> Any:
    return host.nodes[request.param].GET_SCHEMA()


each_node = pytest.mark.parametrize("schema", NODE_IDS, indirect=True)


def names(schema: Any) -> list[str]:
    """What the node shows beside each socket and widget."""
    return [socket.display_name or socket.id for socket in (*schema.inputs, *schema.outputs)]


def test_these_are_the_nodes_of_the_pack(host: SimpleNamespace) -> None:
    ours = [name for name, node in host.nodes.items()
            if str(getattr(node, "CATEGORY", "")).startswith("CAMOUFLaGE") or name.startswith("Camouflage")]
    assert sorted(ours) == sorted(NODE_IDS)


@each_node
def test_a_node_says_what_it_is(schema: Any) -> None:
    assert schema.node_id.startswith("Camouflage")
    assert schema.category in STAGES
    assert re.fullmatch(r"[A-Z][A-Za-z]+( [A-Z][a-z]+)*", schema.display_name), "plain words, no decoration"
    assert len(schema.description) >= 40
    assert schema.description.endswith(".")


@each_node
def test_every_socket_has_a_tooltip(schema: Any) -> None:
    assert schema.inputs
    assert schema.outputs
    assert [socket.id for socket in (*schema.inputs, *schema.outputs) if len(socket.tooltip or "") < 15] == []


@each_node
def test_every_number_has_a_range_and_says_it(schema: Any) -> None:
    numbers = [socket for socket in schema.inputs if socket.io_type in ("INT", "FLOAT")]
    for number in numbers:
        assert None not in (number.default, number.min, number.max, number.step), number.id
        assert number.min <= number.default <= number.max, number.id
        for limit in (number.min, number.max):
            assert re.search(rf"\b{limit:g}\b", number.tooltip), f"{number.id}: the tooltip does not name {limit:g}"


@each_node
def test_every_choice_has_options(schema: Any) -> None:
    assert all(socket.options for socket in schema.inputs if socket.io_type == "COMBO")


@each_node
def test_the_help_page_names_every_socket(schema: Any) -> None:
    page = (DOCS / schema.node_id / "en.md").read_text(encoding="utf-8")
    assert [name for name in names(schema) if f"`{name}`" not in page] == []
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == ["## Inputs", "## Outputs", "## When something goes wrong", "## Tip"]
    for number in (socket for socket in schema.inputs if socket.io_type in ("INT", "FLOAT")):
        row = next(line for line in page.splitlines() if line.startswith(f"- `{number.id}`"))
        assert f"{number.min:g} to {number.max:g}" in row, f"{number.id}: the page has another range"
        assert f"default {number.default:g}" in row, f"{number.id}: the page has another default"


def test_no_help_page_is_left_over() -> None:
    assert sorted(page.parent.name for page in DOCS.glob("*/*.md")) == sorted(NODE_IDS)
