"""Every shipped workflow ends in verify and save: what leaves it, and what never does."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from saved import traces
from served import change
from shipped import files, holds, pixels, queueable, texts, upload, workflow
from tools.comfy import NodeFailed

NAMES = ("redact", "light", "base")
SOURCE = "portrait-of-a-person.png"  # must not be found in any file
SIZE = {"redact": 512, "light": 256, "base": 128}
BEFORE_POLICY = {"redact": "CamouflageRedact", "light": "VAEDecode", "base": "VAEDecode"}


@dataclass
class Ran:
    """A workflow that was run once, and the picture that came to its verification."""

    name: str
    api: dict
    entry: dict
    made: set[Path]
    unverified: np.ndarray

    def one(self, ending: str) -> Path:
        """The one file of this kind in the output folder."""
        (path,) = [path for path in self.made if "output" in path.parts and path.suffix == ending]
        return path


@pytest.fixture(scope="module", params=NAMES)
def ran(request, server, tmp_path_factory) -> Ran:
    name = request.param
    photo = upload(server, tmp_path_factory.mktemp("photo"), SOURCE, skimage.data.astronaut())
    api = queueable(server, name, photo, SIZE[name])
    before = files(server, "output", "temp")
    entry = server.run(api)
    made = files(server, "output", "temp") - before
    look = copy.deepcopy(api)  # afterwards, for the test alone; the host has the picture in its cache
    (source,) = [key for key, node in api.items() if node["class_type"] == BEFORE_POLICY[name]]
    look["look"] = {"class_type": "PreviewImage", "inputs": {"images": [source, 0]}, "_meta": {"title": "look"}}
    (image,) = server.run(look)["outputs"]["look"]["images"]
    return Ran(name, api, entry, made, pixels(server.view(image)))


@pytest.mark.parametrize("name", NAMES)
def test_only_verify_takes_what_was_not_verified(name):
    graph = workflow(name)
    kinds = {node["id"]: node["type"] for node in graph["nodes"]}
    wires = {(kinds[a], out, kinds[b]) for _, a, out, b, _, _ in graph["links"]}
    assert {to for kind, out, to in wires if kind == BEFORE_POLICY[name]} == {"CamouflageVerify"}
    assert {to for kind, _, to in wires if kind == "SamplerCustomAdvanced"} <= {"VAEDecode"}
    assert {(kind, out) for kind, out, to in wires if to == "CamouflageSaveImage"} == {
        ("CamouflageVerify", 0), ("CamouflageVerify", 1)}
    assert "SaveImage" not in kinds.values()
    (verify,) = [node for node in graph["nodes"] if node["type"] == "CamouflageVerify"]
    sources = {wire[0]: kinds[wire[1]] for wire in graph["links"]}
    wired = {socket["name"]: sources.get(socket["link"]) for socket in verify["inputs"]}
    assert wired["original"] == ("LoadImage" if name == "redact" else "CamouflagePrepareImage")
    assert (wired["noise"] == "RandomNoise") == (name != "redact") == bool(wired["guider"])
    assert verify["widgets_values"][:3] == ["redact", "solid", "block"], "the strictest settings that still save"


def test_the_output_folder_gets_the_picture_and_its_manifest_alone(ran):
    saved = {path for path in ran.made if "output" in path.parts}
    assert {path.suffix for path in saved} == {".png", ".json"} and len(saved) == 2
    assert {path.stem for path in saved} == {ran.one(".png").stem}
    assert ran.one(".png").name.startswith("camouflage_")
    (record,) = [output["images"] for key, output in ran.entry["outputs"].items()
                 if ran.api[key]["class_type"] == "CamouflageSaveImage"]
    assert record == [{"filename": ran.one(".png").name, "subfolder": "", "type": "output"}]


def test_the_unverified_picture_is_in_no_file(ran):
    if ran.name == "redact":  # the verification changes nothing there; what must not appear is the photo
        assert holds(ran.made, skimage.data.astronaut()) == []
        assert holds(ran.made, ran.unverified) == [ran.one(".png")]
        return
    assert ran.unverified.shape == pixels(ran.one(".png")).shape
    assert holds(ran.made, ran.unverified) == []
    differs = (np.abs(pixels(ran.one(".png")).astype(int) - ran.unverified) > 1).any(axis=2)
    assert 0 < differs.mean() < 0.3, "the head, and nothing else"


def test_the_saved_file_is_pixels_alone_and_the_stock_node_fails_the_same_test(server, ran):
    secrets = [SOURCE, SOURCE.removesuffix(".png"), "CamouflageVerify", "deformed"]
    assert traces(ran.one(".png").read_bytes(), *secrets) == []
    manifest = ran.one(".json").read_text(encoding="utf-8")
    assert not any(secret in manifest for secret in secrets)

    api = copy.deepcopy(ran.api)
    (verify,) = [key for key, node in api.items() if node["class_type"] == "CamouflageVerify"]
    api["stock"] = {"class_type": "SaveImage", "inputs": {"images": [verify, 0], "filename_prefix": "stock"},
                    "_meta": {"title": "stock"}}
    (image,) = server.run(api)["outputs"]["stock"]["images"]
    found = traces(server.view(image), *secrets)
    assert "chunk tEXt" in found and f"secret {SOURCE!r}" in found


def test_the_verdict_is_shown_and_the_manifest_says_the_same(ran):
    verdict = texts(ran.api, ran.entry)["Verdict"]
    assert "verdict: redacted" in verdict and "person 0 " in verdict and "person 1 " not in verdict
    told = json.loads(ran.one(".json").read_text(encoding="utf-8"))
    assert told["format"] == "camouflage-manifest"
    (person,) = told["checked"]["persons"]
    assert (person["number"], person["verdict"], person["redaction"]) == (0, "redacted", "solid")
    assert person["distance"] > told["threshold"]["distance"] == 0.6 and told["threshold"]["false_accept_rate"] is None
    assert f"{person['distance']:.3f}" in verdict
    assert told["recogniser"]["name"] == "dlib ResNet"
    assert [tool["name"] for tool in told["detectors"]] == ["CenterFace", "dlib HOG"]
    picture = pixels(ran.one(".png"))
    digest = hashlib.sha256(f"{picture.shape[1]}x{picture.shape[0]} RGB8\n".encode() + picture.tobytes()).hexdigest()
    assert told["file"]["pixels_sha256"] == told["checked"]["pixels_sha256"] == digest
    assert told["file"]["file_sha256"] == hashlib.sha256(ran.one(".png").read_bytes()).hexdigest()
    assert told["file"]["name"] == ran.one(".png").name
    assert told["sampling"] == {"redact": {"seed": None, "anonymization_scale": None},
                                "light": {"seed": 1, "anonymization_scale": None},
                                "base": {"seed": 1, "anonymization_scale": 1.25}}[ran.name]
    assert bool(told["models"]) == (ran.name != "redact")


@pytest.mark.parametrize(("policy", "said"), [
    ("block", r"Verify.*failed: Not anonymized: person 0 \(\d+ x \d+ px at \d+, \d+\): {}, distance"),
    ("report", r"Anonymized.*failed: Nothing was saved\..* person 0 \(\d+ x \d+ px at \d+, \d+\): {}, distance"),
])
def test_other_policies_let_nothing_out(server, ran, policy, said):
    api, unverified, verdict = copy.deepcopy(ran.api), ran.unverified, "unverifiable"
    verify = change(api, "CamouflageVerify", policy=policy)
    if ran.name == "redact":  # which settles everybody before the policy is asked: verify the photo itself
        inputs = api[verify]["inputs"]
        del inputs["redacted"]
        inputs["anonymized"], unverified, verdict = inputs["original"], skimage.data.astronaut(), "recognisable"
    elif policy == "block":
        change(api, "RandomNoise", noise_seed=2)  # everything behind it runs anew, the previews of the photo do not
    saved, shown = files(server, "output"), files(server, "temp")
    with pytest.raises(NodeFailed, match=said.format(verdict)):
        server.run(api)
    assert files(server, "output") == saved
    if policy == "block":
        assert files(server, "temp") == shown
        titles = {api[key]["_meta"]["title"] for key in last_outputs(server)}
        assert not titles & {"Verdict", "Verification report", "Anonymized"}
    else:
        assert holds(files(server, "temp") - shown, unverified) == []


def last_outputs(server) -> dict:
    """The outputs of the last run."""
    history = server.get("/history")
    return history[max(history, key=lambda key: history[key]["prompt"][0])]["outputs"]
