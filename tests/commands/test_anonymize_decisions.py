"""What a reviewer decides, applied by the next run on a real ComfyUI."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

import mixed_photos
from camouflage.batch.accounts import Accounts
from camouflage.batch.decisions import Decision, append
from camouflage.batch.photos import RUN

PACK = '''
class Cover:
    """Makes a picture grey that is red in its corner, mirrors one that is green there; all others stay."""
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"image": ("IMAGE",)}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    def run(self, image):
        red = image[0, 0, 0, 0] > 0.99 and image[0, 0, 0, 1] < 0.01
        green = image[0, 0, 0, 1] > 0.99 and image[0, 0, 0, 0] < 0.01
        return (image * 0 + 0.5 if red else image.flip(2) if green else image,)
NODE_CLASS_MAPPINGS = {"Cover": Cover}
'''
WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "Cover", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "CamouflageVerify", "inputs": {
        "original": ["1", 0], "anonymized": ["2", 0], "policy": "block", "redaction": "solid", "no_face": "block",
        "threshold": 0.0, "detectors": "CenterFace + dlib", "recogniser": "dlib ResNet", "smallest_face": 32}},
    "4": {"class_type": "CamouflageSaveImage", "inputs": {"image": ["3", 0], "report": ["3", 1], "manifest": True,
                                                          "filename_prefix": "x", "format": "PNG", "quality": 95}}}


def account(output: Path) -> dict[str, tuple[str, str]]:
    return {one.key: (one.state, one.reason) for one in Accounts(output).read(0)}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A portrait that stays as it is, one that is made grey, nobody, and a portrait that is mirrored."""
    red, green = mixed_photos.portrait(160, "hopper"), mixed_photos.portrait(160, "hopper")
    red.paste((255, 0, 0), (0, 0, 2, 2))
    green.paste((0, 255, 0), (0, 0, 2, 2))
    (tmp_path / "in").mkdir()
    images = {"1": mixed_photos.portrait(160), "2": red, "3": mixed_photos.landscape(size=160), "4": green}
    for name, image in images.items():
        (tmp_path / "in" / f"{name}.png").write_bytes(mixed_photos.encoded(image))
    return tmp_path / "in"


def test_accept_saves_nobody_who_is_recognisable(command, folder, tmp_path):
    """One is recognisable, one cannot be judged, in one there is nobody, one is mirrored: all withheld and accepted."""
    (tmp_path / "cover").mkdir()
    (tmp_path / "cover" / "__init__.py").write_text(PACK)
    (tmp_path / "mine.json").write_text(json.dumps(WORKFLOW))
    output = tmp_path / "out"
    again = ("anonymize", folder, "--output", output, "--workflow", tmp_path / "mine.json", "--pack",
             tmp_path / "cover", "--review")
    assert command(*again) == 3
    assert [state for state, _ in account(output).values()] == ["blocked"] * 4
    for name in ("1.png", "2.png", "3.png", "4.png"):
        append(output, Decision(name, 0, "accept"))
    assert command(*again) == 3
    found = account(output)
    assert [state for state, _ in found.values()] == ["blocked", "accepted", "accepted", "blocked"]
    assert all("cannot accept somebody who is recognisable" in found[name][1] for name in ("1.png", "4.png"))
    assert "the result shows the original mirrored" in found["4.png"][1]
    assert {path.name for path in output.iterdir()} == {"2.png", "2.json", "3.png", "3.json", RUN}
    record = json.loads((output / "2.json").read_text(encoding="utf-8"))
    assert record["format"] == "camouflage-accepted" and record["verdict"] == "accepted by a reviewer"
    assert any(": unverifiable," in said for said in record["verification"]) and ": safe" not in str(record)
    picture = Image.open(output / "2.png")
    assert picture.info == {} and picture.getextrema() == ((128, 128),) * 3
    assert json.loads((output / "3.json").read_text(encoding="utf-8"))["checked"]["nobody_passed"] is True


def test_what_reviewers_decide_is_applied(command, folder, tmp_path, capsys):
    output = tmp_path / "out"
    again = ("anonymize", folder, "--output", output)
    assert command(*again) == 3
    assert [state for state, _ in account(output).values()] == ["redacted", "redacted", "blocked", "redacted"]
    before = {path.name: path.read_bytes() for path in output.glob("*.*")}
    for name, word in (("1.png", "reject"), ("2.png", "redact"), ("3.png", "accept")):
        append(output, Decision(name, 0, word))
    assert command(*again) == 3
    assert account(output) == {"1.png": ("rejected", "rejected by a reviewer"), "2.png": ("redacted", ""),
                               "3.png": ("accepted", ""), "4.png": ("redacted", "")}
    after = {path.name: path.read_bytes() for path in output.glob("*.*")}
    assert set(after) == {f"{name}.{end}" for name in "234" for end in ("png", "json")}
    assert after["2.png"] == before["2.png"]
    saved, original = (Image.open(io.BytesIO(one)) for one in (after["3.png"], (folder / "3.png").read_bytes()))
    assert saved.tobytes() == original.tobytes()
    capsys.readouterr()
    assert command(*again) == 3
    assert "Everything is done already." in capsys.readouterr().out
