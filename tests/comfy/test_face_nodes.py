"""The nodes that edit, show and draw faces."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from camouflage.method.attribute_map import PROBABILITIES, SIGNED, attribute_map
from camouflage.method.attributes import edit
from camouflage.method.faces import Face, Faces, Picture
from in_host import pictures


def test_edits_presets_and_their_conflicts(run):
    faces, = run("FaceAttributes", image=pictures(4, 1, 128, 256))
    assert run("EditAttributes", faces=faces)[0] == faces
    text = '{"persons": {"1": {"Male": 0.25}, "all": {"Young": "forget"}}}'
    ours, = run("EditAttributes", faces=faces, preset="no demographics", edits=text)
    assert ours == edit(faces, json.dumps({"preset": "no demographics", **json.loads(text)})) != faces
    written = '{"preset": "expression only"}'
    assert run("EditAttributes", faces=faces, preset="as in the edits", edits=written)[0] == edit(faces, written)
    for inputs, error in (({"edits": written}, "'preset' is 'paper', but 'edits' names 'expression only'"),
                          ({"preset": "none"}, "'preset' is 'none'"), ({"edits": "{"}, "no valid JSON"),
                          ({"edits": "[]"}, "must be an object")):
        with pytest.raises(ValueError, match=error):
            run("EditAttributes", faces=faces, **inputs)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 256), (1024, 768)])
def test_preview_draws_every_box(run, height, width):
    box = (width * 0.25, height * 0.2, width * 0.75, height * 0.6)
    points = tuple((width * x, height * y) for x, y in ((.4, .3), (.6, .3), (.5, .4), (.42, .5), (.58, .5)))
    faces = Faces((Picture(height, width, (Face(box, 0.9, points, None, (0.9,) * 40),)),))
    image = torch.zeros(1, height, width, 3)
    drawn, = run("FacePreview", image=image, faces=faces)
    plain, = run("FacePreview", image=image, faces=faces, attributes=0)
    assert drawn.shape == image.shape and drawn.max() <= 1 and not image.any()
    for x, y in points:
        assert drawn[0, int(y), int(x)].max() > 0.5
    assert drawn[0, int(box[1]), int(width / 2)].max() > 0.5
    assert drawn[0, int(height * .45), int(box[0])].max() > 0.5
    assert (drawn > 0.5).sum() > (plain > 0.5).sum()
    for images, error in ((torch.zeros(2, height, width, 3), "has 2 pictures"),
                          (torch.zeros(1, height, width + 1, 3), "were read from")):
        with pytest.raises(ValueError, match=error):
            run("FacePreview", image=images, faces=faces)


def test_the_map_has_the_latents_size(run):
    faces, = run("FaceAttributes", image=pictures(4, 2, 128, 256))
    expected = attribute_map(faces, 16, 32)
    signed, _ = run("AttributeMap", faces=faces, width=256, height=128)
    assert torch.equal(signed.values, expected) and expected.any() and signed.encoding == SIGNED
    drawn, shown = run("AttributeMap", faces=faces, latent={"samples": torch.zeros(2, 4, 24, 48)})
    assert drawn.values.shape == (2, 41, 24, 48) and shown.shape == (2, 192, 384, 3) and shown.any()
    adapter = SimpleNamespace(encoding=PROBABILITIES)
    followed, _ = run("AttributeMap", faces=faces, width=256, height=128, adapter=adapter)
    assert torch.equal(followed.values, attribute_map(faces, 16, 32, encoding=PROBABILITIES))
    assert followed.encoding == PROBABILITIES and not torch.equal(followed.values, expected)
    with pytest.raises(ValueError, match="256 x 128 px, but the map is for 320 x 192 px: another shape"):
        run("AttributeMap", faces=faces, latent={"samples": torch.zeros(2, 4, 24, 40)})
    with pytest.raises(ValueError, match="multiples of 8"):
        run("AttributeMap", faces=faces, width=255, height=128)


def test_every_socket_explains_itself(host):
    for node in host.module("nodes.faces").NODES:
        schema = node.GET_SCHEMA()
        assert schema.description and schema.node_id.startswith("Camouflage")
        assert all(socket.tooltip for socket in [*schema.inputs, *schema.outputs])
