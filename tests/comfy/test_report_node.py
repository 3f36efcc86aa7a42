"""Verification Report on the host: sockets, real verdicts, the original only by choice."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from skimage import data

from in_host import difference, pictures


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    return torch.from_numpy(data.astronaut()).float()[None] / 255


@pytest.fixture(scope="module")
def verified(host, portrait):
    """A portrait twice: as it is, and solid grey; verified by the pack itself, nothing done about it."""
    batch = torch.cat([portrait, torch.full_like(portrait, 128 / 255)])
    image, report, _ = host.run("CamouflageVerify", original=portrait, anonymized=batch, policy="report",
                                one_original=True)
    return image, report


def sheets(host, report, **inputs):
    return host.run("CamouflageReport", report=report, **inputs)


def test_one_sheet_a_picture_and_the_words(host, verified):
    image, report = verified
    page, text = sheets(host, report, image=image)
    assert page.shape[0] == 2 and page.shape[2:] == (1200, 3) and page.dtype == torch.float32
    assert page.min() >= 0 and page.max() <= 1
    assert text == str(report) and "picture 0: person 0" in text and "picture 1: person 0" in text
    drawn = host.module("camouflage.output.sheet").report_sheets(report, [
        (one * 255).round().to(torch.uint8).numpy() for one in image])
    assert torch.equal((page * 255).round().to(torch.uint8), torch.stack([torch.from_numpy(one) for one in drawn]))


def test_no_original_pixel_unless_chosen(host, verified):
    image, report = verified
    magenta = torch.tensor([1.0, 0.0, 1.0]).expand(1, 512, 512, 3)
    without, _ = sheets(host, report, image=image)
    ignored, _ = sheets(host, report, image=image, original=magenta)
    chosen, _ = sheets(host, report, image=image, original=magenta, show_original=True)
    assert torch.equal(without, ignored)
    purple = (chosen - torch.tensor([1.0, 0.0, 1.0])).abs().amax(-1) < 0.01
    assert purple.sum(dim=(1, 2)).min() > 100_000, "one original for all"
    red = torch.tensor([214, 0, 0]) / 255
    assert ((chosen[:, :60, :200] - red).abs() < 0.01).all()
    only, _ = sheets(host, report)
    assert not ((only - red).abs().amax(-1) < 0.01).any() and only.shape[1] < without.shape[1]


def test_a_picture_that_does_not_pass_is_left_out_unless_chosen(host, verified, portrait):
    image, report = verified
    assert [one.passes for one in report.pictures] == [False, False]
    drawing = host.module("camouflage.output.sheet")
    plate = torch.tensor(drawing.PLATE) / 255
    page, _ = sheets(host, report, image=image)
    assert ((page - plate).abs().amax(-1) < 0.001).sum(dim=(1, 2)).min() > 0.7 * 680 * 680
    shown, _ = sheets(host, report, image=image, show_failing=True)
    assert not ((shown[0] - plate).abs().amax(-1) < 0.001).sum() > 1000
    drawn = drawing.report_sheets(report, [(one * 255).round().to(torch.uint8).numpy() for one in image],
                                  show_failing=True)
    assert torch.equal((shown * 255).round().to(torch.uint8), torch.stack([torch.from_numpy(one) for one in drawn]))


def test_the_choice_is_the_last_widget_and_old_prompts_run_without_it(host):
    inputs = host.nodes["CamouflageReport"].GET_SCHEMA().inputs
    assert [one.id for one in inputs] == ["report", "image", "original", "show_original", "show_failing"]
    assert inputs[-1].optional and inputs[-1].default is False


def test_an_original_that_is_not_used_is_not_even_looked_at(host, verified):
    _, report = verified
    broken = torch.full((5, 8, 8, 3), float("nan"))
    assert difference(sheets(host, report, original=broken)[0], sheets(host, report)[0]) == 0.0
    with pytest.raises(ValueError, match="'original' has NaN"):
        sheets(host, report, original=broken, show_original=True)


def test_what_cannot_be_shown_is_said(host, verified, portrait):
    image, report = verified
    with pytest.raises(ValueError, match="'show_original' is on, but 'original' is not connected"):
        sheets(host, report, image=image, show_original=True)
    level = image.clone()
    level[1, 300, 300, 1] += 1 / 255
    for wrong, error in ((level, "not of picture 1"), (image.flip(0), "not of picture 0"),
                         (image[:1], "'image' has 1 pictures, but the report is of 2"),
                         (pictures(1, 2, 512, 512), "not of picture 0")):
        with pytest.raises(ValueError, match=error):
            sheets(host, report, image=wrong)
    with pytest.raises(ValueError, match="'original' has 3 pictures, but the report is of 2"):
        sheets(host, report, original=portrait.expand(3, -1, -1, -1), show_original=True)
    edited = dataclasses.replace(report, threshold=dataclasses.replace(report.threshold, distance=0.1))
    with pytest.raises(ValueError, match="changed after the verification"):
        sheets(host, edited, image=image)
