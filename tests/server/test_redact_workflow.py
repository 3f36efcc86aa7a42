"""The shipped redaction workflow on a real ComfyUI: no weights, real photos."""

from __future__ import annotations

import re

import numpy as np
import pytest
import skimage.data

import photos
from camouflage.batch.server import NodeFailed
from served import change, pictures
from shipped import files, holds, queueable, texts, upload, workflow

FACE = (slice(75, 165), slice(89, 164))  # rows and columns in the astronaut's photo of 256 x 384 px
FAR = (slice(250, 384), slice(0, 256))  # nothing of her head


@pytest.fixture(scope="module")
def prompt(server, tmp_path_factory):
    """prompt(pixels) -> the workflow in the server's format with this photo."""
    folder = tmp_path_factory.mktemp("photos")

    def make(picture: np.ndarray) -> dict:
        return queueable(server, "redact", upload(server, folder, f"{abs(hash(picture.tobytes()))}.png", picture))

    return make


def test_it_needs_no_weights():
    kinds = {node["type"] for node in workflow("redact")["nodes"]}
    assert kinds == {"LoadImage", "CamouflageRedact", "CamouflageVerify", "CamouflageSaveImage", "CamouflageReport",
                     "PreviewImage", "PreviewAny", "MarkdownNote"}


@pytest.mark.parametrize("mode", ["solid", "mosaic", "blur"])
def test_the_face_is_gone_and_the_rest_stays(server, prompt, mode):
    photo = skimage.data.astronaut()[:384, 96:352]
    api = prompt(photo)
    change(api, "CamouflageRedact", redaction=mode)
    entry = server.run(api)
    shown = pictures(server, api, entry)
    assert set(shown) == {"Anonymized", "Verification report"}
    (saved,) = shown["Anonymized"]
    assert np.array_equal(saved[FAR], photo[FAR])
    change_of_face = np.abs(saved[FACE].astype(int) - photo[FACE]).mean()
    assert change_of_face > 10
    fine = [np.abs(np.diff(picture[FACE].astype(int), axis=1)).mean() for picture in (photo, saved)]
    assert fine[1] < fine[0] / 2, "nothing fine is left"
    assert (saved[FACE].std() == 0) == (mode == "solid")
    verdict = texts(api, entry)["Verdict"]
    assert "verdict: redacted" in verdict and f"the region was replaced ({mode})" in verdict
    assert shown["Verification report"].shape[2:] == (1200, 3)


def test_two_persons_have_a_verdict_each(server, prompt):
    astronaut, hopper = photos.load("astronaut"), photos.load("hopper")[:512, :512]
    api = prompt(np.concatenate([astronaut, hopper], axis=1))
    verdict = texts(api, server.run(api))["Verdict"]
    lines = [line for line in verdict.splitlines() if "person " in line]
    large = [line for line in lines if int(re.search(r"\((\d+) x", line)[1]) > 60]
    assert len(large) == 2, "a detector that leans to recall takes the badge on his cap, 18 px, for a third"
    assert all(f"person {number} " in line and ": redacted, " in line for number, line in enumerate(lines))


def test_where_no_face_is_found_nothing_is_saved_unless_that_is_chosen(server, prompt):
    photo = photos.load("coffee")
    api = prompt(photo)
    before = files(server, "output", "temp")
    with pytest.raises(NodeFailed, match="No face was found"):
        server.run(api)
    assert files(server, "output", "temp") == before
    change(api, "CamouflageRedact", no_face="pass")
    with pytest.raises(NodeFailed, match="No face was found"):  # and the verification asks again
        server.run(api)
    assert files(server, "output", "temp") == before
    change(api, "CamouflageVerify", no_face="pass")
    verdict = texts(api, server.run(api))["Verdict"]
    assert "no face found in the original (passed by choice)" in verdict
    (kept,) = holds(files(server, "output") - before, photo)
    assert kept.suffix == ".png"
