"""The calibrate command on real photos: what counts, what is skipped, what is written."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageEnhance, ImageOps

from camouflage.commands import calibrate, launch
from camouflage.files import write_new
from camouflage.verification import names
from camouflage.verification.calibration import Calibration
from camouflage.verification.verify import Verifier

VARIANTS = 6


def variants(photo: Image.Image) -> list[Image.Image]:
    """Several photos of one person out of one."""
    width, height = photo.size
    return [photo, ImageOps.mirror(photo), ImageEnhance.Brightness(photo).enhance(1.3),
            ImageEnhance.Brightness(photo).enhance(0.7), photo.crop((0, 0, width, height * 9 // 10)),
            ImageEnhance.Contrast(photo).enhance(0.7)]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two persons with six photos each, and everything that a folder of photos should not, but does contain."""
    folder = tmp_path_factory.mktemp("people")
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as hopper:
        photos = {"Secret Collins": Image.fromarray(skimage.data.astronaut()), "Secret Hopper": hopper.convert("RGB")}
    for name, photo in photos.items():
        small = photo.resize((240, 240 * photo.height // photo.width))
        (folder / name / "more").mkdir(parents=True)
        for i, variant in enumerate(variants(small)):
            variant.save(folder / name / ("more" if i == 5 else "") / f"{i}.png")
    collins, hopper = folder / "Secret Collins", folder / "Secret Hopper"
    turned, exif = Image.open(collins / "0.png").rotate(90, expand=True), Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees to the right
    turned.save(collins / "0.png", exif=exif)
    pair = np.concatenate([np.array(Image.open(folder / name / "1.png").resize((256, 256))) for name in photos], 1)
    Image.fromarray(pair).save(hopper / "two.png")
    Image.fromarray(skimage.data.coffee()).resize((300, 200)).save(hopper / "coffee.png")
    (hopper / "broken.png").write_bytes((hopper / "0.png").read_bytes()[:3000])
    (hopper / "empty.jpg").touch()
    Image.open(collins / "1.png").save(hopper / "again.bmp")
    (hopper / ".hidden.jpg").write_bytes(b"hidden")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.jpg").write_bytes(b"hidden")
    (folder / "nobody").mkdir()
    (folder / "notes.txt").write_text("beside the persons")
    return folder


def test_a_folder_of_photos_becomes_a_calibration(people: Path, tmp_path: Path, command,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path / "c.json"), "--plot", str(tmp_path / "det.png"), "--", str(people)]
    (tmp_path / "c.json").write_text("mine")
    assert command("calibrate", *arguments) == 0
    said = capsys.readouterr().out

    assert (tmp_path / "c.json").read_text() == "mine", "never overwritten"
    text = (tmp_path / "c-2.json").read_text()
    calibration = Calibration.from_json(text)
    assert (calibration.persons, calibration.photos) == (2, 2 * VARIANTS), "the turned photo was set upright"
    assert (calibration.genuine, calibration.impostor, calibration.lowest_rate) == (30, 36, 0.1)
    point, = calibration.points
    assert 0.6 < point.threshold < 1.0 and point.false_rejects is not None and point.false_rejects.count == 0
    assert point.false_accepts.count == 3
    assert calibration.recogniser.name == "dlib ResNet" and len(calibration.recogniser.sha256) == 2
    assert not [word for word in ("Secret", "Collins", ".png", str(tmp_path), str(people)) if word in text]
    assert json.loads(text)["metric"] == "Euclidean"
    with Image.open(tmp_path / "det.png") as plot:
        assert plot.size[0] > 800 and not plot.info.get("Software")
        assert len(plot.convert("L").getcolors() or []) > 10, "something is drawn"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c-2.json", "c.json", "det.png"]

    hopper = f"Secret Hopper{os.sep}"
    for line in (f"2 faces (1): {hopper}two.png", f"no face (1): {hopper}coffee.png",
                 f"cannot be read as a picture (2): {hopper}broken.png, {hopper}empty.jpg",
                 f"the same picture as another one (1): {hopper}again.bmp",
                 "0.01      not supported: takes 300 pairs", "17/17",
                 "ComfyUI/models/camouflage/calibration/", str(tmp_path / "c-2.json")):
        assert line in said
    assert "hidden" not in said and "notes" not in said and "0 [too few persons]" in said and "0.1 takes 6" in said


def test_what_cannot_be_used_is_said(tmp_path: Path, command, fake_comfyui, capsys: pytest.CaptureFixture[str],
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.jpg").touch()
    assert command("calibrate", "--", str(tmp_path)) == 2
    assert "1 sub-folders, but a calibration needs a sub-folder for every person" in capsys.readouterr().err
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "b.jpg").touch()
    assert command("calibrate", "--output", str(tmp_path / "c.json"), "--", str(tmp_path)) == 2
    told = capsys.readouterr()
    assert "cannot be read as a picture (2)" in told.out and "at least 2 persons, but got 0" in told.err
    assert command("calibrate", "--output", str(tmp_path / "none" / "c.json"), "--", str(tmp_path)) == 2
    assert f"There is no folder {tmp_path / 'none'}" in capsys.readouterr().err
    monkeypatch.setenv("COMFYUI_PATH", str(fake_comfyui("ComfyUI")))
    assert command("calibrate", "--recogniser", "SFace", "--", tmp_path) == 2
    assert "Weights for 'face" in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()


def test_ctrl_c_leaves_nothing(people: Path, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "embed_photo", stop)
    assert command("calibrate", "--output", str(tmp_path / "c.json"), "--", str(people)) == 130
    assert "Stopped." in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_files_are_numbered_and_whole(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise FileExistsError if target.exists() else PermissionError

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    names = [write_new(tmp_path / "a.json", bytes([65 + i])).name for i in range(3)]
    assert names == ["a.json", "a-2.json", "a-3.json"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict(zip(names, "ABC", strict=True))


def test_the_command_line_and_the_command_know_the_same_recognisers() -> None:
    assert tuple(calibrate.LOAD_RECOGNISER) == launch.RECOGNISERS == names.RECOGNISERS
    assert inspect.signature(Verifier).parameters["smallest_face"].default == calibrate.SMALLEST_FACE
