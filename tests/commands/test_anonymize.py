"""``run.py anonymize`` on a real ComfyUI: every picture accounted for, in every form, stopped and gone on with."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

import mixed_photos
from camouflage.batch.accounts import Accounts
from camouflage.batch.photos import RUN
from camouflage.files import ROOT
from camouflage.output import manifests
from sampled import long

FEW = {"1": "astronaut", "2": "coffee", "3": "hopper"}  # the second shows nobody


def files(folder: Path) -> dict[str, bytes]:
    """What others get of an output."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and RUN not in path.parts}


def account(output: Path) -> dict[str, str]:
    """State of every picture by its key."""
    accounts = Accounts(output)
    return {line.key: line.state for number in range(len(list(accounts.folder.glob("*.jsonl"))))
            for line in accounts.read(number)}


def table(output: Path) -> dict[str, tuple[str, str]]:
    """The quarantine table: state and reason by key."""
    rows = list(csv.reader(io.StringIO((output / RUN / "quarantine.csv").read_text(encoding="utf-8"))))
    assert rows[0] == ["key", "state", "reason"]
    return {key: (state, reason) for key, state, reason in rows[1:]}


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> dict[str, bytes]:
    """Three small photos, as PNG files."""
    return {name: mixed_photos.encoded(mixed_photos.portrait(160, photo) if photo != "coffee"
                                       else mixed_photos.landscape(photo, 160)) for name, photo in FEW.items()}


@pytest.fixture
def folder(few, tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    for name, data in few.items():
        (tmp_path / "in" / f"{name}.png").write_bytes(data)
        (tmp_path / "in" / f"{name}.txt").write_text(f"caption {name}")
    return tmp_path / "in"


def test_every_one_of_a_mixed_folder_is_accounted_for(command, tmp_path, capsys):
    expected = mixed_photos.make(tmp_path / "in")
    output = tmp_path / "out"
    assert command("anonymize", tmp_path / "in", "--output", output, "--review") == 4
    told = capsys.readouterr().out
    assert "24 pictures in 1 part." in told and "Redaction was taken" in told
    assert "16 redacted, 2 blocked, 6 unreadable." in told
    assert account(output) == expected
    saved = [name for name, state in expected.items() if state == "redacted"]
    assert len(files(output)) == 2 * len(saved), "each with its record, and nothing else"
    withheld = table(output)
    assert {key: state for key, (state, _) in withheld.items()} == {
        key: state for key, state in expected.items() if state != "redacted"}
    assert "400 megapixels" in withheld["huge.png"][1] and "48 x 48 px" in withheld["small.png"][1]
    assert "No face was found" in withheld["landscape.webp"][1]
    for name, data in files(output).items():
        if name.endswith(".png"):
            record = manifests.read((output / name).with_suffix(".json").read_text(encoding="utf-8"))
            assert record["file"]["name"] == Path(name).name
            assert record["file"]["file_sha256"] == hashlib.sha256(data).hexdigest()
            assert record["checked"]["verdict"] == "redacted" and record["checked"]["width"] == 192
            picture = Image.open(io.BytesIO(data))
            assert picture.info == {} and picture.mode == "RGB" and not picture.getexif()
    turned, upright = (np.asarray(Image.open(output / f"{name}.png")).astype(int) for name in ("turned", "portrait"))
    assert np.abs(turned - upright).mean() < 3, "turned as its EXIF data said"
    twins = {name for name in files(output) if name.startswith("b/")}
    assert twins == {f"b/twin.{end}.{kind}" for end in ("jpg", "png") for kind in ("png", "json")}
    everything = b"".join(path.read_bytes() for path in output.rglob("*") if path.is_file() and RUN not in path.parts)
    assert b"Secret Camera" not in everything and str(tmp_path).encode() not in everything
    page = (output / RUN / "overview.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<img" not in page and "Residual risk</th><td>not measured" in page
    labels = json.loads((output / RUN / "fiftyone" / "labels.json").read_text(encoding="utf-8"))
    data = json.loads((output / RUN / "fiftyone" / "data.json").read_text(encoding="utf-8"))
    assert len(data) == 16 and data.keys() == labels["labels"].keys()
    assert all(Path(path).is_file() for path in data.values())
    assert all(0 <= side <= 1 for found in labels["labels"].values() for one in found for side in one["bounding_box"])
    if os.name != "nt":
        assert (output / RUN).stat().st_mode & 0o777 == 0o700


def make_tar(path: Path, few: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in few.items():
            for ending, content in (("png", data), ("txt", f"caption {name}".encode())):
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return path


def make_table(path: Path, few: dict[str, bytes]) -> Path:
    pq.write_table(pa.table({"id": list(few), "image": [{"bytes": data, "path": "secret.png"} for data in few.values()],
                             "txt": [f"caption {name}" for name in few]}), path)
    return path


def test_folder_tar_and_parquet_give_the_same_pixels_and_verdicts(command, few, folder, tmp_path, capsys):
    shard, parquet = make_tar(tmp_path / "x.tar", few), make_table(tmp_path / "x.parquet", few)
    assert command("anonymize", folder, "--output", tmp_path / "1", "--keep", "txt") == 3
    assert command("anonymize", shard, "--output", tmp_path / "2", "--keep", "txt") == 3
    assert command("anonymize", parquet, "--output", tmp_path / "3", "--keep", "txt", "--key", "id") == 3
    as_files = files(tmp_path / "1")
    assert set(as_files) == {f"{name}.{end}" for name in ("1", "3") for end in ("png", "json", "txt")}
    samples = {one["__key__"]: one for one in webdataset.WebDataset(str(tmp_path / "2" / "x.tar"), shardshuffle=False)}
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "3" / "x.parquet").to_pylist()}
    assert list(samples) == list(rows) == ["1", "3"]
    for name in ("1", "3"):
        assert as_files[f"{name}.png"] == samples[name]["png"] == rows[name]["image"]["bytes"]
        assert as_files[f"{name}.txt"] == samples[name]["txt"] == rows[name]["txt"].encode()
        record = json.loads(as_files[f"{name}.json"])
        assert record == json.loads(samples[name]["json"]) == json.loads(rows[name]["record"])
        assert rows[name]["verdict"] == record["checked"]["verdict"] == "redacted"
    assert [set(account(tmp_path / number).values()) for number in "123"] == [{"redacted", "blocked"}] * 3
    # What is done is not done again, and what would change pixels is refused.
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "1").rglob("*.png")}
    capsys.readouterr()
    assert command("anonymize", folder, "--output", tmp_path / "1", "--keep", "txt", "--review") == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "1").rglob("*.png")} == written
    told = capsys.readouterr().out
    assert "Everything is done already." in told and "Starting ComfyUI" not in told and "3 pictures to look at" in told


