"""``run.py evaluate`` with networks that read: nothing lost where nothing changed, less where another is shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import mixed_photos
import own_networks
from camouflage.commands import studies
from camouflage.commands.launch import make_parser
from camouflage.evaluation import readings, study
from camouflage.evaluation.cache import FOLDER
from camouflage.evaluation.experiments import value_at
from camouflage.files import ROOT
from camouflage.method.faces import ATTRIBUTES
from in_host import only_folder
from sampled import long
from seen_once import see

PEOPLE = ("astronaut", "hopper")


@pytest.fixture(autouse=True)
def seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "see", see)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait of each."""
    folder = tmp_path_factory.mktemp("originals")
    for name in PEOPLE:
        mixed_photos.portrait(400, name).crop((80, 0, 320, 240)).resize((160, 160)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The options for all that can be read."""
    folder = tmp_path_factory.mktemp("own")
    names = [ATTRIBUTES[i] for i in np.random.default_rng(0).permutation(len(ATTRIBUTES))]
    return ["--read", "attributes", "--read", "captions", "--read", "maps",
            "--attribute-network", own_networks.attribute_network(folder / "attributes", names),
            "--person-detector", own_networks.person_detector(folder / "persons"),
            "--text-encoder", own_networks.text_encoder(folder / "texts")]


def results(output: Path) -> dict:
    """The results, which keep to their schema."""
    found = json.loads((output / "results.json").read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "camouflage" / "evaluation" / "results.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, schema)
    return found


def test_where_nothing_was_changed_everything_is_kept(host, command, originals, everything, tmp_path) -> None:
    shutil.copytree(originals, tmp_path / "same")
    output = tmp_path / "out"
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path / "same", "--output", output,
                   *everything) == 0
    found = results(output)
    utility = found["utility"]
    for name in ("attributes", "attributes_second"):
        group = utility[name]["by_group"]["all"]
        assert group["value"] == 1 and group["cases"] == 2 and group["left_out"] == 0 and group["attributes"] > 0
    assert value_at(found, "utility.attributes.by_group.all") == utility["attributes"]["by_group"]["all"]
    assert utility["captions"]["bleu"]["value"] == pytest.approx(100)
    assert utility["captions"]["chrf"]["value"] == pytest.approx(100)
    assert utility["captions"]["similarity"]["value"] == pytest.approx(1)
    assert utility["segmentation"]["pixel_agreement"]["value"] == utility["segmentation"]["mean_iou"]["value"] == 1
    assert utility["depth"]["error"]["value"] == pytest.approx(0, abs=1e-9)
    assert utility["depth"]["rank_correlation"]["value"] == pytest.approx(1)
    assert utility["persons"]["recall"]["value"] == 1 and utility["persons"]["before"] > 0
    assert not any("FACER alone" in note for note in found["notes"])
    assert {path.name for path in output.iterdir()} == {"results.json", "report.html", "cases.csv", "det.png",
                                                       "ranks.png", "card.html", "attributes.png",
                                                       "attributes_second.png"}
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Attributes by group" in page and "Read by FACER" in page and "demographics" in page
    for row in ("captions: bleu", "segmentation: mean iou", "depth: error", "persons: recall"):
        assert f"<td>{row}</td>" in page
    assert "5 o Clock Shadow" not in page and "<script" not in page
    everything_written = b"".join(path.read_bytes() for path in output.iterdir())
    assert str(tmp_path).encode() not in everything_written and str(everything[7]).encode() not in everything_written


@long
def test_another_picture_keeps_less(host, command, originals, everything, tmp_path) -> None:
    """Everybody is as blue as they were red: untrained networks see colours."""
    (tmp_path / "other").mkdir()
    for name in PEOPLE:
        pixels = np.asarray(Image.open(originals / f"{name}.png"))
        Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])).save(tmp_path / "other" / f"{name}.png")
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path / "other", "--output",
                   tmp_path / "out", *everything) == 0
    utility = results(tmp_path / "out")["utility"]
    for name in ("attributes", "attributes_second"):
        assert utility[name]["by_group"]["all"]["value"] < 0.9
    assert utility["captions"]["bleu"]["value"] < 90 and utility["captions"]["similarity"]["value"] < 0.999
    assert utility["segmentation"]["mean_iou"]["value"] < 0.9 and utility["depth"]["error"]["value"] > 0.1
    assert utility["persons"]["recall"]["value"] < 1


def test_what_is_not_asked_for_is_not_there(host, command, originals, tmp_path) -> None:
    """And a lost face has no attributes to compare."""
    shutil.copytree(originals, tmp_path / "some")
    Image.new("RGB", (160, 160), "grey").save(tmp_path / "some" / "hopper.png")
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path / "some", "--output",
                   tmp_path / "out", "--read", "attributes") == 0
    found = results(tmp_path / "out")
    assert not {"attributes_second", "captions", "segmentation", "depth", "persons"} & found["utility"].keys()
    group = found["utility"]["attributes"]["by_group"]["all"]
    assert (group["cases"], group["left_out"]) == (1, 1)
    assert any("FACER alone" in note for note in found["notes"])


@long  # in the suite: evaluation/test_readings.py, what was read is not read again
def test_stopped_it_goes_on_without_reading_again(host, command, originals, everything, tmp_path, monkeypatch) -> None:
    from camouflage.comfy import memo, networks

    shutil.copytree(originals, tmp_path / "same")
    again = ("evaluate", "--original", originals, "--anonymized", tmp_path / "same", "--output", tmp_path / "out",
             *everything)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study, "compare", stopped)
        assert command(*again) == 130
    assert (tmp_path / "out" / FOLDER).is_dir()
    networks.clear()
    memo.clear()
    with monkeypatch.context() as patch:
        patch.setattr(networks._cache, "get", lambda *_: pytest.fail("a network was loaded"))
        assert command(*again) == 0
    assert not (tmp_path / "out" / FOLDER).exists()
    assert results(tmp_path / "out")["utility"]["attributes"]["by_group"]["all"]["value"] == 1


def test_the_choices_are_those_of_the_library() -> None:
    """The command line is read without it."""
    assert studies.READINGS == readings.NAMES


def test_captions_need_the_packages_of_evaluations() -> None:
    line = ["evaluate", "--original", "a", "--anonymized", "b", "--output", "c", "--read"]
    assert [studies.group(make_parser().parse_args([*line, name])) for name in studies.READINGS] == [
        "base", "evaluate", "base"]


@pytest.mark.parametrize(("option", "said"), [
    ("--attribute-network", "no folder of a transformers model"), ("--person-detector", "--person-detector takes"),
    ("--text-encoder", "no folder of a transformers model")])
def test_an_unusable_folder_is_refused_at_once(command, originals, tmp_path, capsys, option, said) -> None:
    (tmp_path / "same").mkdir()
    assert command("evaluate", "--original", originals, "--anonymized", tmp_path / "same", "--output",
                   tmp_path / "out", option, tmp_path) == 2
    assert said in capsys.readouterr().err


def test_missing_weights_and_texts_without_captions_are_refused(host, command, originals, everything, tmp_path,
                                                                monkeypatch, capsys) -> None:
    shutil.copytree(originals, tmp_path / "same")
    line = ("evaluate", "--original", originals, "--anonymized", tmp_path / "same", "--output", tmp_path / "out")
    assert command(*line, *everything[-2:]) == 2
    assert "--text-encoder compares captions: it takes --read captions." in capsys.readouterr().err
    only_folder(tmp_path, monkeypatch)
    assert command(*line, "--read", "maps") == 2
    assert "Weights for 'segmentation' are missing. 'python run.py weights get'" in capsys.readouterr().err
