"""The shipped Base workflow on a real ComfyUI over HTTP."""

from __future__ import annotations

import copy
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from comfy_cli.workflow_to_api import convert_ui_to_api
from PIL import Image

from camouflage.batch.server import Interrupted, NodeFailed, PromptRefused
from served import change, pictures
from shipped import texts

ROOT = Path(__file__).resolve().parents[2]
MAPS = ("Depth map", "Normal map", "Segmentation map", "Pose map", "Lineart map")
SIZE = 128


@pytest.fixture(scope="module")
def shipped() -> dict:
    return json.loads((ROOT / "workflows" / "camouflage_base.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def portrait(server, tmp_path_factory) -> str:
    """Name on the server of a public-domain photo of 140 x 300 px."""
    from skimage import data

    path = tmp_path_factory.mktemp("photo") / "portrait.png"
    Image.fromarray(data.astronaut()[:384, 135:314]).resize((140, 300)).save(path)
    return server.upload(path)


@pytest.fixture
def prompt(server, shipped, portrait) -> dict:
    """The workflow in the server's format, small enough for a test."""
    api = convert_ui_to_api(copy.deepcopy(shipped), server.object_info())
    change(api, "LoadImage", image=portrait)
    change(api, "CamouflagePrepareImage", size=SIZE)
    change(api, "BasicScheduler", steps=2)
    for kind in ("Depth", "Normal", "Segmentation", "Pose", "Lineart"):
        change(api, f"Camouflage{kind}Map", resolution=64)
    change(api, "CamouflagePoseMap", hands=False)
    return api


def test_the_settings_of_paper_and_authors_are_shipped(shipped):
    widgets = {node["type"]: node["widgets_values"] for node in shipped["nodes"]}
    assert widgets["CamouflagePrepareImage"][0] == 768
    assert widgets["KSamplerSelect"] == ["dpmpp_2m_sde"] and widgets["BasicScheduler"] == ["karras", 30, 1.0]
    assert widgets["CamouflageGuider"][1] == 1.25
    assert widgets["CamouflageSceneControl"][:2] == [0.5, 0.3] and widgets["CamouflageSceneControl"][5] == 0.5


def test_every_stock_loader_names_its_download(shipped):
    from camouflage.weights import REGISTRY

    known = {weight.file: weight for weight in REGISTRY}
    loaders = [node for node in shipped["nodes"] if node["type"].endswith(("Loader", "LoaderSimple"))]
    assert len(loaders) == 8
    for node in loaders:
        (model,) = node["properties"]["models"]
        weight = known[model["name"]]
        assert model["name"] in node["widgets_values"]
        assert model == {"name": weight.file, "url": weight.url, "directory": weight.folder}


def test_the_photo_of_the_workflow_is_one_that_every_host_ships(shipped, comfyui):
    (load,) = [node for node in shipped["nodes"] if node["type"] == "LoadImage"]
    assert (comfyui / "input" / load["widgets_values"][0]).is_file()


def test_the_template_browser_knows_the_workflows(server):
    templates = server.get("/api/workflow_templates")
    assert sorted(templates["my.CAMOUFLaGE-1 (copy)"]) == [
        f"camouflage_{name}" for name in (
            "base", "base_commercial", "base_few_steps", "base_light", "light", "light_public", "redact")]


def test_the_whole_workflow_and_its_seeds(server, prompt):
    first_entry = server.run(prompt)
    first = pictures(server, prompt, first_entry)
    assert set(first) == {*MAPS, "Anonymized", "Verification report"}
    for title, images in first.items():
        if title != "Verification report":
            assert images.shape == (1, 128, 64, 3), title  # 140 x 300 px at 128 px: 60 rounds to 64
        assert images.std() > 1, f"{title} is constant"
    said = texts(prompt, first_entry)
    assert said["Caption"].strip() and "person 0 " in said["Verdict"]

    change(prompt, "RandomNoise", noise_seed=2)
    other = pictures(server, prompt, server.run(prompt))
    assert (other["Anonymized"] != first["Anonymized"]).any(axis=3).mean() > 0.3, "the head is covered in both"

    server.post("/free", {"unload_models": True, "free_memory": True})  # nothing may come from the cache
    time.sleep(1.5)
    change(prompt, "RandomNoise", noise_seed=1)
    again = pictures(server, prompt, server.run(prompt))
    for title, images in first.items():
        assert np.array_equal(again[title], images), f"{title} differs in the second run with the same seed"


def test_a_batch_of_different_pictures_goes_through_as_a_whole(server, prompt, portrait):
    load = change(prompt, "LoadImage")
    prepare = change(prompt, "CamouflagePrepareImage")
    prompt["turn"] = {"class_type": "ImageRotate", "_meta": {"title": "turn"},
                      "inputs": {"image": [load, 0], "rotation": "180 degrees"}}
    prompt["mirror"] = {"class_type": "ImageFlip", "_meta": {"title": "mirror"},
                        "inputs": {"image": [load, 0], "flip_method": "y-axis: horizontally"}}
    prompt["two"] = {"class_type": "ImageBatch", "_meta": {"title": "two"},
                     "inputs": {"image1": [load, 0], "image2": ["turn", 0]}}
    prompt["batch"] = {"class_type": "ImageBatch", "_meta": {"title": "three"},
                       "inputs": {"image1": ["two", 0], "image2": ["mirror", 0]}}
    prompt[prepare]["inputs"]["image"] = ["batch", 0]
    change(prompt, "CamouflageSafeSampler", no_face="pass")  # a face of 30 px can be missed upside down
    change(prompt, "BasicScheduler", steps=1)
    entry = server.run(prompt)
    shown = pictures(server, prompt, entry)
    assert all(len(images) == 3 for images in shown.values()), {title: len(images) for title, images in shown.items()}
    for title, images in shown.items():
        assert not any(np.array_equal(images[i], images[j]) for i, j in ((0, 1), (0, 2), (1, 2))), title


def test_below_one_warns_on_the_node_and_in_the_log(server, prompt):
    from websocket import create_connection

    guider = change(prompt, "CamouflageGuider", anonymization_scale=0.5)
    stream = create_connection(f"ws://{server.address}/ws?clientId=watcher", timeout=120)
    try:
        prompt_id = server.queue(prompt, "watcher")
        seen = b""
        while b"TOWARDS the original" not in seen:
            message = stream.recv()
            seen = message if isinstance(message, bytes) else b""
        assert guider.encode() in seen
    finally:
        stream.close()
        server.interrupt()
        while server.history(prompt_id) is None:
            time.sleep(0.2)
    assert "below 1: the result moves TOWARDS the original" in server.log()


def test_cancel_in_the_middle_of_sampling_and_the_next_run_works(server, prompt):
    change(prompt, "BasicScheduler", steps=30)
    change(prompt, "RandomNoise", noise_seed=99)
    sampler = change(prompt, "CamouflageSafeSampler")
    started = threading.Event()

    def watch(progress):
        if progress.node_id == sampler and progress.value >= 2 and not started.is_set():
            started.set()
            server.interrupt()

    with pytest.raises(Interrupted, match="Safe Sampler"):
        server.run(prompt, watch)
    assert started.is_set()
    change(prompt, "BasicScheduler", steps=1)
    assert pictures(server, prompt, server.run(prompt))["Anonymized"].std() > 1


def test_cancel_in_the_middle_of_an_annotator_and_the_next_run_works(server, prompt, portrait, tmp_path):
    """Forty different pictures: the same one would be looked at once."""
    first, *others = (Image.fromarray(np.random.default_rng(number).integers(0, 256, (300, 140, 3), np.uint8))
                      for number in range(40))
    first.save(tmp_path / "many.webp", save_all=True, append_images=others, lossless=True)
    batch = {"load": {"class_type": "LoadImage", "inputs": {"image": server.upload(tmp_path / "many.webp")}},
             "map": {"class_type": "CamouflageLineartMap", "_meta": {"title": "Lines"},
                     "inputs": {"image": ["load", 0], "resolution": 256, "style": "fine"}},
             "show": {"class_type": "PreviewImage", "inputs": {"images": ["map", 0]}}}
    steps = []

    def watch(progress):
        if progress.node_id == "map" and progress.maximum == 40:
            steps.append(progress.value)
            if progress.value >= 2:
                server.interrupt()

    with pytest.raises(Interrupted, match="Lines"):
        server.run(batch, watch)
    assert max(steps) < 40
    batch["load"]["inputs"]["image"] = portrait
    assert pictures(server, {key: {"_meta": {"title": key}} for key in batch}, server.run(batch))["show"].std() > 1


def test_a_missing_checkpoint_is_refused_by_name(server, prompt):
    change(prompt, "CheckpointLoaderSimple", ckpt_name="nowhere.safetensors")
    with pytest.raises(PromptRefused, match=r"Checkpoint.*'ckpt_name'.*nowhere\.safetensors"):
        server.run(prompt)


def test_an_error_reaches_the_person_as_one_sentence(server, portrait):
    tall = {"empty": {"class_type": "EmptyImage", "inputs": {"width": 1, "height": 4000, "batch_size": 1, "color": 0}},
            "prepare": {"class_type": "CamouflagePrepareImage", "_meta": {"title": "Prepare"},
                        "inputs": {"image": ["empty", 0], "size": 768, "fit": "crop"}},
            "show": {"class_type": "PreviewImage", "inputs": {"images": ["prepare", 0]}}}
    with pytest.raises(NodeFailed, match="Prepare.*failed: Prepare Image: The picture is 1 x 4000 px"):
        server.run(tall)


def test_neither_captions_nor_file_names_are_in_the_log(server):
    log = server.log()
    captions = ["".join(output["text"]) for entry in server.get("/history").values()
                for output in entry["outputs"].values() if "text" in output]
    assert captions and all(caption not in log for caption in captions)
    assert "portrait" not in log
