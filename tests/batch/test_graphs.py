"""What a run takes of a workflow, against schemas as a host gives them."""

from __future__ import annotations

import copy
import json

import pytest

from camouflage.batch.graphs import LOAD_MANY, make_graph, read_workflow
from camouflage.errors import CamouflageError

INFO = {
    "LoadImage": {"input": {"required": {"image": [["a.png"], {}]}}},
    "CamouflageRedact": {"input": {"required": {
        "image": ["IMAGE"], "redaction": ["COMBO", {"options": ["solid", "blur"]}], "size": ["FLOAT", {}],
        "no_face": [["block", "pass"], {}]}}},
    "CamouflageVerify": {"input": {"required": {"original": ["IMAGE"], "anonymized": ["IMAGE"],
                                                "no_face": [["block", "pass"], {}]}}},
    "CamouflageSaveImage": {"output_node": True, "input": {"required": {
        "image": ["IMAGE"], "report": ["REPORT"], "filename_prefix": ["STRING", {}],
        "format": [["PNG", "JPEG", "WebP"], {}], "quality": ["INT", {}], "manifest": ["BOOLEAN", {}]}}},
    "PreviewImage": {"output_node": True, "input": {"required": {"images": ["IMAGE"]}}},
    "SaveImage": {"output_node": True, "input": {"required": {"images": ["IMAGE"]}}},
    "RandomNoise": {"input": {"required": {"noise_seed": ["INT", {"max": 2**64 - 1}]}}},
    "Wildcard": {"input": {"required": {"noise": ["NOISE"], "seed": ["INT", {"max": 2**32 - 1}],
                                        "image": ["IMAGE"]}}},
    "Mask": {"input": {"required": {"image": ["IMAGE"], "mask": ["MASK"]}}},
}


def node(kind: str, title: str = "", **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs, **({"_meta": {"title": title}} if title else {})}


@pytest.fixture
def prompt() -> dict:
    return {
        "1": node("LoadImage", "Photo", image="a.png"),
        "2": node("CamouflageRedact", "Redact", image=["1", 0], redaction="solid", size=1.0, no_face="block"),
        "3": node("CamouflageVerify", "Verify", original=["1", 0], anonymized=["2", 0], no_face="block"),
        "4": node("CamouflageSaveImage", "Anonymized", image=["3", 0], report=["3", 1], filename_prefix="john",
                  format="PNG", quality=95, manifest=False),
        "5": node("PreviewImage", "Look", images=["2", 0]),
    }


def test_it_takes_what_leads_to_the_saved_picture(prompt):
    graph = make_graph(prompt, INFO)
    assert set(graph.prompt) == {"1", "2", "3", "4"} and graph.left_out == ("Look (node 5)",)
    assert graph.prompt["4"]["inputs"]["manifest"] is True, "no picture without its record"
    assert "john" not in json.dumps(graph.prompt)
    assert graph.suffix == ".png"
    ready = graph.for_pictures(["x/1.png", "2.png"], 7)
    assert ready["1"]["class_type"] == LOAD_MANY
    assert ready["1"]["inputs"] == {"photos": "x/1.png\n2.png", "batch_size": 2, "unreadable": "stop"}
    assert ready["2"] == prompt["2"] and graph.prompt["1"]["class_type"] == "LoadImage", "the graph stays"
    assert make_graph({"prompt": prompt}, INFO) == graph


def test_every_seed_is_set_also_one_that_came_over_a_wire(prompt):
    prompt |= {"6": node("RandomNoise", noise_seed=["7", 0]), "7": node("RandomNoise", noise_seed=3),
               "8": node("Wildcard", seed=5, noise=["6", 0], image=["2", 0])}
    prompt["3"]["inputs"]["anonymized"] = ["8", 0]
    seed = 2**63 + 12345
    ready = make_graph(prompt, INFO).for_pictures(["1.png"], seed)
    assert ready["6"]["inputs"]["noise_seed"] == seed and ready["7"]["inputs"]["noise_seed"] == seed
    assert ready["8"]["inputs"]["seed"] == seed % 2**32 and ready["8"]["inputs"]["noise"] == ["6", 0]


def test_the_digest_knows_what_changes_pixels(prompt):
    first = make_graph(prompt, INFO).digest
    renamed = copy.deepcopy(prompt)
    renamed["2"]["_meta"]["title"] = "Cover"
    assert make_graph(renamed, INFO).digest == first
    assert make_graph(prompt, INFO, settings={"Redact.redaction": "blur"}).digest != first


@pytest.mark.parametrize(("setting", "value"), [("Redact.redaction", "blur"), ("2.size", "1.5"),
                                                ("Anonymized.format", "JPEG"), ("4.quality", "80")])
def test_widgets_are_set_by_title_or_id(prompt, setting, value):
    graph = make_graph(prompt, INFO, settings={setting: value})
    found = [str(node["inputs"][setting.partition(".")[2]]) for node in graph.prompt.values()
             if setting.partition(".")[2] in node["inputs"]]
    assert value in found


@pytest.mark.parametrize(("change", "said"), [
    (lambda p: p.pop("4"), "exactly one Save Anonymized"),
    (lambda p: p.update({"9": copy.deepcopy(p["4"])}), "it has 2: Anonymized"),
    (lambda p: p.update({"9": node("SaveImage", "Leak", images=["1", 0])}), r"write files: Leak \(node 9\)"),
    (lambda p: p.update({"9": node("Nothing")}), "does not know: Nothing"),
    (lambda p: p["2"]["inputs"].update(image=["9", 0]) or p.update({"9": node("LoadImage", "Other", image="b.png")}),
     "Name the one that gets the pictures with --input"),
    (lambda p: p["3"]["inputs"].update(anonymized=["9", 0]) or p.update(
        {"9": node("Mask", image=["2", 0], mask=["1", 1])}), "takes the mask of Photo"),
])
def test_a_workflow_that_will_not_do_is_refused(prompt, change, said):
    change(prompt)
    with pytest.raises(CamouflageError, match=said):
        make_graph(prompt, INFO)


@pytest.mark.parametrize(("setting", "said"), [("Nobody.size=1", "names 0 nodes"),
                                               ("Redact.nothing=1", "no widget 'nothing'"),
                                               ("Redact.redaction=x", "It takes solid, blur"),
                                               ("Redact.size=wide", "takes this value")])
def test_a_setting_that_will_not_do_is_refused(prompt, setting, said):
    name, _, value = setting.partition("=")
    with pytest.raises(CamouflageError, match=said):
        make_graph(prompt, INFO, settings={name: value})


def test_one_of_several_load_image_nodes_is_chosen(prompt):
    prompt["9"] = node("LoadImage", "Style", image="b.png")
    prompt["8"] = node("Wildcard", seed=0, noise=["2", 0], image=["9", 0])
    prompt["3"]["inputs"]["anonymized"] = ["8", 0]
    for name in ("Photo", "1"):
        graph = make_graph(prompt, INFO, name)
        assert graph.load == "1" and graph.prompt["9"]["inputs"] == {"image": "b.png"}
    with pytest.raises(CamouflageError, match=r"'Nobody' names 0\. There are: Photo \(node 1\), Style \(node 9\)"):
        make_graph(prompt, INFO, "Nobody")


@pytest.mark.parametrize("text", ["", "[]", "{}", "no json", '{"a": 1}', '{"a": {"class_type": 1, "inputs": {}}}'])
def test_what_is_no_workflow_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CamouflageError, match="is no workflow"):
        make_graph(read_workflow(tmp_path / "x.json"), INFO)
