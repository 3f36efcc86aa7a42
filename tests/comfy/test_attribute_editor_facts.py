"""What 'Edit Attributes' tells the frontend: who is in the pictures before the edits, in numbers alone."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from camouflage.method.attributes import PRESETS, edit
from camouflage.method.faces import ATTRIBUTES, Face, Faces, Picture


def face(left: float, seed: int) -> Face:
    values = np.random.default_rng(seed).random(40).tolist()
    values[3] = None if seed % 2 else values[3]
    points = tuple((left + i, 30.0) for i in range(5))
    return Face((left, 20.12345, left + 40, 70.0), 0.87654, points, None, tuple(values))


@pytest.fixture
def faces() -> Faces:
    """Two pictures; the detector found the persons of the first from right to left, nobody in the second."""
    return Faces((Picture(128, 256, (face(150, 1), face(10, 2))), Picture(128, 256)))


@pytest.fixture
def node(host):
    return host.nodes["CamouflageEditAttributes"]


@pytest.fixture
def server(host, monkeypatch):
    """A server that executes node 3 of the subgraph in node 5, and notes what it is told to send."""
    sent: list[tuple] = []
    made = SimpleNamespace(client_id="a page", sent=sent, send_sync=lambda *what: sent.append(what))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=made)))
    monkeypatch.setattr(host.module("camouflage.comfy.messages"), "executing_node", lambda: "5:3")
    return made


def test_it_tells_every_person_as_they_were_read(node, faces):
    text = '{"persons": {"0": {"Smiling": 1.0, "Male": "forget"}}}'
    given = node.EXECUTE_NORMALIZED(faces=faces, preset="no demographics", edits=text)
    assert given.result == (edit(faces, '{"preset": "no demographics", "persons": {"0": {"Smiling": 1, "Male": '
                                        '"forget"}}}'),)
    assert json.loads(json.dumps(given.ui, allow_nan=False)) == given.ui
    assert given.ui.keys() == {"camouflage_faces", "camouflage_presets"}
    first, second = given.ui["camouflage_faces"]
    assert second == {"width": 256, "height": 128, "persons": []}
    assert [person["box_ltrb"] for person in first["persons"]] == [[10, 20.123, 50, 70], [150, 20.123, 190, 70]]
    for person, read in zip(first["persons"], (faces.pictures[0].faces[1], faces.pictures[0].faces[0]), strict=True):
        assert person.keys() == {"box_ltrb", "score", "attributes"} and person["score"] == 0.877
        assert person["attributes"] == {name: None if p is None else round(p, 3)
                                        for name, p in zip(ATTRIBUTES, read.attributes, strict=True)}
    (presets,) = given.ui["camouflage_presets"]
    assert {name: frozenset(kept) for name, kept in presets.items()} == PRESETS


def test_edits_of_who_is_not_there_stop_the_node_but_the_page_knows_who_is(node, faces, server):
    with pytest.raises(ValueError, match="names person 2"):
        node.EXECUTE_NORMALIZED(faces=faces, preset="paper", edits='{"persons": {"2": {"Male": 0}}}')
    told = node.EXECUTE_NORMALIZED(faces=faces, preset="paper", edits="").ui
    assert server.sent == [("camouflage.faces", {"node": "5:3", "output": told}, "a page")]
    server.client_id = None
    with pytest.raises(ValueError, match="names person 2"):
        node.EXECUTE_NORMALIZED(faces=faces, preset="paper", edits='{"persons": {"2": {"Male": 0}}}')
    assert len(server.sent) == 1, "nobody waits"
