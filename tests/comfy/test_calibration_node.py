"""Load Calibration on the host: what it offers, what it gives, what it refuses."""

from __future__ import annotations

import json

import folder_paths
import numpy as np
import pytest

from in_host import only_folder
from pairs import pairs_of


@pytest.fixture
def folder(tmp_path, host, monkeypatch):
    """models/camouflage/calibration, empty; the only one the host sees."""
    root = tmp_path / "camouflage"
    (root / "calibration").mkdir(parents=True)
    (root / "caption").mkdir()
    (root / "caption" / "config.json").write_text("{}")
    only_folder(root, monkeypatch)
    monkeypatch.setattr(host.module("camouflage.comfy.weights"), "register_folder", lambda: None)
    monkeypatch.setattr(host.module("camouflage.comfy.calibrations"), "register_folder", lambda: None)
    folder_paths.filename_list_cache.pop("camouflage", None)
    yield root / "calibration"
    folder_paths.filename_list_cache.pop("camouflage", None)


@pytest.fixture
def text(host):
    """Of a calibration with 3000 pairs of different persons at distances 0.7 to 1.3."""
    return written(host, np.linspace(0.7, 1.3, 3000))


def written(host, impostor):
    """JSON of a calibration of dlib's ResNet."""
    info = host.module("camouflage.verification.model_info").ModelInfo("dlib ResNet", "1", "CC0-1.0")
    return host.module("camouflage.verification.calibration").measure(
        pairs_of(np.full(10, 0.3), impostor), recogniser=info, metric="Euclidean", persons=12, photos=100).to_json()


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
    assert options(node) == {"file": ["a.json", "team/b.json"],
                             "false_accept_rate": ["auto", "0.1", "0.01", "0.001", "0.0001"]}
    threshold = load(node)
    assert threshold.distance == pytest.approx(0.706, abs=1e-3) and threshold.false_accept_rate == 0.01
    assert (threshold.recogniser, threshold.source) == ("dlib ResNet", "calibrated: 12 persons, 3000 pairs")
    assert load(node, "team/b.json", "0.1").distance == pytest.approx(0.76, abs=1e-3)


@pytest.fixture
def shown(host, monkeypatch):
    """The texts on the node, in order."""
    texts = []
    monkeypatch.setattr(host.module("nodes.calibration"), "show", texts.append)
    monkeypatch.setattr(host.module("nodes.calibration"), "warn", lambda text: texts.append(f"warning: {text}"))
    return texts


@pytest.mark.parametrize(("pairs", "nearest", "text"), [
    (3000, 0.7, "Threshold 0.706 (false-accept rate 0.01; calibrated: 12 persons, 3000 pairs)"),
    (299, 0.7, "Threshold 0.758 (false-accept rate 0.1; calibrated: 12 persons, 299 pairs, too few for the rate 0.01)"),
    (3000, 0.4, "Threshold 0.600 (false-accept rate unknown: not measured at this distance; dlib's advice, for the "
                "calibrated distance at the rate 0.01 is below it: 0.406, 12 persons, 3000 pairs)")])
def test_auto_is_the_default_and_says_what_it_took(host, node, folder, shown, pairs, nearest, text):
    (folder / "a.json").write_text(written(host, np.linspace(nearest, nearest + 0.6, pairs)))
    socket = next(socket for socket in node.define_schema().inputs if socket.id == "false_accept_rate")
    assert socket.default == "auto" and "'auto' takes 0.01, or 0.1 where" in socket.tooltip
    assert f"Threshold {load(node, rate=socket.default)}" == text and shown == [text]


def test_a_rate_that_is_laxer_than_advised_is_warned_of(host, node, folder, shown):
    (folder / "a.json").write_text(written(host, np.linspace(0.4, 1.0, 3000)))
    threshold = load(node, rate="0.001")
    assert threshold.laxer and threshold.false_accept_rate == 0.001, "as in older workflows"
    assert shown == ["warning: Threshold 0.401 (false-accept rate 0.001; calibrated: 12 persons, 3000 pairs); LAXER "
                     "THAN ADVISED (0.600). 'Verify' and 'Safe Sampler' refuse it unless 'laxer_threshold' is on. "
                     "Choose 'auto' or a higher rate."]


def test_what_it_gives_decides_a_verification(host, node, folder, text):
    (folder / "a.json").write_text(text)
    make_verifier = host.module("camouflage.comfy.verification").make_verifier
    verifier = make_verifier("CenterFace", "dlib ResNet", 0.0, 32, load(node))
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
