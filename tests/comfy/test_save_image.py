"""Save Anonymized in the real host: nothing of the workflow in a file, refusals, model hashes, progress, Cancel."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management as mm
import comfy.utils
import folder_paths
import jsonschema
import numpy as np
import pytest
import torch
from comfy_api.latest import io
from PIL import Image

from in_host import pictures
from saved import report_of, traces

SOURCE, WORDS = "jane_doe_in_berlin.jpg", "a secret prompt of jane"
PROMPT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": SOURCE}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": WORDS, "clip": ["4", 1]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.safetensors"}},
    "7": {"class_type": "CamouflageVerify", "inputs": {"original": ["1", 0], "anonymized": ["2", 0]}},
    "8": {"class_type": "LoraLoader", "inputs": {"lora_name": "beside.safetensors", "model": ["4", 0]}},
    "9": {"class_type": "CamouflageSaveImage", "inputs": {"image": ["7", 0], "report": ["7", 1]}},
}


def as_pixels(images: torch.Tensor) -> list[np.ndarray]:
    return [(image.clamp(0, 1) * 255).round().to(torch.uint8).numpy() for image in images]


@pytest.fixture
def folders(tmp_path, host, monkeypatch) -> SimpleNamespace:
    """Empty output, input, temp and models folders, the only ones that the host sees."""
    made = SimpleNamespace(**{name: tmp_path / name for name in ("output", "input", "temp", "models")})
    for name in ("output", "input", "temp"):
        getattr(made, name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(getattr(made, name)))
    known = {key: ([str(made.models / key)], {".safetensors"}) for key in ("checkpoints", "loras", "vae", "configs",
                                                                           "custom_nodes")}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    for key in known:
        (made.models / key).mkdir(parents=True)
    return made


@pytest.fixture
def make(host):
    """make(images, ...) -> their report."""
    types = host.module("camouflage.verification.report")
    return lambda images, *args, **fields: report_of(types, as_pixels(images), *args, **fields)


@pytest.fixture
def save(host, folders):
    """save(image=…, report=…, …) -> the node's output, also before the node is registered."""
    node = host.module("nodes.save").CamouflageSaveImage
    defaults = {socket.id: socket.default for socket in node.GET_SCHEMA().inputs
                if getattr(socket, "default", None) is not None}

    def call(prompt: object = None, node_id: object = "9", **inputs: object) -> io.NodeOutput:
        ready = node.PREPARE_CLASS_CLONE({io.Hidden.prompt: prompt, io.Hidden.unique_id: node_id})
        with torch.inference_mode():
            return ready.EXECUTE_NORMALIZED(**{**defaults, **inputs})

    return call


def saved(folders: SimpleNamespace) -> list[str]:
    return sorted(path.relative_to(folders.output).as_posix() for path in folders.output.rglob("*") if path.is_file())


# --- what is in a file ------------------------------------------------------------------------------------------


