"""The demo: what it queues, what it says of every person, and how it ends where no face is found."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from camouflage.batch.server import NodeFailed
from camouflage.commands import choosing, demo, launch
from camouflage.commands.contact_sheet import contact_sheet
from camouflage.commands.pipelines import (
    BEFORE,
    CHOICES,
    MEANING,
    PIPELINES,
    Results,
    before_the_policy,
    persons,
    verdicts,
)
from camouflage.files import ROOT
from sampled import everything

VERDICT = """verdict: unverifiable
threshold: 0.600 (never calibrated)
recogniser: dlib ResNet; detectors: CenterFace
picture 0: person 0 (46 x 59 px at 90, 30): safe, distance 0.822; a face is there
picture 0: person 1 (40 x 50 px at 10, 20): unverifiable, distance 0.700; no face is found there any more
picture 0: faces lost: 1, new: 0, survived elsewhere: 0"""
NOBODY = "verdict: nobody\npicture 0: no face found in the original"


def test_every_person_gets_a_line_before_and_after_the_policy() -> None:
    results = Results({}, {"verdict_before": VERDICT, "verdict": VERDICT.replace("\n", "\n\n")}, {})
    told = verdicts(PIPELINES["base"], results)
    assert told[1] == ("As painted: person 1 (40 x 50 px at 10, 20): unverifiable, distance 0.700; "
                       "no face is found there any more", "unverifiable")
    assert [verdict for _, verdict in told] == ["safe", "unverifiable"] * 2
    assert [line.partition(":")[0] for line, _ in told] == ["As painted"] * 2 + ["As saved"] * 2
    results.texts["verdict"] = NOBODY
    assert verdicts(PIPELINES["base"], results)[-1] == ("As saved: no face found in the original", "nobody")
    assert persons(NOBODY) == ["no face found in the original"]
    new = "new face 1 (40 x 50 px at 10, 20): redacted, nothing to compare; the region was replaced (solid)"
    assert persons(f"verdict: redacted\n- picture 0: {new}") == [new]


def tried(*verdicts: str, distance: float | None, kept: bool = True) -> dict:
    return {"seed": 1, "anonymization_scale": 1.25, "verdicts": list(verdicts), "distance": distance, "kept": kept}


def test_what_was_painted_is_told_from_the_kept_try_of_the_manifest() -> None:
    found = [{"number": 0, "kind": "original", "box_ltrb": [10.0, 20.0, 50.4, 70.0]},
             {"number": 1, "kind": "new", "box_ltrb": [0.0, 0.0, 9.0, 9.0]}]
    checked = {"persons": found, "tries": [tried("recognisable", distance=0.3, kept=False),
                                           tried("unverifiable", "recognisable", distance=0.5)]}
    lines = before_the_policy({"checked": checked})
    assert persons(lines) == [
        "person 0 (40 x 50 px at 10, 20): unverifiable, no distance that counts",
        "new face 1: recognisable, smallest distance in the picture 0.500"]
    told = verdicts(PIPELINES["light"], Results({}, {"verdict_before": lines, "verdict": NOBODY}, {}))
    assert [verdict for _, verdict in told] == ["unverifiable", "recognisable", "nobody"]
    checked["tries"] = [tried("redacted", distance=None)]
    assert before_the_policy({"checked": checked}).endswith("redacted, nothing to compare")
    assert persons(before_the_policy({"checked": {"persons": [], "tries": [tried(distance=None)]}})) == [
        "no face found in the original"]


def parse(*arguments: str) -> Namespace:
    return launch.make_parser().parse_args(["demo", *arguments])


@pytest.mark.parametrize(("gpu", "there", "chosen", "told"), [
    (True, {"base", "light"}, "base", "^CAMOUFLaGE-Base was taken: its weights and a GPU are there"),
    (True, {"light", "light_public"}, "light", "^CAMOUFLaGE-Light was taken"),
    (True, {"light_public"}, "light_public", "^CAMOUFLaGE-Light, public weights was taken"),
    (True, set(), "redact",
     "for new persons 7 files of weights are missing. 'python run.py weights get --pipeline base' fetches them"),
    (False, {"base"}, "redact", "weights of CAMOUFLaGE-Base are there, but no GPU. --pipeline base paints"),
    (False, {"light"}, "redact", "--pipeline light paints new persons on the CPU"),
])
def test_the_best_that_is_there_is_taken_and_why_is_said(gpu: bool, there: set[str], chosen: str, told: str,
                                                         tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(comfyui: Path, pipeline: str = "", roles: tuple[str, ...] = (), values: object = ()
                ) -> list[str]:
        return [name for name in (pipeline, *roles) if name not in there for _ in range(7)]

    monkeypatch.setattr(choosing, "missing", missing)
    monkeypatch.setattr(choosing, "accelerator", lambda: gpu)
    names, said = demo.choose(parse(), tmp_path)
    assert names == [chosen] and re.search(told, said) and "\n" not in said
    assert choosing.automatic(tmp_path) == (chosen, said), "the one chooser"


def test_light_without_its_trained_files_is_the_public_one(tmp_path, monkeypatch):
    there = {"light_public", "base"}
    monkeypatch.setattr(choosing, "missing", lambda comfyui, pipeline="", roles=(), values=(): [
        name for name in (pipeline, *roles) if name and name not in there])
    names, said = demo.choose(parse("--pipeline", "both"), tmp_path)
    assert names == ["base", "light_public"] and "Light's trained files are not there" in said
    there |= {"light", "light adapter", "image prompt (trained)"}
    assert demo.choose(parse("--pipeline", "light"), tmp_path) == (["light"], "")


@pytest.mark.parametrize(("arguments", "names"), [
    (["--check-wiring"], ["redact", "base", "light"]),
    (["--check-wiring", "--pipeline", "light"], ["redact", "light"]),
    (["--weights", "miniature", "--pipeline", "both"], ["redact", "base", "light"]),
    (["--pipeline", "redact"], ["redact"]),
])
def test_what_was_asked_for_is_run(arguments: list[str], names: list[str], tmp_path: Path) -> None:
    assert demo.choose(parse(*arguments), tmp_path) == (names, "")


def test_weights_that_were_asked_for_and_are_not_there_are_listed(command, tmp_path: Path, fake_comfyui,
                                                                  monkeypatch: pytest.MonkeyPatch,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    host = fake_comfyui("ComfyUI")
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    assert command("demo", "--pipeline", "light", "--output", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "weight files are missing" in told and str(host / "models" / "ipadapter") in told
    assert not (tmp_path / "out").exists()


def test_nothing_heavy_is_imported_for_the_plain_demo() -> None:
    code = (f"import sys; sys.path.append({str(ROOT)!r}); import camouflage.commands.demo\n"
            "sys.exit({'torch', 'transformers', 'scipy', 'cv2', 'comfy_cli'} & set(sys.modules) or 0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_choices_are_those_of_the_command_line() -> None:
    assert parse().pipeline == "auto" and parse().weights == "installed"
    assert parse("--check-wiring") == parse("--weights", "miniature")
    for choice, names in CHOICES.items():
        assert parse("--pipeline", choice).pipeline == choice
        assert set(names) <= set(PIPELINES)
    assert CHOICES["both"] == ("base", "light")
    assert {*CHOICES["all"], "light_public", "base_few_steps", "base_commercial"} == set(PIPELINES)
    for wrong in (["--pipeline", "none"], ["--check-wiring", "--weights", "miniature"]):
        with pytest.raises(SystemExit):
            parse(*wrong)


def verify() -> dict:
    return {"v": {"class_type": "CamouflageVerify", "_meta": {"title": "Verify"},
                  "inputs": {"original": ["photo", 0], "anonymized": ["result", 0], "policy": "redact",
                             "redacted": ["redact", 1]}}}


def test_the_look_before_only_reports_and_shows_words_alone() -> None:
    prompt = verify()
    demo.look_before(prompt)
    assert prompt["v"] == verify()["v"], "the workflow's own verification stays"
    assert prompt["look"]["inputs"] == {"original": ["photo", 0], "anonymized": ["photo", 0], "policy": "report"}
    assert prompt["looked"] == {"class_type": BEFORE[0], "inputs": {"source": ["look", 2]},
                                "_meta": {"title": BEFORE[1]}}


@pytest.mark.parametrize(("node", "kind", "refused"), [
    ("CamouflageVerify", "pack.camouflage.verification.verify.Blocked", True),
    ("CamouflageSafeSampler", "pack.camouflage.verification.verify.Blocked", True),
    ("CamouflageRedact", "pack.camouflage.errors.CamouflageError", True),
    ("CamouflageVerify", "ValueError", False),
    ("CamouflageCaption", "pack.camouflage.errors.CamouflageError", False),
])
def test_only_the_verification_refuses(node: str, kind: str, refused: bool) -> None:
    error = NodeFailed("", {"node_type": node, "exception_type": kind, "exception_message": "No face.\n"})
    assert demo.refusal(error) == ("No face." if refused else None)


def test_the_contact_sheet_colours_the_verdicts() -> None:
    from camouflage.output.sheet import COLOURS

    sheet = contact_sheet({"a": Image.new("RGB", (64, 64))}, {}, None, "footer",
                          [(f"{verdict}: person 0", verdict) for verdict in MEANING])
    seen = {colour for _, colour in sheet.getcolors(sheet.width * sheet.height) or []}
    assert {COLOURS[verdict] for verdict in MEANING} <= seen
    assert set(MEANING) == set(COLOURS)


def test_the_redaction_of_a_real_photo_from_one_end_to_the_other(
        command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no weights: where they would be built, the test fails."""
    from testing import miniature

    monkeypatch.setattr(miniature, "ensure", lambda *_, **__: pytest.fail("built weights"))
    assert command("demo", "--output", str(tmp_path / "out")) == 0
    said, complaints = capsys.readouterr()
    assert complaints == "" and "arning" not in said
    assert said.splitlines()[-1].startswith("Redaction was taken, which covers the heads")
    assert "The photo as it is: person 0 (94 x 118 px at 178, 60): recognisable, distance 0.000" in said
    assert ("As saved: person 0 (94 x 118 px at 178, 60): redacted, nothing to compare; the region was replaced "
            "(solid)") in said, "our own fill proves itself"
    assert f"redacted: {MEANING['redacted']}" in said and "safe:" not in said
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"original.png", "anonymized_00001.png", "anonymized_00001.json", "report.png", "verdict.txt",
                     "verdict_before.txt", "contact_sheet.png"}
    saved = tmp_path / "out" / "anonymized_00001.png"
    told = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["file"]["file_sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert told["file"]["name"] == saved.name
    head = np.asarray(Image.open(saved))[75:165, 185:260]
    assert head.std() == 0 and skimage.data.astronaut()[75:165, 185:260].std() > 10


@pytest.mark.parametrize("asked", ["all"] if everything else ["light"])
def test_the_wiring_check_runs_everything_and_nobody_takes_it_for_a_result(
        asked: str, command, miniature_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(skimage.data.astronaut()[:, 96:352]).resize((128, 256)).save(tmp_path / "photo.png")
    assert command("demo", "--check-wiring", "--size", 128, "--steps", 1, "--pipeline", asked,
                   "--output", tmp_path / "out", "--", tmp_path / "photo.png") == 0
    said, complaints = capsys.readouterr()
    assert complaints == "" and "arning" not in said
    assert "not a result" in said.splitlines()[-1]
    assert not re.search(r"distance \d.*compare", said)
    for pipeline in (PIPELINES[name] for name in {"redact", *CHOICES[asked]}):
        folder = tmp_path / "out" / pipeline.name
        names = {path.name for path in folder.iterdir()}
        assert names == {"original.png", "contact_sheet.png", "anonymized_00001.png", "anonymized_00001.json",
                         "verdict_before.txt", *(f"{name}.png" for name in pipeline.pictures),
                         *(f"{name}.txt" for name in pipeline.texts)}
        if pipeline.samples:
            assert f"{pipeline.title}\n  As painted: person 0" in said
            told = json.loads((folder / "anonymized_00001.json").read_text(encoding="utf-8"))
            size = (128 if pipeline.name == "light" else 64, 128)  # Light sees the square at the centre
            assert Image.open(folder / "anonymized_00001.png").size == size and told["checked"]["tries"]


def test_where_no_face_is_found_it_says_so_and_leaves_nothing(
        command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(skimage.data.coffee()).resize((300, 200)).save(tmp_path / "coffee.png")
    photo = str(tmp_path / "coffee.png")
    assert command("demo", "--output", str(tmp_path / "out"), "--", photo) == 2
    said = capsys.readouterr()
    assert "Redaction: nothing was saved." in said.err and "No face was found" in said.err
    assert "Name a photo in which a face can be seen" in said.err
    assert "Traceback" not in said.err + said.out
    assert not (tmp_path / "out").exists()


def test_where_one_pipeline_is_refused_the_others_results_stay(
        command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "saved.png"
    Image.new("RGB", (64, 64)).save(picture)
    given = Results({"report": Image.new("RGB", (64, 64))}, {"verdict": VERDICT, "verdict_before": VERDICT},
                    {"anonymized_00001.png": picture.read_bytes(), "anonymized_00001.json": b"{}"})
    asked = []

    def run_pipelines(photo: Image.Image, options: object, pipelines: list, comfyui: Path) -> tuple[dict, dict]:
        asked.extend(pipeline.name for pipeline in pipelines)
        return {"redact": given}, {"base": "No face was found."}

    monkeypatch.setattr(demo, "run_pipelines", run_pipelines)
    assert command("demo", "--check-wiring", "--pipeline", "base", "--output", tmp_path / "out") == 2
    assert asked == ["redact", "base"], "with miniature weights the redaction runs, too, and first"
    assert "CAMOUFLaGE-Base: nothing was saved. No face was found." in capsys.readouterr().err
    assert (tmp_path / "out" / "redact" / "anonymized_00001.png").read_bytes() == picture.read_bytes()
    assert not (tmp_path / "out" / "base").exists()
