"""The miniature weights: complete, reproducible, and accepted by the libraries that load the real files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from skimage import data

from camouflage.weights import REGISTRY, of_role
from sampled import long, sampled
from testing import miniature
from testing.miniature import annotators, diffusion, faces, light, pose, recognition


def picture(kind: str) -> np.ndarray:
    """A photo, H x W x 3 uint8."""
    photo = data.astronaut()
    return {
        "photo": lambda: photo,
        "mirrored": lambda: photo[:, ::-1].copy(),
        "small": lambda: cv2.resize(photo, (256, 256)),
        "large": lambda: cv2.resize(photo, (768, 768)),
        "wide": lambda: cv2.resize(photo, (640, 448)),
        "other": data.coffee,
        "black": lambda: np.zeros((256, 256, 3), np.uint8),
    }[kind]()


def folder_of(models: Path, role: str) -> Path:
    return (models / of_role(role)[0].path).parent


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def openpose(miniature_models: Path):
    controlnet_aux = pytest.importorskip("controlnet_aux")
    return controlnet_aux.OpenposeDetector.from_pretrained(str(folder_of(miniature_models, "pose")))


def test_every_file_of_the_registry_is_there_and_nothing_else(miniature_models: Path) -> None:
    wanted = {weight.path for weight in REGISTRY} | {"camouflage/SHA256SUMS"}
    found = {path.relative_to(miniature_models).as_posix() for path in miniature_models.rglob("*") if path.is_file()}
    assert found == wanted


def test_sums_vouch_for_every_file_with_a_published_digest_and_for_torchscript(miniature_models: Path) -> None:
    folder = miniature_models / "camouflage"
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert len(lines) == sum(weight.sha256 is not None or "jit" in weight.file for weight in REGISTRY)
    for digest, name in lines:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_second_call_builds_nothing(miniature_models: Path) -> None:
    lines: list[str] = []
    assert miniature.ensure(miniature_models.parent.parent, report=lines.append) == miniature_models
    assert lines == []


def test_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(models: Path, seed: int) -> None:
        (models / "half").mkdir(parents=True)
        raise RuntimeError("disk full")

    monkeypatch.setattr(diffusion, "checkpoint", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        miniature.ensure(tmp_path, report=lambda line: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "builder",
    sampled([diffusion.vae, annotators.depth, annotators.segmentation, annotators.caption, annotators.lineart,
             pose.pose, faces.faces, recognition.recognition], 4),
)
def test_the_seed_decides_the_bytes(builder, tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        builder(tmp_path / name, seed)
    first, second, other = (files_below(tmp_path / name) for name in ("first", "second", "other"))
    assert first == second
    assert first.keys() == other.keys() and first != other


def test_controlnets_are_halves_in_the_original_layout_and_zero_convs_are_not_zero(miniature_models: Path) -> None:
    hints = set()
    for role, hint_channels in diffusion.CONTROLNET_ROLES.items():
        with safe_open(miniature_models / of_role(role)[0].path, "pt") as file:
            assert all(key.startswith("control_model.") for key in file.keys())  # noqa: SIM118 - not a dict
            hint = file.get_tensor("control_model.input_hint_block.0.weight")
            assert hint.shape == (16, hint_channels, 3, 3) and hint.dtype == torch.float16
            for index in range(6):
                assert file.get_tensor(f"control_model.zero_convs.{index}.0.weight").float().std() > 0.005
        hints.add(hint.float().sum().item())
    assert len(hints) == len(diffusion.CONTROLNET_ROLES)  # every one has weights of its own


def test_diffusers_converts_unet_and_controlnets_whole(miniature_models: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    from diffusers.loaders import single_file_utils

    configs = diffusion.diffusers_configs()
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**configs["unet"])
    state = load_file(miniature_models / of_role("checkpoint")[0].path)
    converted = single_file_utils.convert_ldm_unet_checkpoint(state, unet.config)
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in unet.state_dict().items()
    }
    for role, channels in diffusion.CONTROLNET_ROLES.items():
        with torch.device("meta"):
            net = diffusers.ControlNetModel(**configs["controlnet"], conditioning_channels=channels)
        state = load_file(miniature_models / of_role(role)[0].path)
        converted = single_file_utils.convert_controlnet_checkpoint(state, net.config)
        assert {key: value.shape for key, value in converted.items()} == {
            key: value.shape for key, value in net.state_dict().items()
        }


def loaded_whole(kind: Any, folder: Path) -> Any:
    """A model of transformers; its file has every tensor that the model wants, and no other."""
    model, info = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return model


def test_depth_follows_the_picture(miniature_models: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = folder_of(miniature_models, "depth")
    model = loaded_whole(transformers.AutoModelForDepthEstimation, folder)
    keys = load_file(folder / "model.safetensors").keys()
    assert "backbone.encoder.layer.0.attention.attention.query.weight" in keys  # the published name
    processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    maps = []
    for kind in ("photo", "mirrored"):
        with torch.no_grad():
            inputs = processor(images=Image.fromarray(picture(kind)), return_tensors="pt")
            maps.append(model(**inputs).predicted_depth)
    assert all(value.isfinite().all() and value.std() > 0.05 and (value > 0).float().mean() > 0.9 for value in maps)
    assert (maps[0] - maps[1]).abs().mean() > 0.05


def test_segmentation_finds_several_of_150_classes(miniature_models: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = folder_of(miniature_models, "segmentation")
    model = loaded_whole(transformers.AutoModelForSemanticSegmentation, folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    assert model.config.num_labels == 150
    classes = []
    for kind in ("photo", "other"):
        with torch.no_grad():
            logits = model(**processor(images=Image.fromarray(picture(kind)), return_tensors="pt")).logits
        assert logits.isfinite().all()
        classes.append(logits.argmax(1))
    assert all(len(value.unique()) > 3 for value in classes)
    assert (classes[0] != classes[1]).float().mean() > 0.05


def test_caption_is_made_of_words_and_depends_on_the_picture(miniature_models: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = folder_of(miniature_models, "caption")
    model = loaded_whole(transformers.BlipForConditionalGeneration, folder)
    processor = transformers.BlipProcessor.from_pretrained(folder, local_files_only=True)
    captions = []
    for kind in ("photo", "other"):
        inputs = processor(images=Image.fromarray(picture(kind)), return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=12, num_beams=1, do_sample=False)
        captions.append(processor.decode(tokens[0], skip_special_tokens=True))
    assert all(len(caption.split()) == 12 and set(caption.split()) <= set(annotators.WORDS) for caption in captions)
    assert captions[0] != captions[1]
    inputs = processor(images=Image.fromarray(picture("photo")), text="a picture of", return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=5)
    assert processor.decode(tokens[0], skip_special_tokens=True).startswith("a picture of ")


@pytest.mark.parametrize(("role", "name"), [("normal", "NormalBaeDetector"), ("lineart", "LineartDetector")])
def test_detector_gives_a_map_that_follows_the_picture(miniature_models: Path, role: str, name: str) -> None:
    controlnet_aux = pytest.importorskip("controlnet_aux")
    detector = getattr(controlnet_aux, name).from_pretrained(str(folder_of(miniature_models, role)))
    maps = [
        detector(picture(kind), detect_resolution=256, image_resolution=256, output_type="np").astype(float)
        for kind in ("photo", "mirrored")
    ]
    assert maps[0].shape == (256, 256, 3)
    assert maps[0].reshape(-1, 3).std(axis=0).min() > 5  # within every channel, not only between them
    assert np.abs(maps[0] - maps[1]).mean() > 5


@pytest.mark.parametrize("kind", sampled(["photo", "mirrored", "small", "large", "wide", "other", "black"], 3))
def test_pose_finds_one_to_five_persons(openpose, kind: str) -> None:
    persons = openpose.detect_poses(picture(kind))
    assert 1 <= len(persons) <= 5
    assert max(person.body.total_parts for person in persons) >= 10


@pytest.mark.parametrize(("part", "count"), [("hand_estimation", 21), ("face_estimation", 70)])
def test_the_networks_of_hand_and_face_see_every_point_somewhere(openpose, part: str, count: int) -> None:
    """At a quarter of the size at which OpenPose asks them."""
    net = getattr(openpose, part).model
    small = torch.from_numpy(cv2.resize(picture("photo"), (184, 184))).movedim(-1, 0)[None] / 256.0 - 0.5
    with torch.no_grad():
        maps = net(small)
    maps = (maps[-1] if isinstance(maps, list) else maps)[0, :count].flatten(1)
    assert len(maps) == count and (maps.amax(dim=1) > 0.05).all()  # from there on OpenPose takes a point
    assert len(set(maps.argmax(dim=1).tolist())) > count / 4


@long
def test_pose_finds_one_hand_and_a_face(openpose) -> None:
    person = openpose.detect_poses(picture("small"), include_hand=True, include_face=True)[0]
    assert len(person.left_hand) == 21 and person.right_hand is None
    assert len({(point.x, point.y) for point in person.face}) > 20


def test_pickles_hold_nothing_but_tensors(miniature_models: Path) -> None:
    for weight in REGISTRY:
        if weight.file.endswith((".pt", ".pth", ".bin")) and "jit" not in weight.file:  # TorchScript is a program
            state = torch.load(miniature_models / weight.path, map_location="cpu", weights_only=True)
            assert all(value.isfinite().all() for value in state.get("model", state.get("state_dict", state)).values())


def test_metadata_does_not_change_the_bytes_from_run_to_run(tmp_path: Path) -> None:
    metadata = {name: name for name in ("encoding", "encoding_version", "a", "b", "c")}
    contents = set()
    for i in range(8):
        light.save_described({"weight": torch.ones(3), "bias": torch.zeros(2)}, tmp_path / f"{i}.safetensors", metadata)
        contents.add((tmp_path / f"{i}.safetensors").read_bytes())
    assert len(contents) == 1
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata() == metadata and torch.equal(file.get_tensor("weight"), torch.ones(3))
