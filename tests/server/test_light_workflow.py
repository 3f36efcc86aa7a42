"""The shipped Light workflow on a real ComfyUI over HTTP."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from PIL import Image

from served import change, pictures
from shipped import texts

ROOT = Path(__file__).resolve().parents[2]
SIZE = 256  # px of the longer side
SHOWN = {"Face preview", "Map preview", "Anonymized", "Verification report"}
LIGHT_ADAPTER = {"Load Light Adapter", "Light adapter on positive", "Light adapter on negative"}


@pytest.fixture(scope="module")
def shipped() -> dict:
    return json.loads((ROOT / "workflows" / "camouflage_light.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def photos(server, tmp_path_factory) -> dict[str, str]:
    """Names on the server of two public-domain photos: one person, and two side by side."""
    from matplotlib import cbook
    from skimage import data

    left = Image.fromarray(data.astronaut())
    alone = left.crop((96, 0, 352, 512))
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        right = Image.open(file).convert("RGB").crop((0, 0, 512, 512))
    both = Image.new("RGB", (1024, 512))
    both.paste(left, (0, 0))
    both.paste(right, (512, 0))
    folder = tmp_path_factory.mktemp("photos")
    names = {}
    for name, picture in (("one", alone), ("two", both)):
        picture.save(folder / f"{name}.png")
        names[name] = server.upload(folder / f"{name}.png")
    return names


@pytest.fixture
def prompt(server, shipped, photos):
    """prompt(photo, bypassed titles) -> the workflow in the server's format, small enough for a test."""

    def make(photo: str, bypassed: set[str] = frozenset(), size: int = SIZE) -> dict:
        workflow = copy.deepcopy(shipped)
        for node in workflow["nodes"]:
            if node["title"] in bypassed:
                node["mode"] = 4  # what Ctrl+B does
        api = convert_ui_to_api(workflow, server.object_info())
        change(api, "LoadImage", image=photos[photo])
        change(api, "CamouflagePrepareImage", size=size)
        change(api, "BasicScheduler", steps=2)
        return api

    return make


def test_the_papers_sampler_is_shipped_and_every_stock_loader_names_its_download(shipped):
    from camouflage.weights import REGISTRY

    widgets = {node["type"]: node["widgets_values"] for node in shipped["nodes"]}
    assert widgets["CamouflagePrepareImage"][0] == 768
    assert widgets["KSamplerSelect"] == ["dpmpp_sde"] and widgets["BasicScheduler"][0] == "karras"
    known = {weight.file: weight for weight in REGISTRY}
    for kind in ("CheckpointLoaderSimple", "VAELoader", "CLIPVisionLoader", "CamouflageImagePromptLoader"):
        (node,) = [node for node in shipped["nodes"] if node["type"] == kind]
        (model,) = node["properties"]["models"]
        weight = known[model["name"]]
        assert model["name"] in node["widgets_values"]
        assert model == {"name": weight.file, "url": weight.url, "directory": weight.folder}


def test_one_person_and_the_same_seed(server, prompt):
    api = prompt("one")
    entry = server.run(api)
    first = pictures(server, api, entry)
    assert set(first) == SHOWN
    assert all(images.std() > 1 for images in first.values())
    assert all(images.shape == (1, SIZE, SIZE // 2, 3)
               for title, images in first.items() if title != "Verification report")
    said = texts(api, entry)
    assert "person 0" in said["Faces"] and "person 1" not in said["Faces"] and said["Caption"].strip()

    server.post("/free", {"unload_models": True, "free_memory": True})
    again = pictures(server, api, server.run(api))
    assert all(np.array_equal(again[title], images) for title, images in first.items())
    change(api, "RandomNoise", noise_seed=2)
    other = pictures(server, api, server.run(api))
    assert (other["Anonymized"] != first["Anonymized"]).any(axis=3).mean() > 0.3, "the head is covered in both"


def test_two_persons_stay_apart_and_each_is_edited_alone(server, prompt):
    api = prompt("two")
    change(api, "BasicScheduler", steps=1)
    entry = server.run(api)
    before = pictures(server, api, entry)
    assert "person 1" in texts(api, entry)["Faces"] and "person 2" not in texts(api, entry)["Faces"]
    columns = before["Map preview"][0].any(axis=(0, 2))
    runs = int(np.diff(columns.astype(int)).clip(0).sum()) + int(columns[0])
    assert runs == 2, "two regions with nothing between them"
    change(api, "CamouflageEditAttributes", edits='{"persons": {"1": {"Smiling": 1.0, "Young": "forget", "Bald": 0}}}')
    after = pictures(server, api, server.run(api))
    changed = (before["Map preview"] != after["Map preview"])[0].any(axis=(0, 2))
    assert changed[SIZE // 2:].any() and not changed[: SIZE // 2].any()
    assert not np.array_equal(before["Anonymized"], after["Anonymized"])


def test_without_a_trained_light_adapter_it_is_bypassed(server, prompt):
    api = prompt("one", LIGHT_ADAPTER, SIZE // 2)
    assert not any("LightAdapter" in node["class_type"] for node in api.values())
    shown = pictures(server, api, server.run(api))
    assert shown["Anonymized"].std() > 1


def test_malformed_edits_are_explained(server, prompt):
    from camouflage.commands.server import NodeFailed

    api = prompt("one")
    change(api, "CamouflageEditAttributes", edits='{"persons": {"all": {"Smilling": 0.5}}}')
    with pytest.raises(NodeFailed, match="Edit Attributes.*Smilling.*nearest known ones are Smiling"):
        server.run(api)
