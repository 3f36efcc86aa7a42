"""The shipped workflows of Light on a real ComfyUI over HTTP: the authors', the public one, and the mix with Base."""

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
NAMES = ("light", "light_public", "base_light")


@pytest.fixture(scope="module")
def shipped() -> dict[str, dict]:
    return {name: json.loads((ROOT / "workflows" / f"camouflage_{name}.json").read_text(encoding="utf-8"))
            for name in NAMES}


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
    """prompt(photo, name) -> a workflow in the server's format, small enough for a test; "crop" keeps both persons."""

    def make(photo: str, name: str = "light", size: int = SIZE, fit: str | None = "crop",
             mode: int | None = None) -> dict:
        workflow = copy.deepcopy(shipped[name])
        for node in workflow["nodes"]:
            if mode is not None and node["title"] in LIGHT_ADAPTER:
                node["mode"] = mode  # 4 is what Ctrl+B does, 0 what it undoes
        api = convert_ui_to_api(workflow, server.object_info())
        if fit:
            change(api, "CamouflagePrepareImage", fit=fit)
        change(api, "LoadImage", image=photos[photo])
        change(api, "CamouflagePrepareImage", size=size)
        change(api, "BasicScheduler", steps=2)
        return api

    return make


def widgets(workflow: dict) -> dict[str, list]:
    return {node["type"]: node["widgets_values"] for node in workflow["nodes"]}


@pytest.mark.parametrize("name", NAMES)
def test_one_model_call_a_step_and_every_stock_loader_names_its_download(shipped, name):
    from camouflage.weights import REGISTRY

    found = widgets(shipped[name])
    assert found["CamouflagePrepareImage"][0] == 768
    assert found["KSamplerSelect"] == ["dpmpp_2m_sde"] and found["BasicScheduler"] == ["karras", 30, 1.0]
    known = {weight.file.rpartition("/")[2]: weight for weight in REGISTRY}
    for node in shipped[name]["nodes"]:
        if node["type"] in ("CheckpointLoaderSimple", "VAELoader", "CLIPVisionLoader", "CamouflageImagePromptLoader",
                            "CamouflageFaceEncoder", "CamouflageLightAdapterLoader", "ControlNetLoader"):
            weight = known[node["widgets_values"][0]]
            assert name in weight.pipelines or node["mode"] == 4
            named = [{"name": weight.file, "url": weight.url, "directory": weight.folder}]
            downloads = weight.url is not None and weight.folder != "camouflage"  # whose files a loader names itself
            assert node["properties"].get("models") == (named if downloads else None)


def test_light_is_the_authors_and_the_public_one_needs_downloads_alone(shipped):
    from camouflage.weights import FARL, needed_by

    light, public = widgets(shipped["light"]), widgets(shipped["light_public"])
    assert light["CamouflagePrepareImage"] == [768, "square"] and public["CamouflagePrepareImage"] == [768, "crop"]
    for found in (light, public):
        assert found["CFGGuider"] == [3.0] and found["CLIPTextEncode"] == [""]
        assert found["CamouflageNegativePrompt"][0] == "EasyNegative" and "CamouflageCaption" not in found
    assert light["CamouflageFaceEncoder"] == [f"{FARL}.pth"]
    assert light["CamouflageImagePromptLoader"] == ["camouflage_light_sd15_image_prompt.safetensors"]
    assert light["CamouflageLightAdapterLoader"][1] == "camouflage-probabilities"
    assert public["CamouflageImagePromptLoader"] == ["ip-adapter_sd15.safetensors"]
    modes = {node["title"]: node["mode"] for node in shipped["light_public"]["nodes"] if node["mode"]}
    assert modes == dict.fromkeys(LIGHT_ADAPTER, 4)
    assert all(weight.url for weight in needed_by("light_public"))
    assert {weight.role for weight in needed_by("light") if not weight.url} == {"light adapter",
                                                                                "image prompt (trained)"}


def test_one_person_and_the_same_seed(server, prompt):
    api = prompt("one", size=SIZE // 2)
    entry = server.run(api)
    first = pictures(server, api, entry)
    assert set(first) == SHOWN
    assert all(images.std() > 1 for images in first.values())
    assert all(images.shape == (1, SIZE // 2, SIZE // 4, 3)
               for title, images in first.items() if title != "Verification report")
    said = texts(api, entry)
    assert "person 0" in said["Faces"] and "person 1" not in said["Faces"]

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


def test_the_public_one_runs_without_the_adapter_and_with_it(server, prompt):
    api = prompt("one", "light_public", SIZE // 2)
    assert not any("LightAdapter" in node["class_type"] for node in api.values())
    without = pictures(server, api, server.run(api))
    assert without["Anonymized"].std() > 1
    api = prompt("one", "light_public", SIZE // 2, mode=0)
    assert sum("LightAdapter" in node["class_type"] for node in api.values()) == 3
    steered = pictures(server, api, server.run(api))
    assert not np.array_equal(steered["Anonymized"], without["Anonymized"])


def test_base_and_light_mix(server, prompt):
    """Without image prompt and adapter it is another picture; in process each of them alone is tried."""
    api = prompt("one", "base_light", SIZE // 2)
    for kind in ("Depth", "Normal", "Segmentation", "Pose", "Lineart"):
        change(api, f"Camouflage{kind}Map", resolution=64)
    change(api, "CamouflagePoseMap", hands=False)
    change(api, "BasicScheduler", steps=1)
    whole = pictures(server, api, server.run(api))["Anonymized"]
    assert whole.std() > 1
    change(api, "CamouflageApplyImagePrompt", weight=0.0)
    for node in api.values():
        if node["class_type"] == "CamouflageApplyLightAdapter":
            node["inputs"]["strength"] = 0.0
    plain = pictures(server, api, server.run(api))["Anonymized"]
    assert not np.array_equal(whole, plain)


def test_a_start_from_the_photo_is_verified_like_everything_else(server, prompt):
    """The option of docs/workflows.md: the photo's latent, and only a part of the noise. It leaks pixels."""
    api = prompt("one", size=SIZE // 2)
    vae = next(key for key, node in api.items() if node["class_type"] == "VAELoader")
    prepared = next(key for key, node in api.items() if node["class_type"] == "CamouflagePrepareImage")
    api["photo latent"] = {"class_type": "VAEEncode", "inputs": {"pixels": [prepared, 0], "vae": [vae, 0]}}
    change(api, "CamouflageSafeSampler", latent=["photo latent", 0], policy="report")
    change(api, "BasicScheduler", denoise=0.55, steps=2)
    del api[change(api, "CamouflageSaveImage")]  # it refuses whoever is not settled
    assert "person 0" in texts(api, server.run(api))["Verdict"]


def test_malformed_edits_are_explained(server, prompt):
    from camouflage.batch.server import NodeFailed

    api = prompt("one")
    change(api, "CamouflageEditAttributes", edits='{"persons": {"all": {"Smilling": 0.5}}}')
    with pytest.raises(NodeFailed, match="Edit Attributes.*Smilling.*nearest known ones are Smiling"):
        server.run(api)
