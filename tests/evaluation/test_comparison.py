"""Results, report and plots of an experiment, from numbers that are made up here."""

from __future__ import annotations

import json

import pytest

from camouflage.evaluation import plots
from camouflage.evaluation.comparison import MINIATURE, Way, files_of
from camouflage.evaluation.experiments import read


def mean(value):
    return {"value": value, "interval_95": None, "persons": 2, "cases": 2}


def results(share):
    return {"recognisers": [{"recogniser": {"name": "dlib ResNet"}, "identification": {"rank_1": mean(share)},
                             "operating_points": [{"reidentified": mean(share), "protected": mean(1 - share)}]}],
            "faces": {"judged": 2, "lost": 0, "undetected": 0, "new": 0}, "distance": mean(0.5),
            "quality": {"ssim_outside_heads": mean(share)}, "utility": {"faces": {"recall": mean(1.0)}}}


def way(share, moved=None):
    after = {**results(0.125), "left": mean(0.75)}
    return Way(results(share), after, {"unchanged": 1, "redacted": 2, "withheld": 1},
               {} if moved is None else {"pixels": {**mean(moved), "left_out": 0, "fewer_persons": 3}})


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "title: A <title>\nquestion: Why?\nworkflow: base\nvary: {G.scale: [0, 1]}\nbaselines: [solid]\n"
        "breaking_point: [quality.ssim_outside_heads]\nplots: {Who: [rank_1, protected]}\n"
        "planes: {Plane: [protected, quality.ssim_outside_heads]}\n")
    return read(tmp_path / "x.yaml")


def test_both_columns_and_the_breaking_point_are_told(experiment, monkeypatch):
    drawn = {}

    def plane(points, *about):
        drawn["points"], drawn["about"] = points, about
        return b"plane"

    monkeypatch.setattr(plots, "plane", plane)
    files = files_of(experiment, "pairs", {"scale 0": way(0.8), "scale 1": way(0.3, 0.25), "solid": way(0.1)}, False)
    assert files.keys() == {"results.json", "report.html", "what_became_of_everybody.png", "who.png", "plane.png",
                            "how_far_the_others_moved.png"}
    assert drawn["points"].keys() == {"0", "1", "solid"} and drawn["points"]["1"] == (mean(0.7), mean(0.3))
    assert drawn["about"][:3] == ("Plane, by scale", "protected", "SSIM outside of heads")
    content = json.loads(files["results.json"])
    assert content["breaking_point"] == {"at": 1.0, "by": {"quality.ssim_outside_heads": 1.0}, "axis": "scale",
                                         "from": 0.0, "silent": []}
    second = content["arms"][1]
    assert second["results"]["quality"]["ssim_outside_heads"]["value"] == 0.3
    assert second["after_policy"]["results"]["left"]["value"] == 0.75
    assert [second["after_policy"][fate] for fate in ("unchanged", "redacted", "withheld")] == [1, 2, 1]
    assert second["separation"]["pixels"]["value"] == 0.25 and content["arms"][0]["separation"] == {}
    page = files["report.html"].decode()
    assert "A &lt;title&gt;" in page and MINIATURE not in page
    assert "The scene breaks at scale 1. Below half of its value at scale 0: SSIM outside of heads from 1 on." in page
    assert all(f"<td>{cell}</td>" in page for cell in ("1 unchanged, 2 redacted, 1 withheld", "0.12", "0.75"))


def test_a_scene_that_does_not_break_and_untrained_networks_are_told(experiment):
    found = dict.fromkeys(("scale 0", "scale 1", "solid"), way(0.5))
    page = files_of(experiment, "pairs", found, True)["report.html"].decode()
    assert "No breaking point was found. Not below half of its value at scale 0: SSIM outside of heads." in page
    assert MINIATURE in page and "How far the others moved" not in page and "Not plotted" not in page


def test_what_has_no_value_is_named_and_not_plotted(experiment):
    nobody = way(0.5)
    nobody.before["recognisers"][0] |= {"identification": None, "operating_points": []}
    files = files_of(experiment, "pairs", dict.fromkeys(("scale 0", "scale 1", "solid"), nobody), False)
    assert files.keys() == {"results.json", "report.html"}
    assert ("Not plotted, since nothing of it has a value: What became of everybody, Who, Plane."
            in files["report.html"].decode())
