"""``run.py experiment``: baselines on real photos, and a painted way with miniature weights on the real host."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mixed_photos
from camouflage.commands import experiment
from camouflage.evaluation import study
from sampled import long
from seen_once import see


@pytest.fixture(autouse=True)
def seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "see", see)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "hopper", "biden"):
        mixed_photos.portrait(400, name).crop((80, 0, 320, 240)).resize((128, 128)).save(folder / f"{name}.png")
    return folder


def results(output: Path) -> dict:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def test_baselines_are_compared_and_no_picture_is_left(command, photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.yaml").write_text("title: Mine\nquestion: Why?\nbaselines: [original, solid]\n"
                                        "plots: {Who: [rank_1, protected]}\n")
    output, made = tmp_path / "out", []
    make = experiment.Painter._make

    def stopped(self, *arguments):
        made.append(arguments[3])
        if len(made) == 5:
            raise KeyboardInterrupt
        return make(self, *arguments)

    monkeypatch.setattr(experiment.Painter, "_make", stopped)
    again = ("experiment", tmp_path / "mine.yaml", "--photos", photos, "--output", output)
    assert command(*again) == 130
    work = output / experiment.WORK
    assert len(list(work.rglob("*.png"))) == 4 and work.stat().st_mode & 0o077 == 0
    assert command(*again) == 0
    assert len(made) == 7, "what was made stays"
    assert {path.name for path in output.iterdir()} == {"results.json", "report.html", "who.png"}, "too few for shares"
    original, solid = (one["results"] for one in results(output)["arms"])
    assert original["recognisers"][0]["identification"]["rank_1"]["value"] == 1
    assert solid["faces"]["undetected"] == 3 and solid["quality"]["ssim_outside_heads"]["value"] > 0.99
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Before any policy" in page and "Untrained" not in page
    assert "Mine: 2 ways, 3 photos." in capsys.readouterr().out
    assert command(*again, "--keep-unverified", "--limit", 1) == 2, "one person"


def test_an_experiment_that_is_not_there_is_refused(command, photos, tmp_path, capsys):
    assert command("experiment", "nowhere", "--photos", photos, "--output", tmp_path / "out") == 2
    assert "Name one of anonymization_scale, base_and_light, baselines" in capsys.readouterr().err


SMALL = [part for setting in (*(f"{name} Map.resolution=64" for name in ("Depth", "Normal", "Segmentation", "Pose",
                                                                      "Lineart")), "Prepare Image.size=128",
                              "Steps.steps=1") for part in ("--set", setting)]


@long
@pytest.mark.parametrize(("name", "settings"), [
    ("identity_guidance", SMALL), ("controlnet_weights", SMALL), ("anonymization_scale", SMALL),
    ("occluded_faces", SMALL[-4:]), ("base_and_light", SMALL[-4:]), ("other_datasets", SMALL[-4:])])
def test_the_shipped_ones_run_end_to_end_with_miniature_weights(command, photos, tmp_path, name, settings):
    output = tmp_path / "out"
    assert command("experiment", name, "--photos", photos, "--output", output, "--check-wiring", "--keep-unverified",
                   *settings) == 0
    found = results(output)
    assert found["miniature"] and len(found["arms"]) >= 3
    made = {path.parent.name: np.asarray(Image.open(path)) for path in (output / experiment.WORK).rglob("biden*.png")}
    assert len(made) == len(found["arms"])
    assert len({picture.tobytes() for picture in made.values()}) == len(made), "every way makes another picture"
    assert "Untrained miniature networks" in (output / "report.html").read_text(encoding="utf-8")