@pytest.mark.parametrize(("change", "said"), [
    (["--seed", "1"], "--seed (1, before 0)"), (["--batch-size", "2"], "--batch-size (2, before 1)"),
    (["--hash-names"], "--hash-names (true, before false)"), (["--keep", "txt"], "--keep"),
    (["--no-face", "pass"], "the workflow or a setting in it")])
def test_a_run_is_not_gone_on_with_by_other_settings(command, done, capsys, change, said):
    folder, output = done
    before = files(output)
    assert command("anonymize", folder, "--output", output, *change) == 2
    told = capsys.readouterr()
    assert said in told.err and files(output) == before
    assert ("Starting ComfyUI" in told.out) == ("workflow" in said)


@pytest.fixture(scope="module")
def done(few, kept_host, tmp_path_factory) -> tuple[Path, Path]:
    """A run over one photo that is finished; made by the worker itself, once for this file."""
    from camouflage.commands import anonymize, environments, launch

    place = tmp_path_factory.mktemp("done")
    (place / "in").mkdir()
    (place / "in" / "1.png").write_bytes(few["1"])
    with pytest.MonkeyPatch.context() as patch:
        import sys
        patch.setattr(environments, "environment", lambda *_: Path(sys.prefix))
        patch.setattr(anonymize, "Host", kept_host)
        patch.delenv(launch.HANDED_OVER, raising=False)
        assert launch.main(["anonymize", str(place / "in"), "--output", str(place / "out")]) == 0
    return place / "in", place / "out"


def test_a_source_that_is_not_what_it_was_is_refused(command, done, few, tmp_path, capsys):
    folder, output = (Path(shutil.copytree(path, tmp_path / path.name)) for path in done)
    (folder / "2.png").write_bytes(few["3"])
    assert command("anonymize", folder, "--output", output) == 2
    assert "the pictures in the source, from part 1 of 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(("output", "said"), [("in", "lie within each other"), ("in/out", "lie within each other"),
                                              ("full", "is not empty"), ("file", "is a file")])
