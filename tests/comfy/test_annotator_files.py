"""Missing, damaged and hostile files of the annotators, and models of the user's own."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys

import pytest
import torch

from in_host import spoil, vouch_for

SMALL = {"resolution": 128}  # px
pytestmark = pytest.mark.usefixtures("forget")


@pytest.mark.parametrize(("node", "role", "file"), [
    ("CamouflageDepthMap", "depth", "depth/Depth-Anything-V2-Small-hf/model.safetensors"),
    ("CamouflageNormalMap", "normal", "normal/scannet.pt"),
    ("CamouflageSegmentationMap", "segmentation", "segmentation/upernet-convnext-small/config.json"),
    ("CamouflagePoseMap", "pose", "pose/hand_pose_model.pth"),
    ("CamouflageLineartMap", "lineart", "lineart/sk_model2.pth"),
    ("CamouflageCaption", "caption", "caption/blip-image-captioning-base/vocab.txt")])
def test_a_missing_file_is_named_with_url_folder_and_licence(host, photo, weights_folder, node, role, file):
    (weights_folder / file).unlink()
    with pytest.raises(ValueError, match="missing") as error:
        host.run(node, image=photo)
    text = str(error.value)
    assert f"'{role}'" in text and str(weights_folder / file) in text and "https://" in text and "licence:" in text


@pytest.mark.parametrize(("node", "file"), [
    ("CamouflageDepthMap", "depth/Depth-Anything-V2-Small-hf/model.safetensors"),
    ("CamouflageSegmentationMap", "segmentation/upernet-convnext-small/pytorch_model.bin"),
    ("CamouflagePoseMap", "pose/body_pose_model.pth"),
    ("CamouflageLineartMap", "lineart/sk_model.pth")])
def test_an_unknown_digest_is_refused(host, photo, weights_folder, node, file):
    spoil(weights_folder / file, b"damaged" * 1000)
    with pytest.raises(ValueError, match=r"(?s)not the published file.*SHA256SUMS"):
        host.run(node, image=photo)


@pytest.mark.parametrize(("node", "file"), [
    ("CamouflageDepthMap", "depth/Depth-Anything-V2-Small-hf/model.safetensors"),
    ("CamouflageSegmentationMap", "segmentation/upernet-convnext-small/pytorch_model.bin"),
    ("CamouflageNormalMap", "normal/scannet.pt"),
    ("CamouflagePoseMap", "pose/facenet.pth"),
    ("CamouflageLineartMap", "lineart/sk_model2.pth")])
@pytest.mark.parametrize("content", ["truncated", "noise", "other"])
def test_a_damaged_file_that_is_trusted_gets_a_clear_error(host, photo, weights_folder, node, file, content):
    path = weights_folder / file
    data = path.read_bytes()
    damaged = {"truncated": data[: len(data) // 2], "noise": b"\x13\x37" * 5000,
               "other": _torch_pickle({"weight": torch.zeros(3)})}
    spoil(path, damaged[content])
    vouch_for(weights_folder, file)
    with pytest.raises(ValueError, match=r"could not be loaded.*download it again") as error:
        host.run(node, image=photo)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("file", "content"), [
    ("config.json", b"{"), ("preprocessor_config.json", b"\xff\xfe{}"), ("model.safetensors", b"\0" * 9)])
def test_of_the_files_of_a_folder_the_damaged_one_is_named(host, photo, weights_folder, file, content):
    folder = weights_folder / "depth" / "Depth-Anything-V2-Small-hf"
    spoil(folder / file, content)
    vouch_for(weights_folder, "depth/Depth-Anything-V2-Small-hf/model.safetensors")
    with pytest.raises(ValueError, match="could not be loaded") as error:
        host.run("CamouflageDepthMap", image=photo)
    named = [entry.name for entry in folder.iterdir() if str(entry) in str(error.value)]
    assert named == [file] and f"{folder} could" not in str(error.value)


PAGE = b"\n<!DOCTYPE html>\n<html><body>Log in to download</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 44642768\n"


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(("content", "words"), [(PAGE, "is a web page"), (POINTER, "is a Git LFS pointer"),
                                                (b"", "is empty")])
@pytest.mark.parametrize(("node", "file"), [
    ("CamouflageNormalMap", "normal/scannet.pt"),
    ("CamouflageDepthMap", "depth/Depth-Anything-V2-Small-hf/model.safetensors")])
def test_what_a_failed_download_left_is_told(host, photo, weights_folder, node, file, content, words, trusted):
    spoil(weights_folder / file, content)
    if trusted:
        vouch_for(weights_folder, file)
    with pytest.raises(ValueError, match=f"{words}.*[Dd]elete it and download it again") as error:
        host.run(node, image=photo)
    assert str(weights_folder / file) in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_sums_of_windows_are_read(host, photo, weights_folder, encoding):
    sums = weights_folder / "SHA256SUMS"
    text = sums.read_text(encoding="utf-8").replace("\n", "\r\n").upper()
    bom = "\ufeff" if encoding == "utf-16-be" else ""
    spoil(sums, (bom + text).encode(encoding))
    expected = {line.split()[0].lower() for line in text.splitlines()}
    assert host.module("camouflage.comfy.weights").trusted_digests() == expected and expected


def test_no_code_of_a_model_folder_is_run(host, photo, weights_folder, tmp_path, monkeypatch):
    """transformers runs a folder's Python files where it is allowed to, and asks at the terminal where nobody said."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    folder, victim = weights_folder / "depth" / "mine", tmp_path / "executed"
    shutil.copytree(weights_folder / "depth" / "Depth-Anything-V2-Small-hf", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config",
                                                  "AutoModelForDepthEstimation": "code.Model"}}
    spoil(folder / "config.json", json.dumps(config).encode())
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(victim)!r})\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"could not be loaded.*contains custom code"):
        host.run("CamouflageDepthMap", image=photo, model="mine")
    assert not victim.exists()


