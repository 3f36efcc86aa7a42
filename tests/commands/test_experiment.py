"""``run.py experiment``: baselines on real photos, and a painted way with miniature weights on the real host."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import mixed_photos
import sampled
from camouflage.commands import experiment
from camouflage.evaluation import study
from camouflage.evaluation.pairing import Pair, Pairing
from camouflage.evaluation.treated import FATES, FOLDER, UNCHANGED
from camouflage.files import ROOT
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
    make = experiment.Painter.painted

    def stopped(self, *arguments):
        made.append(arguments[1])
        if len(made) == 5:
            raise KeyboardInterrupt
        return make(self, *arguments)

    monkeypatch.setattr(experiment.Painter, "painted", stopped)
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
    treated = results(output)["arms"][0]["after_policy"]
    assert [treated[fate] for fate in ("unchanged", "redacted", "withheld")] == [0, 3, 0]
    after = treated["results"]
    assert after["faces"]["undetected"] == 3 and after["left"]["value"] == 1, "the policy covers everybody"
    assert after["quality"]["ssim"]["value"] < 0.95 < after["quality"]["ssim_outside_heads"]["value"]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<th colspan=7>Before any policy</th><th colspan=6>After the policy</th>" in page
    assert "3 redacted" in page and "Untrained" not in page
    assert "Mine: 2 ways, 3 photos." in capsys.readouterr().out


def test_of_one_portrait_nobody_can_be_looked_for_and_the_rest_is_measured(command, photos, tmp_path):
    (tmp_path / "mine.yaml").write_text("title: Mine\nbaselines: [original]\nplots: {Moved: [distance]}\n"
                                        "planes: {Plane: [protected, quality.ssim]}\n")
    output = tmp_path / "out"
    again = ("experiment", tmp_path / "mine.yaml", "--photos", photos, "--output", output, "--limit", 1)
    assert command(*again) == 0
    found = results(output)["arms"][0]["results"]
    assert found["distance"]["value"] == 0 and found["quality"]["ssim"]["value"] == 1
    assert found["recognisers"][0]["identification"] is None and not found["recognisers"][0]["operating_points"]
    assert {path.name for path in output.iterdir()} == {"results.json", "report.html", "moved.png"}


@pytest.fixture
def unpoliced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that lets everything go, and takes no time."""
    monkeypatch.setattr(experiment, "policed", lambda _, painted, *others: {
        name: [(pair, UNCHANGED) for pair in pairing.pairs] for name, pairing in painted.items()})


class Retouched(contextlib.AbstractContextManager):
    """Paints by hand: the person whom a way names is blurred a little."""

    def __init__(self, *_: object) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def anonymized(self, arm, material, work, *_):
        pairs = []
        for key in material.keys:
            picture = Image.open(material.root / key)
            if arm.name != "as read":
                half = (0, 0, 128, 128) if arm.name.startswith("first") else (128, 0, 256, 128)
                picture.paste(picture.crop(half).filter(ImageFilter.GaussianBlur(1.5)), half)
            target = work / arm.name / key
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.save(target)
            pairs.append(Pair(key, material.root / key, target))
        return Pairing(tuple(pairs))


