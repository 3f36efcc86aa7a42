"""Persons who stay as they are by consent, through the nodes: what is shown, saved and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import photos
from in_host import difference


@pytest.fixture(scope="module")
def two():
    """Two persons side by side, 1 x 256 x 400 x 3."""
    import cv2

    left = photos.load("astronaut")[0:256, 110:310]
    right = cv2.resize(photos.load("hopper"), (200, 240), interpolation=cv2.INTER_AREA)
    picture = np.full((256, 400, 3), 255, np.uint8)
    picture[:, :200], picture[:240, 200:] = left, right
    return torch.from_numpy(picture).float()[None] / 255


@pytest.fixture(scope="module")
def boxes(host, two):
    """The two faces as BOUNDING_BOX, from left to right."""
    _, report, _ = host.run("CamouflageVerify", original=two, anonymized=two, policy="report", detectors="CenterFace")
    found = [person.box_ltrb for person in report.pictures[0].persons]
    assert len(found) == 2
    return [{"x": left, "y": top, "width": right - left, "height": bottom - top}
            for left, top, right, bottom in found]


def settled(host, original, result, **inputs):
    return host.run("CamouflageVerify", original=original, anonymized=result, detectors="CenterFace", **inputs)


def test_the_exempt_person_stays_and_the_manifest_names_them(host, two, boxes, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    image, report, verdict = settled(host, two, two, exempt=[boxes[0]])
    assert [person.verdict.value for person in report.pictures[0].persons] == ["exempt", "redacted"]
    assert verdict.startswith("verdict: exempt") and "safe" not in verdict.split("\n")[0]
    left = slice(round(boxes[0]["x"]), round(boxes[0]["x"] + boxes[0]["width"]))
    assert difference(image[:, :, left], two[:, :, left]) == 0.0
    assert difference(image[:, :, 200:], two[:, :, 200:]) > 0

    host.run("CamouflageSaveImage", image=image, report=report, filename_prefix="exempt")
    manifest, = (json.loads(path.read_text()) for path in tmp_path.rglob("*.json"))
    assert manifest["checked"]["verdict"] == "exempt"
    assert [person["verdict"] for person in manifest["checked"]["persons"]] == ["exempt", "redacted"]
    assert host.module("camouflage.output.manifests").read(json.dumps(manifest))["checked"]["verdict"] == "exempt"


def test_the_sheet_says_who_is_not_anonymized(host, two, boxes):
    image, report, _ = settled(host, two, two, exempt=[boxes[1]])
    _, text = host.run("CamouflageReport", report=report, image=image)
    assert "person 1" in text and "exempt" in text
    meaning = host.module("camouflage.output.sheet")._meaning(report.pictures[0])
    assert meaning == "Not anonymized, by consent: 1 of 2 persons. Of the others nobody is recognised."


def test_a_batch_needs_boxes_for_each_picture(host, two, boxes):
    both = torch.cat([two, two.flip(2)])
    with pytest.raises(Exception, match="'exempt' has boxes without a picture of their own, but there are 2"):
        settled(host, both, both, exempt=[boxes[0]])
    _, report, _ = settled(host, both, both, exempt=[[boxes[0]], []])
    assert [[person.verdict.value for person in picture.persons] for picture in report.pictures] == [
        ["exempt", "redacted"], ["redacted", "redacted"]]


def test_without_the_box_the_same_pictures_are_not_exempt(host, two):
    _, report, _ = settled(host, two, two, policy="report")
    assert report.verdict == "recognisable"
    with pytest.raises(Exception, match="'exempt'.* x"):
        settled(host, two, two, exempt=[{"y": 1, "width": 2, "height": 3}])
