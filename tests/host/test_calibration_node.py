"""Load Calibration on the host: what it offers, what it gives, what it refuses."""

from __future__ import annotations

import json

import folder_paths
import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path, host, monkeypatch):
    """models/camouflage/calibration, empty; the only one the host sees."""
    root = tmp_path / "camouflage"
    (root / "calibration").mkdir(parents=True)
    (root / "caption").mkdir()
    (root / "caption" / "config.json").write_text("{}")
    _, extensions = folder_paths.folder_names_and_paths["camouflage"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "camouflage", ([str(root)], extensions))
    monkeypatch.setattr(host.module("host.weights"), "register_folder", lambda: None)
    monkeypatch.setattr(host.module("host.calibrations"), "register_folder", lambda: None)
    folder_paths.filename_list_cache.pop("camouflage", None)
    yield root / "calibration"
    folder_paths.filename_list_cache.pop("camouflage", None)


@pytest.fixture
def text(host):
    """Of a calibration with 3000 pairs of different persons at distances 0.4 to 1."""
    tool = host.module("camouflage.verification.tools").Tool("dlib ResNet", "1", "CC0-1.0")
    return host.module("camouflage.verification.calibration").measure(
        np.full(10, 0.3), np.linspace(0.4, 1, 3000), recogniser=tool, metric="Euclidean", persons=12,
        photos=100).to_json()


@pytest.fixture
def node(host):
    return host.module("nodes.calibration").CamouflageCalibration


def load(node, file="a.json", rate="0.01"):
    return node.EXECUTE_NORMALIZED(file=file, false_accept_rate=rate).result[0]


def options(node):
    return {socket.id: socket.options for socket in node.define_schema().inputs}


def test_it_gives_the_threshold_at_the_rate(node, folder, text):
    (folder / "a.json").write_text(text)
    (folder / "team").mkdir()
    (folder / "team" / "b.json").write_text(text)
    assert options(node) == {"file": ["a.json", "team/b.json"], "false_accept_rate": ["0.1", "0.01", "0.001", "0.0001"]}
    threshold = load(node)
    assert threshold.distance == pytest.approx(0.406, abs=1e-3) and threshold.false_accept_rate == 0.01
    assert (threshold.recogniser, threshold.source) == ("dlib ResNet", "calibrated: 12 persons, 3000 pairs")
    assert load(node, "team/b.json", "0.1").distance == pytest.approx(0.46, abs=1e-3)


def test_what_it_gives_decides_a_verification(host, node, folder, text):
    (folder / "a.json").write_text(text)
    verifier = host.module("host.verification").make_verifier("CenterFace", "dlib ResNet", 0.0, 32, load(node))
    assert verifier.threshold == load(node)


def test_without_a_file_it_says_how_to_get_one(node, folder):
    assert options(node)["file"] == ["no calibration yet"]
    with pytest.raises(Exception, match=r"There is none yet\. Make one with `python run\.py calibrate FOLDER`"):
        load(node, "no calibration yet")


@pytest.mark.parametrize("file", ["b.json", "../caption/config.json", "/etc/hostname", ""])
def test_only_files_of_its_folder_are_read(node, folder, text, file):
    (folder / "a.json").write_text(text)
    with pytest.raises(Exception, match=r"which is not in models/camouflage/calibration\. Found: a\.json"):
        load(node, file)
    assert node.fingerprint_inputs(file=file, false_accept_rate="0.1") == ""


def test_rates_that_are_unsupported_or_unknown_are_refused(node, folder, text):
    (folder / "a.json").write_text(text)
    with pytest.raises(Exception, match="takes 30000 pairs of different persons, and it has 3000"):
        load(node, rate="0.0001")
    with pytest.raises(Exception, match="'false_accept_rate' is '0.5', but must be one of"):
        load(node, rate="0.5")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b" " * (2**22 + 1)])
def test_files_that_are_no_calibration_are_refused(node, folder, content):
    (folder / "a.json").write_bytes(content)
    with pytest.raises(Exception, match=r"'file': a\.json cannot be used as a calibration"):
        load(node)


def test_a_changed_file_is_read_again(node, folder, text):
    (folder / "a.json").write_text(text)
    before = node.fingerprint_inputs(file="a.json", false_accept_rate="0.1")
    assert before == node.fingerprint_inputs(file="a.json", false_accept_rate="0.1") and len(before) == 64
    data = json.loads(text)
    data["persons"] = 13
    (folder / "a.json").write_text(json.dumps(data))
    assert node.fingerprint_inputs(file="a.json", false_accept_rate="0.1") != before
    assert load(node).source == "calibrated: 13 persons, 3000 pairs"