def test_separation_tells_who_moved(command, photos, tmp_path, monkeypatch, unpoliced):
    couple = Image.new("RGB", (256, 128))
    for number, name in enumerate(("astronaut", "hopper")):
        couple.paste(Image.open(photos / f"{name}.png"), (128 * number, 0))
    folder, output = tmp_path / "couples", tmp_path / "out"
    folder.mkdir()
    couple.save(folder / "couple.png")
    Image.open(photos / "biden.png").save(folder / "single.png")
    shipped = (ROOT / "experiments" / "separation.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(shipped.replace("readings: [attributes]", ""))
    monkeypatch.setattr(experiment, "Painter", Retouched)
    assert command("experiment", tmp_path / "mine.yaml", "--photos", folder, "--output", output) == 0
    plain, *edited = results(output)["arms"]
    assert plain["separation"] == {}
    for arm in edited:
        assert arm["separation"].keys() == {"dlib ResNet", "pixels"}
        for read in arm["separation"].values():
            assert read["value"] < 0.05 and read["cases"] == 1 and read["fewer_persons"] == 1
    assert (output / "how_far_the_others_moved.png").is_file()


def test_whoever_runs_the_method_finds_the_photo_unless_nothing_is_left(command, photos, tmp_path, unpoliced):
    (tmp_path / "mine.yaml").write_text("title: Mine\nbaselines: [mosaic, solid]\nguess: 3\n")
    output = tmp_path / "out"
    assert command("experiment", tmp_path / "mine.yaml", "--photos", photos, "--output", output) == 0
    mosaic, solid = (one["results"]["guessing"]["with the seed"] for one in results(output)["arms"])
    assert mosaic["exact"]["value"] == solid["exact"]["value"] == 1
    assert mosaic["rank_1"]["value"] == 1 and mosaic["rank_1"]["chance"] == pytest.approx(1 / 3)
    assert solid["rank_1"]["value"] == pytest.approx(1 / 3), "all fills are the same"
    assert "Comes out again to the last bit" in (output / "report.html").read_text(encoding="utf-8")


def test_a_guess_that_cannot_be_painted_ends_nothing(command, photos, tmp_path, monkeypatch, unpoliced, capsys):
    (tmp_path / "mine.yaml").write_text("title: Mine\nbaselines: [original, solid]\nguess: 2\n")
    made, make = [], experiment.Painter.painted

    def failing(self, *arguments):
        made.append(arguments[1])
        if len(made) == 5:
            raise experiment.NodeFailed("out of memory", {})
        return make(self, *arguments)

    monkeypatch.setattr(experiment.Painter, "painted", failing)
    assert command("experiment", tmp_path / "mine.yaml", "--photos", photos, "--output", tmp_path / "out") == 0
    original, solid = (one["results"]["guessing"] for one in results(tmp_path / "out")["arms"])
    assert original == {} and "out of memory" in capsys.readouterr().out
    assert solid["with the seed"]["exact"]["value"] == 1


def test_a_layout_says_who_is_who(command, photos, tmp_path, capsys, unpoliced):
    (tmp_path / "mine.yaml").write_text("title: Mine\nbaselines: [original]\n")
    again = ("experiment", tmp_path / "mine.yaml", "--photos", photos, "--output", tmp_path / "out", "--layout")
    assert command(*again, "lfw") == 2
    assert "a folder for each person" in capsys.readouterr().err
    assert command(*again, "ffhq", "--identities", photos / "who.csv") == 2
    assert "Name one of them" in capsys.readouterr().err
    assert command(*again, "wider") == 0 and results(tmp_path / "out")["protocol"] == "folder"
    assert "WIDER names nobody" in capsys.readouterr().out


def test_an_experiment_that_is_not_there_is_refused(command, photos, tmp_path, capsys):
    assert command("experiment", "nowhere", "--photos", photos, "--output", tmp_path / "out") == 2
    assert "Name one of anonymization_scale, base_and_light, baselines" in capsys.readouterr().err


def small(*settings: str, size: int = 64, steps: int = 1) -> list[str]:
    """As little work as there can be, on the command line."""
    every = (*settings, f"Prepare Image.size={size}", f"Steps.steps={steps}")
    return [part for setting in every for part in ("--set", setting)]


MAPS = [f"{name} Map.resolution=64" for name in ("Depth", "Normal", "Segmentation", "Pose", "Lineart")]


PLOTS = {name: {f"{plot}.png" for plot in plots} for name, plots in {
    "identity_guidance": ["what_is_kept"], "anonymization_scale": ["where_the_scene_breaks"],
    "controlnet_weights": ["how_far_the_face_moved", "what_is_kept"], "base_and_light": ["what_is_kept"],
    "other_datasets": ["what_is_kept", "what_became_of_faces"], "occluded_faces": ["what_is_kept"],
    "ethnicity": ["what_is_kept"], "separation": ["how_far_the_others_moved", "what_became_of_faces"]}.items()}


@pytest.mark.parametrize(("name", "settings"), sampled.sampled([
    ("identity_guidance", small(*MAPS)), ("anonymization_scale", small(*MAPS)),
    # at a single step lineart to the end is lineart to the half
    ("controlnet_weights", small(*MAPS, steps=2)), ("base_and_light", small()), ("other_datasets", small()),
    ("occluded_faces", small(size=128)), ("ethnicity", small(size=128)), ("separation", small(size=128))], 1, seed=23))
def test_the_shipped_ones_run_end_to_end_with_miniature_weights(command, photos, tmp_path, name, settings):
    output, folder = tmp_path / "out", photos
    if name == "separation":
        folder = tmp_path / "couples"
        folder.mkdir()
        couple = Image.new("RGB", (256, 128))
        for number, one in enumerate(("biden", "hopper")):
            couple.paste(Image.open(photos / f"{one}.png"), (128 * number, 0))
        couple.save(folder / "biden.png")
    one_portrait = ("--limit", 1) if name == "controlnet_weights" or not sampled.everything else ()  # it takes minutes
    assert command("experiment", name, "--photos", folder, "--output", output, "--check-wiring", "--keep-unverified",
                   *one_portrait, *settings) == 0
    found = results(output)
    assert found["miniature"] and len(found["arms"]) >= 3
    first = sorted(folder.iterdir())[0].name
    work = output / experiment.WORK
    made = {path.parent.name: np.asarray(Image.open(path)) for path in work.rglob(f"{first}.png")
            if FOLDER not in path.parts}
    assert len(made) == len(found["arms"])
    assert len({picture.tobytes() for picture in made.values()}) == len(made), "every way makes another picture"
    for arm in found["arms"]:
        treated = sum(arm["after_policy"][fate] for fate in FATES)
        assert treated == (1 if one_portrait else len(list(folder.iterdir())))
        if "attributes" in arm["results"]["utility"]:
            assert arm["results"]["utility"]["attributes"]["network"]["name"] == "FACER"
    if name == "separation":
        assert all(arm["separation"]["pixels"]["value"] > 0 for arm in found["arms"][1:])
    assert (found["breaking_point"] is not None) == (name == "anonymization_scale")
    assert PLOTS[name] <= {path.name for path in output.glob("*.png")}, "those of which there are values"
    assert "Untrained miniature networks" in (output / "report.html").read_text(encoding="utf-8")
