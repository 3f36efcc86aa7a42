"""The shipped few-step preset on a real ComfyUI over HTTP: Base with a LoRA, eight steps, and nothing else."""

from __future__ import annotations

import pytest
import skimage.data

from camouflage.weights import needed_by, of_role
from sampled import everything
from served import change, pictures
from shipped import queueable, texts, upload, workflow

(LORA,) = of_role("few-step lora")
STEPS = 8


@pytest.fixture(scope="module")
def photo(server, tmp_path_factory) -> str:
    """Name on the server of a public-domain portrait."""
    return upload(server, tmp_path_factory.mktemp("photo"), "portrait.png", skimage.data.astronaut())


def titled(graph: dict) -> dict[tuple[str, str], dict]:
    return {(node["type"], node["title"]): node for node in graph["nodes"]}


def wires(graph: dict) -> set[tuple[str, int, str, int]]:
    titles = {node["id"]: node["title"] for node in graph["nodes"]}
    return {(titles[a], out, titles[b], into) for _, a, out, b, into, _ in graph["links"]}


def test_it_is_base_with_the_lora_and_its_publishers_sampling():
    base, few = workflow("base"), workflow("base_few_steps")
    ours, theirs = titled(few), titled(base)
    assert ours.keys() - theirs.keys() == {("LoraLoaderModelOnly", "Few-step LoRA"), ("MarkdownNote", "Few-step LoRA")}
    assert not theirs.keys() - ours.keys()
    values = {name: (ours[name]["widgets_values"], theirs[name]["widgets_values"]) for name in theirs
              if name[0] != "MarkdownNote"}
    changed = {title: new for (_, title), (new, old) in values.items() if new != old}
    assert changed == {"Sampler": ["ddim"], "Steps": ["sgm_uniform", STEPS, 1.0]}
    cfg = ours["CamouflageGuider", "Guidance away from identity"]["widgets_values"][0]
    assert 5 <= cfg <= 8, "as the publisher says"
    rerouted = {("Few-step LoRA" if (a, out) == ("Checkpoint", 0) else a, out, b, into)
                for a, out, b, into in wires(base)}
    assert wires(few) == rerouted | {("Checkpoint", 0, "Few-step LoRA", 0)}


def test_its_loader_names_its_download():
    node = titled(workflow("base_few_steps"))["LoraLoaderModelOnly", "Few-step LoRA"]
    assert node["widgets_values"] == [LORA.file, 1.0]
    assert node["properties"]["models"] == [{"name": LORA.file, "url": LORA.url, "directory": LORA.folder}]
    assert set(needed_by("base_few_steps")) - set(needed_by("base")) == {LORA}
    assert not set(needed_by("base")) - set(needed_by("base_few_steps"))


def test_the_whole_workflow_in_as_many_calls_as_steps(server, photo):
    steps = STEPS if everything else 2
    api = queueable(server, "base_few_steps", photo)
    change(api, "BasicScheduler", steps=steps)
    sampler = change(api, "CamouflageSafeSampler")
    seen = set()
    started = len(server.log())

    entry = server.run(api, lambda progress: seen.add((progress.value, progress.maximum))
                       if progress.node_id == sampler else None)
    first = pictures(server, api, entry)["Anonymized"]
    assert {(step, steps) for step in range(1, steps + 1)} <= seen
    assert first.std() > 1 and "person 0 " in texts(api, entry)["Verdict"]
    assert "lora key not loaded" not in server.log()[started:]

    if everything:  # what the LoRA changes is compared in tests/comfy/test_few_steps.py
        change(api, "LoraLoaderModelOnly", strength_model=0.0)
        without = pictures(server, api, server.run(api))["Anonymized"]
        assert (without != first).any(axis=3).mean() > 0.3, "the head is covered in both"
