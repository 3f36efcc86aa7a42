"""Poses by RT-DETR and ViTPose, against transformers and controlnet_aux called directly."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from in_host import difference

COCO = ["nose", *(f"{side}_{part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
                  for side in ("left", "right"))]
OPENPOSE = ["nose", "neck", *(f"{side}_{part}" for limb in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
                              for side in ("right", "left") for part in limb),
            *(f"{side}_{part}" for part in ("eye", "ear") for side in ("right", "left"))]
pytestmark = pytest.mark.usefixtures("forget")


@pytest.fixture
def drawn(host):
    from camouflage.comfy.annotators.body_pose import drawn
    return drawn


def reference(shape, persons):
    """What controlnet_aux draws of persons, each a dict of OpenPose's names and places in px."""
    from controlnet_aux.open_pose import PoseResult, draw_poses
    from controlnet_aux.open_pose.body import BodyResult, Keypoint

    height, width = shape[:2]
    bodies = [BodyResult([Keypoint(person[name][0] / width, person[name][1] / height) if name in person else None
                          for name in OPENPOSE], 1.0, 18) for person in persons]
    return draw_poses([PoseResult(body, None, None, None) for body in bodies], height, width, draw_hand=False,
                      draw_face=False)


def places(seed, shape):
    return np.random.default_rng(seed).uniform(10, min(shape[:2]) - 10, (17, 2)).astype(np.float32)


def named(keypoints, left_out=()):
    """By name, with the neck between the shoulders."""
    found = {name: place for name, place in zip(COCO, keypoints, strict=True) if name not in left_out}
    if {"left_shoulder", "right_shoulder"} <= found.keys():
        found["neck"] = (found["left_shoulder"] + found["right_shoulder"]) / 2
    return found


def test_it_draws_what_openpose_draws_and_leaves_out_what_is_not_sure(drawn):
    shape = (200, 240, 3)
    first, second = places(0, shape), places(1, shape)
    scores = np.full(17, 0.9, np.float32)
    assert np.array_equal(drawn(shape, [(first, scores)]), reference(shape, [named(first)]))
    unsure = scores.copy()
    unsure[[COCO.index("left_shoulder"), COCO.index("right_ankle")]] = 0.29
    expected = reference(shape, [named(first), named(second, ("left_shoulder", "right_ankle"))])
    assert np.array_equal(drawn(shape, [(first, scores), (second, unsure)]), expected)
    assert not drawn(shape, []).any()


def test_the_map_is_that_of_transformers_called_directly(host, photo, miniature_models):
    from transformers import AutoImageProcessor, RTDetrForObjectDetection, VitPoseForPoseEstimation

    image = photo[:, :192, :256]
    pixels = (image[0] * 255).round().to(torch.uint8).numpy()
    folders = [miniature_models / "camouflage" / name for name in ("persons/rtdetr_r50vd",
                                                                   "keypoints/vitpose-base-simple")]
    finder, estimator = (kind.from_pretrained(folder, local_files_only=True) for kind, folder in zip(
        (RTDetrForObjectDetection, VitPoseForPoseEstimation), folders, strict=True))
    finding, estimating = (AutoImageProcessor.from_pretrained(folder, local_files_only=True) for folder in folders)
    with torch.no_grad():
        found, = finding.post_process_object_detection(finder(**finding(images=pixels, return_tensors="pt")),
                                                       threshold=0.3, target_sizes=[(192, 256)])
        assert len(found["boxes"]) and not found["labels"].any(), "persons alone"
        boxes = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in found["boxes"].tolist()]
        outputs = estimator(**estimating(images=pixels, boxes=[boxes], return_tensors="pt"))
    persons, = estimating.post_process_pose_estimation(outputs, boxes=[boxes])
    expected = reference(pixels.shape, [named(one["keypoints"].numpy()) for one in persons])
    result, = host.run("CamouflagePoseMap", image=image, resolution=192, network="ViTPose")
    assert expected.any() and difference(result[0] * 255, torch.from_numpy(expected).float()) < 1e-3
    openpose, = host.run("CamouflagePoseMap", image=image, resolution=192, hands=False)
    assert difference(openpose, result) > 0.1


def test_only_persons_count(host, photo, monkeypatch):
    from camouflage.comfy.annotators import body_pose

    monkeypatch.setattr(body_pose, "LEAST", 0.99)
    result, = host.run("CamouflagePoseMap", image=photo, resolution=128, network="ViTPose")
    assert not result.any(), "nobody is that sure"


def test_more_persons_than_a_pass_takes(host, photo, monkeypatch, forget):
    from camouflage.comfy.annotators import body_pose

    together, = host.run("CamouflagePoseMap", image=photo, resolution=128, network="ViTPose")
    forget()
    monkeypatch.setattr(body_pose, "_PERSONS", 2)
    alone, = host.run("CamouflagePoseMap", image=photo, resolution=128, network="ViTPose")
    assert together.any() and difference(together, alone) < 1e-3


def test_missing_weights_are_named_with_licence(host, photo, weights_folder):
    shutil.rmtree(weights_folder / "persons")
    with pytest.raises(Exception, match="rtdetr_r50vd/resolve/main/model.safetensors[\\s\\S]*Apache-2.0"):
        host.run("CamouflagePoseMap", image=photo, resolution=128, network="ViTPose")


def test_a_transformers_that_is_too_old_is_named(host, photo, monkeypatch):
    from camouflage.comfy.annotators import transformers_models

    monkeypatch.setattr(transformers_models, "require", lambda *_: SimpleNamespace(__version__="4.46.0"))
    with pytest.raises(Exception, match="that has AutoModelForObjectDetection; 4.46.0 has not.*pip install"):
        host.run("CamouflagePoseMap", image=photo, resolution=128, network="ViTPose")
