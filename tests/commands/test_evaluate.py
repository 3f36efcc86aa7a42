"""``run.py evaluate`` on real photos: known answers, stopped and gone on with, and what is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import hifd
import jsonschema
import numpy as np
import pytest
from PIL import Image

import mixed_photos
import quality_weights
from camouflage.commands import studies
from camouflage.evaluation import nearest, privacy, study
from camouflage.evaluation.cache import FOLDER
from camouflage.evaluation.recognisers import KINDS
from camouflage.files import ROOT
from camouflage.output.sheet_drawing import GAP, MARGIN
from camouflage.verification.redaction import Region, redact
from seen_once import see

PEOPLE = ("astronaut", "hopper", "obama", "biden")


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """Portraits, two of each person: the photo, and the photo a little smaller."""
    folder = tmp_path_factory.mktemp("originals")
    for name in PEOPLE:
        (folder / name).mkdir()
        head = mixed_photos.portrait(400, name).crop((80, 0, 320, 240))
        head.resize((160, 160)).save(folder / name / "0.png")
        head.resize((140, 140)).save(folder / name / "1.png")
    return folder


@pytest.fixture(autouse=True)
def seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "see", see)


@pytest.fixture(scope="module")
def identities(originals) -> Path:
    file = originals.parent / "who.csv"
    file.write_text("file,identity\n" + "".join(f"{name}/{i}.png,{name}\n" for name in PEOPLE for i in (0, 1)))
    return file


def results(output: Path) -> dict:
    """The results, which keep to their schema."""
    found = json.loads((output / "results.json").read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "camouflage" / "evaluation" / "results.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, schema)
    return found


def test_where_nothing_was_anonymized_everybody_is_found(command, originals, identities, tmp_path, capsys):
    shutil.copytree(originals, tmp_path / "same")
    output = tmp_path / "out"
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path / "same", "--identities", identities,
                   "--output", output, "--hifd", "--show-nearest", "3") == 0
    said = capsys.readouterr().out
    assert "8 originals: 8 with their anonymized picture. Protocol: gallery." in said and "rank 1 1 [" in said
    found = results(output)
    (one,) = found["recognisers"]
    assert found["persons"] == 4 and found["faces"]["judged"] == 8 and one["recogniser"]["name"] == "dlib ResNet"
    assert one["identification"]["rank_1"]["value"] == 1 and one["linkage"]["rank_1"]["value"] == 1
    assert not one["operating_points"] and "takes 30 pairs" in found["notes"][0], "24 pairs of strangers are too few"
    assert found["utility"]["nme"]["value"] == 0 and found["utility"]["faces"]["recall"]["value"] == 1
    assert found["quality"]["psnr"]["value"] == 100 and found["quality"]["ssim_outside_heads"]["value"] == 1
    assert {path.name for path in output.iterdir()} == {"results.json", "report.html", "cases.csv", "det.png",
                                                       "ranks.png", "hifd", "card.html", "nearest.png"}
    shown = np.asarray(Image.open(output / "nearest.png").convert("RGB")).astype(int)
    rows = shown[-3 * (nearest.SIDE + GAP) - MARGIN + GAP:].reshape(-1, *shown.shape[1:])[:nearest.SIDE]
    left, right = (rows[:, MARGIN + i * (nearest.SIDE + GAP):][:, :nearest.SIDE] for i in (0, 1))
    assert np.array_equal(left, right) and left.std() > 20, "an original, and its picture that is the same"
    card = (output / "card.html").read_text(encoding="utf-8")
    assert "not the output of anonymize" in card and "linked with another photo of theirs" in card
    assert "Bodies, gait" in card and "takes 30 pairs" in card and "<script" not in card
    scored = hifd.compute_agreements(str(output / "hifd" / "methods.yaml"), str(output / "hifd"), str(tmp_path),
                                     estimators_config=str(output / "hifd" / "estimators.yaml"))
    assert scored.groupby("task")["s_k"].mean().to_dict() == pytest.approx({"privacy": 0, "landmark": 1}, abs=1e-6)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "rank 1" in page
    everything = b"".join(path.read_bytes() for path in output.rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in everything and str(originals).encode() not in everything


def test_who_is_covered_is_undetected_and_not_protected(command, originals, tmp_path):
    for path in originals.rglob("*.png"):
        pixels = np.asarray(Image.open(path))
        size = len(pixels)
        covered = redact(pixels, [Region((0.2 * size, 0.1 * size, 0.8 * size, 0.95 * size))])
        target = tmp_path / "covered" / path.relative_to(originals)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(covered).save(target)
    output = tmp_path / "out"
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path / "covered", "--protocol", "paper",
                   "--output", output) == 0
    found = results(output)
    assert found["faces"]["judged"] == 0 and found["faces"]["undetected"] == 8
    assert found["utility"]["nme"]["value"] is None and found["utility"]["faces"]["recall"]["value"] == 0
    assert found["quality"]["psnr"]["value"] < 20 < found["quality"]["psnr_outside_heads"]["value"]
    (one,) = found["recognisers"]
    assert one["identification"] is None and all(point["protected"]["value"] == 0 for point in one["operating_points"])
    assert found["paper"][0]["black_tiles"] == 8 and found["paper"][0]["recall_1"] < 0.5


def test_quality_by_networks_of_files(command, originals, tmp_path):
    """Four pictures are too few for FID, which says so unless it is forced, and for KID."""
    quality_weights.alexnet(tmp_path / "alexnet.pth")
    quality_weights.inception(tmp_path / "inception.pth")
    for name in ("hopper", "obama"):
        shutil.copytree(originals / name, tmp_path / "o" / name)
        shutil.copytree(originals / name, tmp_path / "a" / name)
    (tmp_path / "a" / "obama" / "1.png").write_bytes((originals / "hopper" / "1.png").read_bytes())
    networks = ("--lpips", tmp_path / "alexnet.pth", "--inception", tmp_path / "inception.pth")
    for number, more in enumerate(((), ("--force-fid",))):
        assert command("evaluate", "--original", tmp_path / "o", "--anonymized", tmp_path / "a", "--output",
                       tmp_path / f"{number}", *networks, *more) == 0
        found = results(tmp_path / f"{number}")["quality"]
        assert 0 < found["lpips_outside_heads"]["value"] < found["lpips"]["value"]
        assert not found["inception"]["published"]
        assert found["kid"]["value"] is None and "KID takes 100" in found["kid"]["why"]
        assert (found["fid"]["value"] is not None) == bool(more)
        assert "FID takes 2,048" in found["fid"]["caution" if more else "why"]


def test_stopped_it_goes_on_where_it_was_and_leaves_no_embedding(command, originals, tmp_path, monkeypatch):
    shutil.copytree(originals, tmp_path / "same")
    output, seen = tmp_path / "out", []

    def stopped(*arguments):
        seen.append(1)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return see(*arguments)

    monkeypatch.setattr(study, "see", stopped)
    again = ("evaluate", "--original", originals, "--anonymized", tmp_path / "same", "--output", output)
    assert command(*again) == 130
    kept = output / FOLDER
    assert len(list(kept.glob("*.npz"))) == 4 and kept.stat().st_mode & 0o077 == 0
    assert command(*again) == 0
    assert len(seen) == 17, "16 pictures, one of them twice"
    assert not kept.exists()


def test_where_there_is_nothing_to_say_nothing_is_left_either(command, originals, tmp_path, capsys):
    shutil.copytree(originals / "hopper", tmp_path / "same")
    (tmp_path / "who.csv").write_text("file,identity\n0.png,x\n1.png,x\n")
    shutil.copytree(tmp_path / "same", tmp_path / "o")
    assert command("evaluate", "--original", tmp_path / "o", "--anonymized", tmp_path / "same", "--identities",
                   tmp_path / "who.csv", "--output", tmp_path / "out") == 2
    assert "All pictures show one person" in capsys.readouterr().err and not list((tmp_path / "out").iterdir())


def test_what_cannot_be_read_or_is_not_there_is_counted(command, originals, tmp_path):
    shutil.copytree(originals, tmp_path / "same")
    (tmp_path / "same" / "hopper" / "0.png").write_bytes(b"broken")
    (tmp_path / "same" / "hopper" / "1.png").unlink()
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path / "same", "--output",
                   tmp_path / "out") == 0
    found = results(tmp_path / "out")
    assert found["pictures"] == {"originals": 8, "missing": 1, "there": 7, "unreadable": 1, "without_a_face": 0,
                                 "of_no_original": 0}
    assert found["faces"]["withheld"] == 2 and found["faces"]["judged"] == 6
    assert any("could not be read" in note for note in found["notes"])
    named = {path.name for path in (tmp_path / "out").iterdir() if b"hopper" in path.read_bytes()}
    assert named == {"cases.csv"}, "the others may be passed on"
    assert 'anonymized hopper/0.png,,"unreadable: no ' in (tmp_path / "out" / "cases.csv").read_text(encoding="utf-8")


def test_the_choices_are_those_of_the_library():
    """The command line is read without it."""
    assert (*privacy.PROTOCOLS, "paper") == studies.PROTOCOLS and tuple(KINDS) == studies.KINDS


@pytest.mark.parametrize(("arguments", "said"), [
    (["--recogniser", "dlib", "--recogniser", "dlib"], "named twice"),
    (["--protocol", "gallery"], "say who is in which photo"),
    (["--recogniser", "arcface:nowhere.onnx"], "There is no recogniser")])
def test_what_cannot_be_is_refused_in_a_sentence(command, originals, tmp_path, capsys, arguments, said):
    (tmp_path / "same").mkdir()
    mixed_photos.portrait(200, "hopper").save(tmp_path / "same" / "x.png")
    shutil.copytree(originals, tmp_path / "same", dirs_exist_ok=True)
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path / "same", "--output",
                   tmp_path / "out", *arguments) == 2
    assert said in capsys.readouterr().err


def test_results_among_the_pictures_are_refused(command, originals, tmp_path, capsys):
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path, "--output",
                   originals / "results") == 2
    assert "would lie among the pictures" in capsys.readouterr().err
