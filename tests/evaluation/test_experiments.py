"""Experiments as files, and the baselines they compare."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from camouflage.commands.pipelines import PIPELINES
from camouflage.errors import CamouflageError
from camouflage.evaluation.experiments import Arm, fates, read, value_at
from camouflage.evaluation.methods import BASELINES, occluded
from camouflage.files import ROOT
from camouflage.verification.detection import FoundFace

SHIPPED = sorted((ROOT / "experiments").glob("*.yaml"))
FACE = FoundFace((40.0, 20.0, 80.0, 70.0), ("d",), ("d",))
PICTURE = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_shipped_ones_are_whole(file):
    found = read(file)
    assert all((found.title, found.question, found.shows, found.time, found.arms, found.plots))
    for arm in found.arms:
        assert arm.workflow in PIPELINES or (not arm.workflow and arm.name in BASELINES)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_their_settings_name_widgets_of_the_shipped_workflows(host, file):
    for arm in read(file).arms:
        for name, _ in arm.settings:
            title, _, socket = name.rpartition(".")
            graph = json.loads(PIPELINES[arm.workflow].workflow.read_text(encoding="utf-8"))
            (node,) = [node for node in graph["nodes"] if node["title"] == title]
            assert socket in {one.id for one in host.nodes[node["type"]].GET_SCHEMA().inputs}, name


def test_one_widget_over_its_values(tmp_path):
    (tmp_path / "x.yaml").write_text("title: T\nworkflow: base\nvary: {Guider.scale: [0, 1.25]}\nbaselines: [solid]\n")
    found = read(tmp_path / "x.yaml")
    assert found.arms == (Arm("scale 0", "base", (("Guider.scale", "0"),), 0.0, 0.0),
                          Arm("scale 1.25", "base", (("Guider.scale", "1.25"),), 0.0, 1.25), Arm("solid"))
    assert found.axis == "scale" and found.protocol == "pairs"
    (tmp_path / "y.yaml").write_text("title: T\nworkflow: light\nvary: {occlude: [0.5]}\n")
    assert read(tmp_path / "y.yaml").arms == (Arm("occlude 0.5", "light", (), 0.5, 0.5),)
    (tmp_path / "z.yaml").write_text("title: T\nworkflow: base\narms: [{name: a, set: {N.w: true}}]\n")
    assert read(tmp_path / "z.yaml").arms == (Arm("a", "base", (("N.w", "true"),)),)


@pytest.mark.parametrize(("content", "said"), [
    ({"title": "T"}, "must have arms"), ({"arms": []}, "title is missing"), ({"title": "T", "colour": 1}, "colour"),
    ([], "it must be a mapping"), ({"title": "T", "baselines": ["pixelate"]}, "baselines must be a list of"),
    ({"title": "T", "arms": [{"name": "a"}]}, "a has no workflow"), ({"title": 3, "baselines": ["solid"]}, "a text"),
    ({"title": "T", "baselines": ["solid", "solid"]}, "its own name"),
    ({"title": "T", "workflow": "base", "vary": {"a.b": 1}}, "a list of values"),
    ({"title": "T", "workflow": "light", "vary": {"occlude": [2]}}, "occlude"),
    ({"title": "T", "baselines": ["solid"], "protocol": "paper"}, "protocol must be")])
def test_another_file_is_refused_in_a_sentence(tmp_path, content, said):
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(CamouflageError, match=said):
        read(tmp_path / "x.yaml")


def test_no_yaml_is_refused(tmp_path):
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(CamouflageError, match="cannot be read as YAML"):
        read(tmp_path / "x.yaml")


def test_values_are_found_by_their_paths():
    results = {"recognisers": [{"identification": {"rank_1": {"value": 0.5}}, "operating_points": [
        {"reidentified": {"value": 0.25}, "protected": {"value": 0.25}}, {"reidentified": {"value": 0.0}}]}],
        "quality": {"psnr": {"value": 30.0}, "kid": {"value": None}},
        "faces": {"judged": 2, "lost": 1, "undetected": 1, "new": 0}}
    found = {path: value_at(results, path) for path in ("rank_1", "reidentified", "quality.psnr", "lost")}
    assert {path: one["value"] for path, one in found.items()} == {
        "rank_1": 0.5, "reidentified": 0.25, "quality.psnr": 30.0, "lost": 0.25}
    assert value_at(results, "quality.kid") is None and value_at(results, "quality.what.else") is None
    assert sum(fates(results).values()) == pytest.approx(1)
    assert fates({**results, "recognisers": [{"identification": None, "operating_points": []}]}) == {}


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_changes_the_head_and_nothing_else(name):
    changed = BASELINES[name](PICTURE, [FACE])
    assert changed.shape == PICTURE.shape and changed.dtype == np.uint8
    inside = np.abs(changed[30:60, 50:70].astype(int) - PICTURE[30:60, 50:70]).mean()
    assert inside == 0 if name == "original" else inside > 20
    assert (changed[100:] == PICTURE[100:]).all() and (changed[:, :8] == PICTURE[:, :8]).all()
    assert (BASELINES[name](PICTURE, []) == PICTURE).all()


def test_a_mosaic_of_sixteen_cells_has_flat_cells_of_the_mean_colour():
    flat = BASELINES["mosaic, 16 cells"](np.tile(np.arange(120, dtype=np.uint8)[None, :, None], (120, 1, 3)), [FACE])
    row = flat[45, 45:75, 0].astype(int)
    steps = np.flatnonzero(np.diff(row))
    assert 6 <= len(steps) <= 11 and np.abs(row - np.arange(45, 75)).max() <= 3, "cells of 50 / 16 px"


def test_a_face_is_covered_from_the_chin_upwards():
    half = occluded(PICTURE, [FACE], 0.5)
    assert (half[46:70, 40:80] == 128).all() and (half[:44] == PICTURE[:44]).all()
    assert (occluded(PICTURE, [FACE], 0.0) == PICTURE).all()
