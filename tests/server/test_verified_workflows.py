"""Every shipped workflow ends in verify and save: what leaves it, and what never does."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from camouflage.batch.server import NodeFailed
from sampled import everything
from saved import traces
from served import change
from shipped import files, holds, pixels, queueable, stock_sampling, texts, upload, wires, workflow

NAMES = ("redact", "light", "base", *(("light_public", "base_few_steps", "base_light") if everything else ()))
SOURCE = "portrait-of-a-person.png"  # must not be found in any file
SIZE = {"redact": 512, "light": 256, "base": 128, "light_public": 256, "base_few_steps": 128, "base_light": 128}
SAMPLED = ("light", "base", "light_public", "base_few_steps", "base_light")
VERIFIER = {"redact": "CamouflageVerify", **dict.fromkeys(SAMPLED, "CamouflageSafeSampler")}


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
    look = stock_sampling(api) if name in SAMPLED else redacted_only(api)  # for the test alone
    (image,) = server.run(look)["outputs"]["look"]["images"]
    unverified = pixels(server.view(image))
    before = files(server, "output", "temp")
    entry = server.run(api)
    return Ran(name, api, entry, files(server, "output", "temp") - before, unverified)


def redacted_only(api: dict) -> dict:
    """What comes to the verification of the redaction; "look" shows it."""
    (source,) = [key for key, node in api.items() if node["class_type"] == "CamouflageRedact"]
    (load,) = wires(api[source]["inputs"])
    return {load: api[load], source: api[source], "look": {"class_type": "PreviewImage", "_meta": {"title": "look"},
                                                           "inputs": {"images": [source, 0]}}}


@pytest.mark.parametrize("name", NAMES)
def test_only_what_verifies_has_what_was_not_verified(name):
    graph = workflow(name)
    kinds = {node["id"]: node["type"] for node in graph["nodes"]}
    links = {(kinds[a], out, kinds[b]) for _, a, out, b, _, _ in graph["links"]}
    assert {to for kind, out, to in links if kind == "CamouflageRedact"} <= {"CamouflageVerify"}
    assert not [kind for kind in kinds.values() if "Sampler" in kind and kind not in ("CamouflageSafeSampler",
                                                                                     "KSamplerSelect")]
    assert not {"VAEDecode", "VAEDecodeTiled", "SaveImage", "PreviewLatent"} & set(kinds.values())
    assert {(kind, out) for kind, out, to in links if to == "CamouflageSaveImage"} == {
        (VERIFIER[name], 0), (VERIFIER[name], 1)}
    assert {out for kind, out, _ in links if kind == VERIFIER[name]} == {0, 1, 2}, "the latent goes nowhere"
    (verify,) = [node for node in graph["nodes"] if node["type"] == VERIFIER[name]]
    sources = {wire[0]: kinds[wire[1]] for wire in graph["links"]}
    wired = {socket["name"]: sources.get(socket["link"]) for socket in verify["inputs"]}
    assert wired["original"] == ("LoadImage" if name == "redact" else "CamouflagePrepareImage")
    assert (wired["noise"] == "RandomNoise") == (name != "redact") == bool(wired["guider"])


def test_the_shipped_settings_are_the_strictest_that_still_save(server):
    for name in NAMES:
        api = queueable(server, name, "example.png")
        (settings,) = [node["inputs"] for node in api.values() if node["class_type"] == VERIFIER[name]]
        wanted = {"policy": "redact", "redaction": "solid", "no_face": "block", "threshold": 0, "smallest_face": 32,
                  "laxer_threshold": False, "one_original": False}
        if name in SAMPLED:
            wanted |= {"tries": 1, "scale_step": 0.25, "largest_scale": 2.5}
        assert {key: settings[key] for key in wanted} == wanted
        (sheet,) = [node["inputs"] for node in api.values() if node["class_type"] == "CamouflageReport"]
        assert (sheet["show_original"], sheet["show_failing"]) == (False, False)


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
    secrets = [SOURCE, SOURCE.removesuffix(".png"), VERIFIER[ran.name], "deformed"]
    assert traces(ran.one(".png").read_bytes(), *secrets) == []
    manifest = ran.one(".json").read_text(encoding="utf-8")
    assert not any(secret in manifest for secret in secrets)

    api = copy.deepcopy(ran.api)
    (verify,) = [key for key, node in api.items() if node["class_type"] == VERIFIER[ran.name]]
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
    # A detector may see a face in the noise that miniature weights paint, on another CPU another one: a new face.
    person, *seen = told["checked"]["persons"]
    assert person["kind"] == "original" and all(one["kind"] == "new" for one in seen)
    assert person["number"] == 0
    assert {(one["verdict"], one["redaction"]) for one in (person, *seen)} == {("redacted", "solid")}
    assert person["distance"] is None and ": redacted, nothing to compare; " in verdict, "our own fill proves itself"
    assert told["threshold"]["distance"] == 0.6 and told["threshold"]["false_accept_rate"] is None
    assert told["recogniser"]["name"] == "dlib ResNet"
    assert [info["name"] for info in told["detectors"]] == ["CenterFace", "dlib HOG"]
    picture = pixels(ran.one(".png"))
    digest = hashlib.sha256(f"{picture.shape[1]}x{picture.shape[0]} RGB8\n".encode() + picture.tobytes()).hexdigest()
    assert told["file"]["pixels_sha256"] == told["checked"]["pixels_sha256"] == digest
    assert told["file"]["file_sha256"] == hashlib.sha256(ran.one(".png").read_bytes()).hexdigest()
    assert told["file"]["name"] == ran.one(".png").name
    assert told["sampling"] == {"seed": 1 if ran.name in SAMPLED else None,
                                "anonymization_scale": 1.25 if ran.name.startswith("base") else None}
    assert bool(told["models"]) == (ran.name != "redact")
    tries = [(one["seed"], one["verdicts"], one["kept"]) for one in told["checked"]["tries"]]
    assert tries == ([(1, ["unverifiable"] * (1 + len(seen)), True)] if ran.name in SAMPLED else [])


@pytest.mark.parametrize(("policy", "said"), [
    ("block", r"{}.*failed: [A-Z][A-Za-z ]+: Not anonymized: person 0 \(\d+ x \d+ px at \d+, \d+\): {}; "),
    ("report", r"Anonymized.*failed: Save Anonymized: Nothing was saved\..* person 0 \(\d+ x \d+ px at \d+, \d+\): "
               r"{1}; "),
])
def test_other_policies_let_nothing_out(server, ran, policy, said):
    api, unverified, verdict = unsettled(ran, policy)
    if policy == "block" and ran.name in SAMPLED:
        change(api, "RandomNoise", noise_seed=2)  # everything behind it runs anew, the previews of the photo do not
    saved, shown = files(server, "output"), files(server, "temp")
    with pytest.raises(NodeFailed, match=said.format(VERIFIER[ran.name], verdict)):
        server.run(api)
    assert files(server, "output") == saved
    if policy == "block":
        assert files(server, "temp") == shown
        titles = {api[key]["_meta"]["title"] for key in last_outputs(server)}
        assert not titles & {"Verdict", "Verification report", "Anonymized"}
    else:
        assert holds(files(server, "temp") - shown, unverified) == []


def unsettled(ran: Ran, policy: str) -> tuple[dict, np.ndarray, str]:
    """A workflow whose person is not settled when the policy is asked, the picture, and what is said of the person."""
    api = copy.deepcopy(ran.api)
    verify = change(api, VERIFIER[ran.name], policy=policy)
    if ran.name in SAMPLED:
        return api, ran.unverified, r"(unverifiable, nothing to compare|recognisable, distance 0\.\d+)"
    inputs = api[verify]["inputs"]  # the redaction settles everybody before: verify the photo itself
    del inputs["redacted"]
    inputs["anonymized"] = inputs["original"]
    return api, skimage.data.astronaut(), r"recognisable, distance 0\.000"


def test_what_is_only_reported_is_on_no_disk_unless_somebody_asks_for_it(server, ran):
    api, unverified, _ = unsettled(ran, "report")
    del api[change(api, "CamouflageSaveImage")]  # it would refuse, and end the run
    before = files(server, "output", "temp")
    assert server.run(api)["status"]["status_str"] == "success"
    (sheet,) = files(server, "output", "temp") - before
    assert likeness(pixels(sheet), unverified) < 0.5, "a plate stands in its place"
    change(api, "CamouflageReport", show_failing=True)
    server.run(api)
    (asked,) = files(server, "output", "temp") - before - {sheet}
    assert likeness(pixels(asked), unverified) > 0.8, "the test can see it, with a box around each face in it"


def likeness(sheet: np.ndarray, picture: np.ndarray) -> float:
    """How much the likest place of a report looks like a picture, at the size in which reports show pictures."""
    drawn = cv2.resize(picture, (680 * picture.shape[1] // picture.shape[0], 680), interpolation=cv2.INTER_CUBIC)
    upper = drawn[:500]  # below there is a mark
    return float(cv2.matchTemplate(cv2.cvtColor(sheet, cv2.COLOR_RGB2GRAY), cv2.cvtColor(upper, cv2.COLOR_RGB2GRAY),
                                   cv2.TM_CCOEFF_NORMED).max())


def last_outputs(server) -> dict:
    """The outputs of the last run."""
    history = server.get("/history")
    return history[max(history, key=lambda key: history[key]["prompt"][0])]["outputs"]
