"""What the frontend is told of a verification: facts without pictures, and each try as it happens."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch

import photos


@pytest.fixture(scope="module")
def messages(host):
    return host.module("camouflage.comfy.messages")


@pytest.fixture(scope="module")
def portrait():
    photo = torch.from_numpy(photos.load("astronaut")[:256, 96:352].copy()).float()[None] / 255
    small = torch.nn.functional.interpolate(photo.movedim(-1, 1), (256, 256), mode="area").movedim(1, -1)
    return (small[:, :, 48:208] * 255).round() / 255


@pytest.fixture
def verified(host, portrait):
    """Two photos and one without anybody, which is left out; the same photos are the results."""
    batch = torch.cat([portrait, torch.full_like(portrait, 0.5), portrait * 0.9])
    return host.nodes["CamouflageVerify"].EXECUTE_NORMALIZED(
        original=batch, anonymized=batch, policy="report", redaction="solid", no_face="skip", threshold=0.0,
        detectors="CenterFace", recogniser="dlib ResNet", smallest_face=32)


class Server:
    """Notes what it is told to send."""

    client_id = "a page"

    def __init__(self):
        self.sent = []

    def send_sync(self, event, data, client):
        self.sent.append((event, data, client))


@pytest.fixture
def server(messages, monkeypatch):
    """A server that executes node 3 of the subgraph in node 5."""
    made = Server()
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=made)))
    monkeypatch.setattr(messages, "executing_node", lambda: "5:3")
    return made


def test_the_facts_of_a_report_are_plain_and_say_what_the_manifest_says(verified):
    (_, report, text), (facts,) = verified.result, verified.ui["camouflage_report"]
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert (facts["verdict"], facts["left_out"], facts["text"]) == ("recognisable", [1], text)
    for index, told in enumerate(facts["pictures"]):
        assert (told.pop("passes"), told.pop("nobody")) == (False, False)
        assert [person.pop("compared") for person in told["checked"]["persons"]] == [True]
        assert told == report.to_json(index)
    assert facts["pictures"][0]["checked"]["persons"][0]["distance"] == 0.0
    report.check_seal()


def test_saving_tells_the_same_facts_beside_its_files(host, messages, portrait, monkeypatch, tmp_path):
    import folder_paths
    from comfy_api.latest import io

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    image, report, _ = host.run("CamouflageVerify", original=portrait, anonymized=portrait, detectors="CenterFace")
    node = host.nodes["CamouflageSaveImage"].PREPARE_CLASS_CLONE({io.Hidden.prompt: None, io.Hidden.unique_id: "9"})
    saved = node.EXECUTE_NORMALIZED(image=image, report=report, filename_prefix="x", format="PNG", quality=95,
                                    manifest=False)
    assert saved.ui == {"images": [{"filename": "x_00001.png", "subfolder": "", "type": "output"}],
                        **messages.report_facts(report)}
    assert saved.ui["camouflage_report"][0]["pictures"][0]["passes"] is True


def test_every_try_is_told_when_it_was_judged(host, portrait, server):
    sampler, verification = host.module("camouflage.comfy.safe_sampler"), host.module("camouflage.comfy.verification")

    def run(seed, scale, progress, wanted):
        return sampler.Sampled(torch.zeros(1, 4, 1, 1), portrait * (1 - len(server.sent) / 20), (0,))

    sampling = SimpleNamespace(run=run, noise=SimpleNamespace(seed=11), sigmas=torch.zeros(3),
                               guider=SimpleNamespace(anonymization_scale=1.25),
                               latent={"samples": torch.zeros(1, 4, 1, 1)})
    verifier = verification.make_verifier("CenterFace", "dlib ResNet", 0.0, 32, None)
    policy = host.module("camouflage.verification.policy").Policy("report", "block", "solid")
    _, _, report = sampler.sample_safely(sampling, verification.OriginalBatch(portrait), verifier, 3, 0.5, 2.0, policy)
    (picture,) = report.pictures
    assert server.sent == [("camouflage.try", {
        "node": "5:3", "number": number, "of": 3, "seed": 10 + number, "anonymization_scale": scale,
        "verdicts": {"recognisable": 1}}, "a page") for number, scale in enumerate((1.25, 1.75, 2.0), start=1)]
    assert [one.seed for one in picture.attempts] == [told["seed"] for _, told, _ in server.sent]


def test_nobody_is_told_where_nobody_waits(messages, server, monkeypatch):
    monkeypatch.setattr(server, "client_id", None)
    messages.tell_try(1, 3, 7, 1.25, [])
    monkeypatch.delitem(sys.modules, "server")
    messages.tell_try(1, 3, 7, 1.25, [])
    assert server.sent == []
