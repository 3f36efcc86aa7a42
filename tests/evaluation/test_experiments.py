"""Experiments as files, and the baselines they compare."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from camouflage.commands.pipelines import PIPELINES
from camouflage.errors import CamouflageError
from camouflage.evaluation.experiments import Arm, Compare, breaking_point, called, fates, read, value_at
from camouflage.evaluation.methods import BASELINES, occluded
from camouflage.files import ROOT
from camouflage.method.attributes import DEMOGRAPHICS, STAND_INS, edit
from camouflage.method.faces import ATTRIBUTES, Face, Faces, Picture
from camouflage.verification.detection import FoundFace

SHIPPED = sorted((ROOT / "experiments").glob("*.yaml"))
FACE = FoundFace((40.0, 20.0, 80.0, 70.0), ("d",), ("d",))
PICTURE = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_shipped_ones_are_whole(file):
    found = read(file)
    assert all((found.title, found.question, found.shows, found.time, found.datasets, found.arms, found.plots))
    for arm in found.arms:
        assert arm.workflow in PIPELINES or (not arm.workflow and arm.name in BASELINES)


def test_every_experiment_of_the_paper_is_shipped_and_the_baselines():
    assert {file.stem for file in SHIPPED} == {
        "controlnet_weights", "identity_guidance", "separation", "other_datasets", "occluded_faces",
        "anonymization_scale", "base_and_light", "ethnicity", "baselines"}


def test_the_edits_of_the_shipped_ones_change_what_they_should():
    attributes = {name: 0.25 for name in ATTRIBUTES}
    faces = Faces((Picture(96, 96, tuple(Face((x, 10.0, x + 20.0, 30.0), 0.9, ((x, 20.0),) * 5, None, tuple(
        attributes.values())) for x in (10.0, 60.0))),))

    def edited(name):
        """Of every way, the attributes of both persons that are others now."""
        for arm in read(ROOT / "experiments" / f"{name}.yaml").arms:
            wishes = dict(arm.settings)
            text = json.loads(wishes.get("Edit Attributes.edits", "{}"))
            after = edit(faces, json.dumps({"preset": wishes.get("Edit Attributes.preset", "all"), **text}))
            yield arm.name, [{name: value for name, value, was in zip(
                ATTRIBUTES, face.attributes, attributes.values(), strict=True) if value != was}
                for face in after.pictures[0].faces]

    apart = dict(edited("separation"))
    assert apart["as read"] == [{}, {}]
    assert apart["first person edited"][1] == {} and apart["second person edited"][0] == {}
    assert apart["first person edited"][0] == apart["second person edited"][1]
    assert apart["first person edited"][0]["Eyeglasses"] == 1
    ethnic = dict(edited("ethnicity"))
    assert ethnic["kept"] == [{}, {}]
    forgotten, everything, same = (ethnic[name][0] for name in ("forgotten", "forgotten, with all demographics",
                                                                "set, the same for all"))
    assert set(forgotten.values()) == {None} and forgotten.keys() <= STAND_INS | DEMOGRAPHICS
    assert everything.keys() == STAND_INS | DEMOGRAPHICS and set(everything.values()) == {None}
    assert same.keys() == forgotten.keys() and None not in same.values() and ethnic["set, the same for all"][1] == same


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_their_settings_name_widgets_of_the_shipped_workflows(host, file):
    for arm in read(file).arms:
        for name, _ in arm.settings:
            title, _, socket = name.rpartition(".")
            graph = json.loads(PIPELINES[arm.workflow].workflow.read_text(encoding="utf-8"))
            ours = [(node["title"], host.nodes[node["type"]].GET_SCHEMA()) for node in graph["nodes"]
                    if node["type"].startswith("Camouflage")]
            (schema,) = [schema for shown, schema in ours if title in (shown, schema.display_name)]
            assert socket in {one.id for one in schema.inputs}, name


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


def test_settings_of_all_ways_and_what_is_compared(tmp_path):
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({
        "title": "T", "workflow": "light", "set": {"N.v": 1, "N.w": 2}, "arms": [{"name": "a"}, {
            "name": "b", "set": {"N.w": 3}}], "baselines": ["solid"], "compare": {"to": "a", "changed": {"b": 1}},
        "readings": ["attributes"], "datasets": ["lfw"], "planes": {"P": ["rank_1", "quality.ssim"]}}))
    found = read(tmp_path / "x.yaml")
    assert found.arms == (Arm("a", "light", (("N.v", "1"), ("N.w", "2"))),
                          Arm("b", "light", (("N.v", "1"), ("N.w", "3"))), Arm("solid"))
    assert found.compare == Compare("a", {"b": 1}) and found.readings == ("attributes",) and found.datasets == ("lfw",)
    assert found.planes == {"P": ["rank_1", "quality.ssim"]}


def test_the_breaking_point_is_where_half_is_left(tmp_path):
    (tmp_path / "x.yaml").write_text("title: T\nworkflow: base\nvary: {G.a_scale: [2, 0, 1, 3]}\n"
                                     "breaking_point: [quality.ssim, utility.faces.recall]\nbaselines: [solid]\n")
    experiment = read(tmp_path / "x.yaml")

    def at(ssim, recall):
        return {"recognisers": [{}], "quality": {"ssim": {"value": ssim}},
                "utility": {"faces": {"recall": {"value": recall}}}}

    found = {"a scale 0": at(0.8, 1.0), "a scale 1": at(0.4, None), "a scale 2": at(0.39, 0.8),
             "a scale 3": at(0.2, 0.5), "solid": at(0, 0)}
    assert breaking_point(experiment, found) == {
        "at": 2.0, "by": {"quality.ssim": 2.0, "utility.faces.recall": None}, "axis": "a scale",
        "from": 0.0, "silent": []}
    nothing = breaking_point(experiment, {**found, "a scale 0": at(0.8, 0.0)})
    assert nothing and (nothing["silent"], nothing["by"]) == (["utility.faces.recall"], {"quality.ssim": 2.0})
    assert breaking_point(read(SHIPPED[0].with_name("baselines.yaml")), {}) is None


def test_results_have_names_for_people():
    assert called("utility.attributes.by_group.all") == "attributes kept" and called("undetected") == "undetected"


@pytest.mark.parametrize(("content", "said"), [
    ({"title": "T", "baselines": ["solid"], "datasets": ["mine"]}, "datasets must be a list of plain, lfw"),
    ({"title": "T", "baselines": ["solid"], "readings": "attributes"}, "readings must be a list of attributes"),
    ({"title": "T", "baselines": ["solid"], "planes": {"P": ["rank_1"]}}, "planes must be .* two results"),
    ({"title": "T", "baselines": ["solid"], "breaking_point": ["rank_1"]}, "needs vary"),
    ({"title": "T", "baselines": ["solid"], "compare": {"to": "solid"}}, "compare must have to"),
    ({"title": "T", "baselines": ["solid", "blur"], "compare": {"to": "solid", "changed": {"blur": -1}}}, "from 0"),
    ({"title": "T", "baselines": ["solid"], "compare": {"to": "solid", "changed": {"blur": 1}}}, "names of ways"),
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