@pytest.fixture
def photo_with_traces(host, folders) -> torch.Tensor:
    """What Load Image makes of a photo that names its place and its owner."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 29: "2024:05:17"})
    exif[0x013B] = "Jane Doe"
    Image.fromarray(as_pixels(pictures(1))[0]).save(folders.input / SOURCE, exif=exif, quality=90)
    assert b"2024:05:17" in (folders.input / SOURCE).read_bytes()
    return host.run("LoadImage", image=SOURCE)[0]


@pytest.mark.parametrize(("format", "quality", "suffix"), [
    ("PNG", 95, "png"), ("JPEG", 90, "jpg"), ("WebP", 90, "webp"), ("WebP", 100, "webp")])
def test_a_file_holds_only_pixels_and_stock_save_image_fails_the_same_check(host, save, make, folders, format, quality,
                                                                            suffix, photo_with_traces):
    image = photo_with_traces
    secrets = (SOURCE, "jane_doe", WORDS, "Jane Doe", "2024:05:17", "CamouflageVerify", str(folders.input))
    report = make(image, after=("safe", "redacted"))
    result = save(PROMPT, image=image, report=report, format=format, quality=quality)
    assert result.result == ([f"camouflage_00001.{suffix}"],)
    assert result.ui["images"] == [{"filename": f"camouflage_00001.{suffix}", "subfolder": "", "type": "output"}]
    assert set(saved(folders)) == {"camouflage_00001.json", f"camouflage_00001.{suffix}"}
    data = (folders.output / f"camouflage_00001.{suffix}").read_bytes()
    assert traces(data, *secrets) == []
    text = (folders.output / "camouflage_00001.json").read_text(encoding="utf-8")
    assert [secret for secret in secrets if secret in text] == []
    with Image.open(folders.output / f"camouflage_00001.{suffix}") as shown:
        assert (np.array(shown) == as_pixels(image)[0]).all() == (quality in (95, 100))

    stock = host.nodes["SaveImage"]()
    stock.save_images(image, "stock", prompt=PROMPT, extra_pnginfo={"workflow": {"nodes": [SOURCE]}})
    found = traces((folders.output / "stock_00001_.png").read_bytes(), *secrets)
    assert {"chunk tEXt", f"secret {SOURCE!r}", f"secret {WORDS!r}"} <= set(found)


def test_the_manifest_is_of_the_file_and_names_the_models(host, save, make, folders):
    for key, name in (("checkpoints", "base.safetensors"), ("loras", "beside.safetensors")):
        (folders.models / key / name).write_bytes(key.encode())
    image = pictures(1, 2)
    save(PROMPT, image=image, report=make(image), filename_prefix="a/b")
    schema = json.loads(host.module("camouflage.output.encoding").MANIFEST_SCHEMA.read_text(encoding="utf-8"))
    sha256 = host.module("camouflage.verification.report").pixels_sha256
    for index in (0, 1):
        name = f"b_0000{index + 1}"
        manifest = json.loads((folders.output / f"a/{name}.json").read_text(encoding="utf-8"))
        jsonschema.validate(manifest, schema)
        assert manifest["models"] == [{"file": "base.safetensors",
                                       "sha256": hashlib.sha256(b"checkpoints").hexdigest()}]
        data = (folders.output / f"a/{name}.png").read_bytes()
        assert manifest["file"] == {"name": f"{name}.png", "format": "PNG", "quality": None,
                                    "pixels_sha256": sha256(as_pixels(image)[index]),
                                    "file_sha256": hashlib.sha256(data).hexdigest()}
    save(PROMPT, image=image, report=make(image), filename_prefix="c", manifest=False)
    assert saved(folders)[4:] == ["c_00001.png", "c_00002.png"]


def test_files_are_numbered_listed_and_never_written_over(save, make, folders):
    image = pictures(1, 3)
    first = save(image=image, report=make(image), filename_prefix="x/y")
    before = {name: (folders.output / name).read_bytes() for name in saved(folders)}
    second = save(image=image.flip(0), report=make(image.flip(0)), filename_prefix="x/y")
    assert [*first.result[0], *second.result[0]] == [f"x/y_0000{i}.png" for i in range(1, 7)]
    assert second.ui["images"][0] == {"filename": "y_00004.png", "subfolder": "x", "type": "output"}
    assert {name: (folders.output / name).read_bytes() for name in before} == before and len(saved(folders)) == 12


# --- refusals ---------------------------------------------------------------------------------------------------


def refused(save, folders, text: str, **inputs: object) -> None:
    with pytest.raises(ValueError, match=text):
        save(**inputs)
    assert saved(folders) == [] and not list(folders.temp.iterdir())


def test_what_is_not_vouched_for_leaves_no_file(save, make, folders):
    image = pictures(1, 2)
    good = make(image)
    refused(save, folders, "'report' must be the report", image=image, report=None)
    refused(save, folders, "but got dict", image=image, report={"verdict": "safe"})
    refused(save, folders, "'image' has 1 pictures, but 'report' is of 2", image=image[:1], report=good)
    refused(save, folders, "'image' has 3 pictures", image=pictures(1, 3), report=good)
    changed = image.clone()
    changed[1, 5, 5, 0] += 1 / 255 if changed[1, 5, 5, 0] < 0.5 else -1 / 255
    refused(save, folders, "not of picture 1 .* changed after the verification", image=changed, report=good)
    refused(save, folders, "person 1 .*unverifiable", image=image, report=make(image, ("safe", "unverifiable")))
    refused(save, folders, "No face was found", image=image, report=make(image, ()))
    refused(save, folders, "JPEG at quality 50 .*person 0", image=image, format="JPEG", quality=50,
            report=make(image, after=("recognisable", "safe")))
    refused(save, folders, "cannot verify", image=image, report=good, format="WebP")
    refused(save, folders, "'format' is 'GIF'", image=image, report=good, format="GIF")
    refused(save, folders, "'quality' is 0", image=image, report=good, quality=0)
    refused(save, folders, "NaN", image=image * float("nan"), report=good)
    for prefix in ("../x", "/etc/x", "C:\\x", "a/../b", "%date%", ""):
        refused(save, folders, "'filename_prefix'", image=image, report=good, filename_prefix=prefix)
    refused(save, folders, "'filename_prefix'", image=image, report=None, filename_prefix="../x")  # said first
    assert save(image=image, report=make(image, (), nobody_passed=True)).result


def test_a_batch_of_which_one_picture_fails_is_not_saved_at_all(host, save, folders):
    image = pictures(1, 3)
    types = host.module("camouflage.verification.report")
    made = report_of(types, as_pixels(image), ("safe",))
    last = report_of(types, as_pixels(image[2:]), ("recognisable",)).pictures[0]
    mixed = types.Report((*made.pictures[:2], last), made.threshold, made.recogniser, made.detectors)._sealed()
    refused(save, folders, r"Nothing was saved. Picture 2 \(counted from 0\)", image=image, report=mixed)


def test_a_disk_that_fills_up_in_a_batch_is_told(host, save, make, folders, monkeypatch):
    calls, fsync = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    image = pictures(1, 2)
    with pytest.raises(ValueError, match=r"No space left on device.*Pictures saved before: camouflage_00001.png"):
        save(image=image, report=make(image))
    assert saved(folders) == ["camouflage_00001.json", "camouflage_00001.png"]


# --- models, progress, Cancel -----------------------------------------------------------------------------------


@pytest.fixture
def models(host, folders):
    """models(prompt, node id) -> names and folders of what was found."""
    found = host.module("camouflage.comfy.saving").model_files
    return lambda *args: [path.relative_to(folders.models).as_posix() for path in found(*args)]


def test_models_are_read_off_the_nodes_upstream(models, folders):
    for name in ("checkpoints/base.safetensors", "checkpoints/sub/deep.safetensors", "loras/beside.safetensors",
                 "loras/a.safetensors", "vae/a.safetensors", "custom_nodes/x.safetensors", "configs/y.safetensors"):
        (folders.models / name).parent.mkdir(exist_ok=True)
        (folders.models / name).touch()
    (folders.models / "loras" / SOURCE).touch()
    (folders.models / "loras" / "folder.safetensors").mkdir()
    (folders.input / "in.safetensors").touch()
    folder_paths.folder_names_and_paths["embeddings"] = ([str(folders.input)], {".safetensors"})
    assert models(PROMPT, "9") == ["checkpoints/base.safetensors"]
    assert models(PROMPT, 9) == models(PROMPT, "9")
    assert models(PROMPT, "gone") == ["checkpoints/base.safetensors", "loras/beside.safetensors"]
    odd = {"9": {"inputs": {"a": "a.safetensors", "b": {"on": True, "lora": "sub/deep.safetensors"},
                            "c": ["folder.safetensors", "in.safetensors", "x.safetensors", "y.safetensors", SOURCE],
                            "d": "../loras/beside.safetensors", "e": "missing.safetensors"}}}
    assert models(odd, "9") == ["loras/a.safetensors", "vae/a.safetensors", "checkpoints/sub/deep.safetensors"]


@pytest.mark.parametrize("prompt", [
    None, [], "x", {}, {"9": None}, {"9": {}}, {"9": {"inputs": None}}, {"9": {"inputs": ["9", 0]}},
    {"9": {"inputs": {"a": ["9", 0], "b": ["8", 0], "c": [], "d": [None, None], "e": [[], 0], "f": {"9": [1.5]}}}},
    {9: {"inputs": {"a": "\0.safetensors", "b": "x" * 9000 + ".safetensors", "c": "\ud800.pt", "d": "."}}},
    {"9": {"inputs": {"a": ["8", 0]}}, "8": {"inputs": {"a": ["9", 0]}}}])
def test_odd_prompts_have_no_models(models, save, make, prompt):
    assert models(prompt, "9") == []
    image = pictures(1)
    assert save(prompt, image=image, report=make(image)).result


def test_a_model_that_cannot_be_read_is_told(host, save, make, folders, monkeypatch):
    (folders.models / "checkpoints/base.safetensors").touch()

    def unreadable(path: Path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host.module("camouflage.comfy.saving"), "digest_of", unreadable)
    image = pictures(1)
    refused(save, folders, "base.safetensors cannot be read", prompt=PROMPT, image=image, report=make(image))
    assert save(PROMPT, image=image, report=make(image), manifest=False).result


@pytest.mark.parametrize("after", [1, 2, 3])
def test_progress_and_cancel(save, make, folders, monkeypatch, after):
    (folders.models / "checkpoints/base.safetensors").touch()
    image, seen = pictures(1, 2), []

    def hook(value, total, preview, node_id=None):
        seen.append((value, total))
        if len(seen) == after:
            mm.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            save(PROMPT, image=image, report=make(image))
    finally:
        mm.interrupt_current_processing(False)
    assert seen == [(i + 1, 3) for i in range(after)] and saved(folders) == []


def test_the_node_says_what_it_is(host):
    schema = host.module("nodes.save").CamouflageSaveImage.GET_SCHEMA()
    assert (schema.node_id, schema.display_name, schema.category) == ("CamouflageSaveImage", "Save Anonymized",
                                                                      "CAMOUFLaGE/verify")
    assert schema.is_output_node and all(socket.tooltip for socket in (*schema.inputs, *schema.outputs))
    assert [socket.id for socket in schema.inputs] == ["image", "report", "filename_prefix", "format", "quality",
                                                       "manifest"]