@pytest.mark.parametrize(("node", "file"), [
    ("CamouflageNormalMap", "normal/scannet.pt"),
    ("CamouflageSegmentationMap", "segmentation/upernet-convnext-small/pytorch_model.bin"),
    ("CamouflagePoseMap", "pose/body_pose_model.pth"),
    ("CamouflageLineartMap", "lineart/sk_model.pth")])
def test_code_in_a_pickle_is_never_executed(host, photo, weights_folder, tmp_path, node, file):
    victim = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(victim),)

    for content in (pickle.dumps(Bomb()), _torch_pickle({"state_dict": Bomb()})):
        spoil(weights_folder / file, content)
        with pytest.raises(ValueError, match="not the published file"):
            host.run(node, image=photo)
        vouch_for(weights_folder, file)  # even when somebody was talked into trusting it
        with pytest.raises(ValueError, match="code, which is never executed"):
            host.run(node, image=photo)
        assert not victim.exists()


def _torch_pickle(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_safetensors_in_place_of_a_pickled_model(host, photo, weights_folder):
    from safetensors.torch import save_file

    folder = weights_folder / "segmentation" / "upernet-convnext-small"
    expected, = host.run("CamouflageSegmentationMap", image=photo, **SMALL)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    spoil(folder / "pytorch_model.bin", b"must not be read")
    assert torch.equal(host.run("CamouflageSegmentationMap", image=photo, **SMALL)[0], expected)
    (folder / "pytorch_model.bin").unlink()
    assert torch.equal(host.run("CamouflageSegmentationMap", image=photo, **SMALL)[0], expected)


def test_a_model_with_other_classes_is_refused(host, photo, weights_folder):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    folder = weights_folder / "segmentation" / "mine"
    config = SegformerConfig(num_labels=19, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=8,
                             num_attention_heads=[1, 1, 1, 1])
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor().save_pretrained(folder)
    with pytest.raises(ValueError, match="knows 19 classes"):
        host.run("CamouflageSegmentationMap", image=photo, model="mine")


@pytest.mark.parametrize("kind", ["segformer", "mask2former"])
def test_other_segmentation_models_from_a_folder_of_the_user(host, photo, weights_folder, kind):
    folder = weights_folder / "segmentation" / "mine"
    torch.manual_seed(0)
    if kind == "segformer":
        from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

        config = SegformerConfig(num_labels=150, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1],
                                 decoder_hidden_size=8, num_attention_heads=[1, 1, 1, 1])
        SegformerForSemanticSegmentation(config).save_pretrained(folder)
        SegformerImageProcessor().save_pretrained(folder)
    else:
        from transformers import (
            Mask2FormerConfig,
            Mask2FormerForUniversalSegmentation,
            Mask2FormerImageProcessor,
            SwinConfig,
        )

        backbone = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
                              out_features=["stage1", "stage2", "stage3", "stage4"])
        config = Mask2FormerConfig(backbone_config=backbone, num_labels=150, hidden_dim=32, feature_size=32,
                                   mask_feature_size=32, encoder_feedforward_dim=32, dim_feedforward=32,
                                   num_attention_heads=2, encoder_layers=1, decoder_layers=2, num_queries=4)
        Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
        Mask2FormerImageProcessor().save_pretrained(folder)
    result, = host.run("CamouflageSegmentationMap", image=photo, model="mine", **SMALL)
    assert result.shape == photo.shape and torch.isfinite(result).all()


def test_an_unknown_model_folder_names_the_known_ones(host, photo, weights_folder):
    with pytest.raises(ValueError, match="no model folder '../../etc'.*Depth-Anything-V2-Small-hf"):
        host.run("CamouflageDepthMap", image=photo, model="../../etc")
    (weights_folder / "depth" / "empty").mkdir()
    with pytest.raises(ValueError, match="must have config.json and a .safetensors"):
        host.run("CamouflageDepthMap", image=photo, model="empty")


@pytest.mark.parametrize(("node", "module", "package"), [
    ("CamouflageDepthMap", "transformers", "transformers"), ("CamouflageCaption", "transformers", "transformers"),
    ("CamouflageNormalMap", "controlnet_aux", "controlnet-aux"),
    ("CamouflageLineartMap", "controlnet_aux", "controlnet-aux"),
    ("CamouflageSegmentationMap", "controlnet_aux.util", "controlnet-aux")])
def test_a_missing_package_is_named(host, photo, monkeypatch, node, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"pip install {package}"):
        host.run(node, image=photo)