def test_an_output_that_will_not_do_is_refused_before_anything_starts(command, folder, tmp_path, capsys, output, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    (tmp_path / "file").write_text("")
    assert command("anonymize", folder, "--output", tmp_path / output) == 2
    told = capsys.readouterr()
    assert said in told.err and "Starting ComfyUI" not in told.out


def test_names_can_be_hashed_and_nobody_passes_if_it_is_wanted(command, folder, tmp_path):
    assert command("anonymize", folder, "--output", tmp_path / "out", "--hash-names", "--no-face", "pass",
                   "--set", "Anonymized.format=JPEG") == 0
    written = files(tmp_path / "out")
    pictures = [name for name in written if name.endswith(".jpg")]
    assert len(pictures) == 3 and len(written) == 6
    assert all(name[:2] == Path(name).name[:2] and len(Path(name).stem) == 24 for name in pictures)
    assert sorted(account(tmp_path / "out").values()) == ["nobody", "redacted", "redacted"]


@long
def test_redact_gives_the_same_bytes_at_any_batch_size(command, folder, tmp_path):
    assert command("anonymize", folder, "--output", tmp_path / "1") == 3
    assert command("anonymize", folder, "--output", tmp_path / "2", "--batch-size", "2", "--seed", "5") == 3
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_what_was_tried_is_not_kept(command, folder, tmp_path, capsys):
    assert command("anonymize", folder, "--output", tmp_path / "out", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "3 of 3 pictures were tried, and nothing was kept: saved, blocked, saved." in told
    assert "s a picture" in told and not (tmp_path / "out").exists()


@long  # of one photo: tests/commands/test_weights_command.py; of batches: tests/server
def test_base_from_one_end_to_the_other(command, folder, tmp_path):
    """With miniature weights nobody is painted, so what is saved is covered; each picture has noise of its own."""
    small = [f"{name} Map.resolution=64" for name in ("Depth", "Normal", "Segmentation", "Pose", "Lineart")]
    chosen = [part for setting in (*small, "Prepare Image.size=128", "Steps.steps=2") for part in ("--set", setting)]
    assert command("anonymize", folder / "1.png", folder / "3.png", "--output", tmp_path / "out", "--pipeline", "base",
                   "--check-wiring", "--batch-size", "2", *chosen) == 0
    records = [json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8")) for name in ("1", "3")]
    assert [record["file"]["name"] for record in records] == ["1.png", "3.png"]
    assert all(record["models"] and record["sampling"]["anonymization_scale"] == 1.25 for record in records)
    assert records[0]["sampling"]["seed"] == records[1]["sampling"]["seed"] != 0
    first, second = (np.asarray(Image.open(tmp_path / "out" / f"{name}.png")).astype(int) for name in ("1", "3"))
    assert first.shape == second.shape == (128, 128, 3)
    assert np.abs(first - second).mean() > 1, "another picture, and noise of its own"
    settings = json.loads((tmp_path / "out" / RUN / "run.json").read_text(encoding="utf-8"))["settings"]
    assert settings["pipeline"] == "base" and settings["batch_size"] == 2


POISON = '''
import os
class Poison:
    """Ends the whole process for a picture that is red in its corner."""
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"image": ("IMAGE",)}}
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    def run(self, image):
        if image[0, 0, 0, 0] > 0.99 and image[0, 0, 0, 1] < 0.01:
            os._exit(7)
        return (image,)
NODE_CLASS_MAPPINGS = {"Poison": Poison}
'''


def test_a_picture_that_ends_comfyui_is_listed_and_the_others_go_on(command, few, tmp_path):
    """With a workflow of somebody's own, and another pack."""
    pack = tmp_path / "poison"
    pack.mkdir()
    (pack / "__init__.py").write_text(POISON)
    red = Image.open(io.BytesIO(few["1"]))
    red.paste((255, 0, 0), (0, 0, 2, 2))
    (tmp_path / "in").mkdir()
    for name, data in {"1.png": few["1"], "2.png": mixed_photos.encoded(red), "3.png": few["3"]}.items():
        (tmp_path / "in" / name).write_bytes(data)
    workflow = json.loads((ROOT / "tests" / "support" / "poison_workflow.json").read_text(encoding="utf-8"))
    (tmp_path / "mine.json").write_text(json.dumps(workflow))
    output = tmp_path / "out"
    assert command("anonymize", tmp_path / "in", "--output", output, "--workflow", tmp_path / "mine.json",
                   "--pack", pack) == 4
    assert account(output) == {"1.png": "redacted", "2.png": "failed", "3.png": "redacted"}
    assert table(output)["2.png"] == ("failed", "ComfyUI ended while it worked on this picture, twice")
    assert set(files(output)) == {"1.png", "1.json", "3.png", "3.json"}


@long
def test_a_real_workflow_file_gives_what_its_pipeline_gives(command, folder, tmp_path):
    assert command("anonymize", folder, "--output", tmp_path / "1") == 3
    assert command("anonymize", folder, "--output", tmp_path / "2", "--workflow",
                   ROOT / "workflows" / "camouflage_redact.json") == 3
    assert files(tmp_path / "1") == files(tmp_path / "2")
