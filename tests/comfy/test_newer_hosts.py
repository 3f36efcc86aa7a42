"""What newer hosts offer is used where it is there, and left out where it is not."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any

import pytest

from node_ids import NODE_IDS
from shipped import workflow

APP_MODE = {"redact": {"inputs": ["Photo"], "outputs": ["Verdict", "Anonymized"]},
            "base": {"inputs": ["Photo", "Guidance away from identity", "Seed"], "outputs": ["Verdict", "Anonymized"]},
            "light": {"inputs": ["Photo", "Seed"], "outputs": ["Verdict", "Anonymized"]}}
APP_MODE |= {"base_few_steps": APP_MODE["base"], "base_light": APP_MODE["base"], "base_commercial": APP_MODE["base"],
             "light_public": APP_MODE["light"]}


@pytest.fixture
def common(host: SimpleNamespace) -> Any:
    return host.module("nodes.common")


@pytest.fixture
def newest(common: Any, monkeypatch: pytest.MonkeyPatch) -> type:
    """A Schema like the newest hosts' in the place of this host's."""
    from comfy_api.latest import io

    @dataclass
    class Newest(io.Schema):
        search_aliases: list[str] = field(default_factory=list)
        essentials_category: str | None = None

    monkeypatch.setattr(common, "io", SimpleNamespace(**{**vars(common.io), "Schema": Newest}))
    return Newest


@pytest.fixture
def oldest(common: Any, monkeypatch: pytest.MonkeyPatch) -> type:
    """A Schema that knows nothing new."""

    @dataclass
    class Oldest:
        node_id: str
        inputs: list

    monkeypatch.setattr(common, "io", SimpleNamespace(**{**vars(common.io), "Schema": Oldest}))
    return Oldest


def test_a_schema_gets_what_it_knows(common: Any, newest: type) -> None:
    made = common.schema(node_id="A", inputs=[], search_aliases=["blur face"], essentials_category="Image Tools")
    assert (type(made), made.search_aliases, made.essentials_category) == (newest, ["blur face"], "Image Tools")


def test_and_nothing_that_it_does_not_know(common: Any, oldest: type) -> None:
    made = common.schema(node_id="A", inputs=[], search_aliases=["blur face"], essentials_category="Image Tools")
    assert type(made) is oldest and {item.name for item in fields(made)} == {"node_id", "inputs"}
    with pytest.raises(TypeError, match="colour"):  # what is no newer field is a mistake of ours
        common.schema(node_id="A", inputs=[], colour="red")


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_every_node_is_found_by_other_words(host: SimpleNamespace, newest: type, node_id: str) -> None:
    made = host.nodes[node_id].define_schema()
    words = made.search_aliases
    assert len(words) >= 2 and len(set(words)) == len(words)
    assert not any(word.lower() in made.display_name.lower() for word in words), "the name itself is searched anyway"


def test_a_person_finds_the_way_to_hide_a_face(host: SimpleNamespace, newest: type) -> None:
    found: dict[str, set[str]] = {}
    for node_id in NODE_IDS:
        for word in host.nodes[node_id].define_schema().search_aliases:
            found.setdefault(word, set()).add(node_id)
    for word in ("blur face", "pixelate", "anonymize", "de-identify", "GDPR"):
        assert "CamouflageRedact" in found[word]
    assert {"CamouflageVerify", "CamouflageSaveImage"} <= found["GDPR"]


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_what_few_people_touch_is_marked_on_every_host(host: SimpleNamespace, node_id: str) -> None:
    """The frontend reads the flag from the node's description; it must not take a socket or the photo away."""
    described = host.nodes[node_id].INPUT_TYPES()
    given = {**described.get("required", {}), **described.get("optional", {})}
    marked = {name for name, (_, *extra) in given.items() if extra and extra[0].get("advanced")}
    widgets = {socket.id for socket in host.nodes[node_id].GET_SCHEMA().inputs if hasattr(socket, "socketless")}
    assert marked <= widgets
    assert {"start_percent", "end_percent", "smallest_face", "laxer_threshold", "one_original"} & set(given) <= marked
    assert not marked & {"anonymization_scale", "policy", "redaction", "no_face", "file", "show_original"}


@pytest.mark.parametrize("name", APP_MODE)
def test_app_mode_shows_photo_settings_verdict_and_picture(host: SimpleNamespace, name: str) -> None:
    shipped = workflow(name)
    nodes = {str(node["id"]): node for node in shipped["nodes"]}
    app = shipped["extra"]["linearData"]
    for node_id, widget in app["inputs"]:
        described = host.nodes[nodes[node_id]["type"]].INPUT_TYPES()["required"]
        assert widget in described, f"{nodes[node_id]['title']} has no {widget}"
        linked = {socket["name"] for socket in nodes[node_id]["inputs"] if socket.get("link") is not None}
        assert widget not in linked, "what comes over a wire cannot be set"
    assert {"inputs": [nodes[node_id]["title"] for node_id, _ in app["inputs"]],
            "outputs": [nodes[node_id]["title"] for node_id in app["outputs"]]} == APP_MODE[name]
    assert all(host.nodes[nodes[node_id]["type"]].OUTPUT_NODE for node_id in app["outputs"])
