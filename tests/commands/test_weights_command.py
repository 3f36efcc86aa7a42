"""``run.py weights``: from the command line to the files, with a mirror on this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import mixed_photos
from camouflage.commands import launch, weights
from camouflage.errors import CamouflageError
from camouflage.files import ROOT
from camouflage.provision.pace import Pace
from camouflage.provision.plan import Downloads
from camouflage.provision.several import Task
from camouflage.provision.state import part_of
from camouflage.weights import REGISTRY, Weight, needed_by
from sampled import sampled

BASE = needed_by("base")


class Mirror(http.server.ThreadingHTTPServer):
    """Serves files by the path of their published address, with Range; ``pause``: seconds before every 8 kB."""

    daemon_threads = True

    def __init__(self, files: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.pause, self.asked = files, 0.0, 0

    def handle_error(self, *_: object) -> None:
        """Whoever was killed has hung up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked += 1
        file = self.server.files.get(self.path)
        if file is None:
            return self.send_error(404)
        size, start = file.stat().st_size, int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("ETag", f'"{size}"')
        self.end_headers()
        with open(file, "rb") as source:
            source.seek(start)
            while self.command == "GET" and (block := source.read(1 << 13 if self.server.pause else 1 << 20)):
                time.sleep(self.server.pause)
                self.wfile.write(block)
        return None


def serve(files: dict[Weight, Path]) -> Iterator[Mirror]:
    with Mirror({urlsplit(weight.url or "").path: file for weight, file in files.items()}) as mirror:
        threading.Thread(target=mirror.serve_forever, args=(0.02,), daemon=True).start()
        yield mirror
        mirror.shutdown()


def write_sums(models: Path, files: dict[Weight, Path]) -> None:
    """SHA256SUMS, with the digests of these files and nothing else in the folder."""
    (models / "camouflage").mkdir(parents=True, exist_ok=True)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {weight.path}\n" for weight, file in files.items()]
    (models / "camouflage" / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[Weight, Path]:
    """Seeded bytes in the place of every file of Base, which the mirror serves."""
    folder, numbers = tmp_path_factory.mktemp("published"), np.random.default_rng(0)
    files = {weight: folder / str(index) for index, weight in enumerate(BASE)}
    for weight, file in files.items():
        length = int(numbers.integers(2_000, 60_000))
        file.write_bytes(json.dumps("x" * length).encode() if weight.file.endswith("json") else numbers.bytes(length))
    return files


@pytest.fixture
def mirror(published) -> Iterator[Mirror]:
    yield from serve(published)


@pytest.fixture
def models(tmp_path, published, monkeypatch) -> Path:
    monkeypatch.setenv("CAMOUFLAGE_CACHE", str(tmp_path / "cache"))
    for name in ("HF_ENDPOINT", "HF_TOKEN", "http_proxy", "COMFYUI_PATH"):
        monkeypatch.delenv(name, raising=False)
    write_sums(tmp_path / "models", published)
    return tmp_path / "models"


def run(*arguments: object) -> int:
    return launch.main(["weights", *map(str, arguments)])


def facts(capsys, models: Path, action: str = "list") -> dict[str, dict]:
    """What --json says, by file."""
    capsys.readouterr()
    run(action, "--json", "--models", models, "--pipeline", "base")
    return {file["file"]: file for file in json.loads(capsys.readouterr().out)["files"]}


def right(models: Path, published: dict[Weight, Path]) -> list[Weight]:
    """Files that are there; each must be the published one, byte for byte."""
    there = [weight for weight in published if (models / weight.path).exists()]
    for weight in there:
        assert (models / weight.path).read_bytes() == published[weight].read_bytes(), weight.path
    return there


def test_all_of_a_pipeline_comes_once_and_is_what_list_says(models, mirror, published, capsys):
    get = ("get", "--pipeline", "base", "--mirror", f"http://127.0.0.1:{mirror.server_port}", "--models", models)
    assert {file["state"] for file in facts(capsys, models).values()} == {"missing"}
    assert run(*get) == 0
    told = capsys.readouterr().out
    assert told.startswith("27 files, 4.14 GB") and "Free on the disk:" in told
    assert "27 of 27 files have come." in told
    assert right(models, published) == list(BASE)
    for action in ("list", "verify"):
        found = facts(capsys, models, action)
        assert {file["state"] for file in found.values()} == {"present"}
        assert [file["size_on_disk"] for file in found.values()] == [file.stat().st_size for file in published.values()]
    asked = mirror.asked
    assert run(*get) == 0 and capsys.readouterr().out == "Nothing is missing.\n" and mirror.asked == asked
    leftovers = [path for path in models.rglob("*") if ".part" in path.name]
    assert leftovers == []


def test_what_is_damaged_is_named_and_replaced_only_if_wanted(models, mirror, published, capsys):
    get = ("get", "--pipeline", "base", "--mirror", f"http://127.0.0.1:{mirror.server_port}", "--models", models)
    assert run(*get) == 0
    weight = BASE[0]
    (models / weight.path).write_bytes(b"<html>login</html>")
    assert facts(capsys, models)[weight.path]["state"] == "damaged"
    assert run("verify", "--models", models) == 1
    assert f"damaged: {weight.role}, {weight.path}" in capsys.readouterr().out
    assert run(*get) == 1
    assert f"{models / weight.path} is damaged and was not touched. It is a web page" in capsys.readouterr().out
    assert (models / weight.path).read_bytes() == b"<html>login</html>"
    assert run(*get, "--replace-damaged") == 0
    assert right(models, published) == list(BASE)


def test_one_file_that_cannot_be_had_keeps_no_other(models, mirror, published, capsys):
    del mirror.files[urlsplit(BASE[3].url or "").path]
    assert run("get", "--pipeline", "base", "--mirror", f"http://127.0.0.1:{mirror.server_port}", "--models", models,
               "--jobs", "8") == 1
    told = capsys.readouterr().out
    assert f"failed: {BASE[3].path}. {BASE[3].url} could not be downloaded: the server answered 404" in told
    assert "26 of 27 files have come" in told and "1 failed" in told
    assert right(models, published) == [weight for weight in BASE if weight != BASE[3]]


def test_import_takes_what_another_machine_fetched(models, mirror, published, tmp_path, capsys):
    assert run("get", "--pipeline", "base", "--mirror", f"http://127.0.0.1:{mirror.server_port}", "--models", models
               ) == 0
    drive, other = tmp_path / "drive", tmp_path / "other"
    models.rename(drive)
    (drive / BASE[0].path).unlink()
    write_sums(other, published)
    capsys.readouterr()
    assert run("import", drive, "--pipeline", "base", "--models", other) == 1
    told = capsys.readouterr().out
    assert f"missing: {BASE[0].path}. It was not found." in told and "26 of 27 files have come." in told
    assert right(other, published) == list(BASE[1:])
    assert {file["state"] for file in facts(capsys, other).values()} == {"present", "missing"}
    assert run("import", tmp_path / "none", "--models", other) == 2


def test_get_asks_which_pipeline_and_how_large_each_is(models, capsys):
    assert run("get", "--models", models) == 2
    told = capsys.readouterr().err
    assert "  base: 27 files, 4.14 GB and 16 of unknown size" in told and "  light: 5 files" in told
    assert run("get", "--models", models, "--pipeline", "base", "--mirror", "mirror.example") == 2
    assert "--mirror must be an address" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_said_before_anything_comes(models, mirror, monkeypatch, capsys):
    free = weights.shutil.disk_usage(models)._replace(free=10**9)
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: free)
    assert run("get", "--pipeline", "base", "--mirror", f"http://127.0.0.1:{mirror.server_port}", "--models", models
               ) == 2
    told = capsys.readouterr()
    assert "Free on the disk: 1.00 GB." in told.out and "1.00 GB are free. Make room" in told.err
    assert [path.name for path in models.rglob("*") if path.is_file()] == ["SHA256SUMS"]


def test_commercial_safe_leaves_out_and_says_what(models, capsys):
    assert run("list", "--commercial-safe", "--pipeline", "base", "--models", models) == 0
    told = capsys.readouterr().out
    assert "leaves nothing for" not in told
    assert "run with --set 'Checkpoint.ckpt_name=v1-5-pruned-emaonly.safetensors'" in told
    assert "set 'network' of Pose Map to ViTPose, or run with --set 'Pose Map.network=ViTPose'" in told
    assert "30 files: 30 missing." in told and "openpose_fp16" in told and "body_pose_model" not in told
    assert "vitpose-base-simple/model.safetensors" in told and "rtdetr_r50vd/config.json" in told


def test_who_chooses_other_networks_needs_their_files_alone(models, published):
    from camouflage.commands.choosing import demand_weights

    comfyui = models.parent
    for weight in needed_by("base", ["ViTPose"]):
        (comfyui / "models" / weight.path).parent.mkdir(parents=True, exist_ok=True)
        (comfyui / "models" / weight.path).touch()
    demand_weights(["base"], comfyui, {"Pose Map.network": "ViTPose"}.values())
    with pytest.raises(CamouflageError, match="3 weight files are missing"):
        demand_weights(["base"], comfyui)


def test_licences_are_said_in_plain_words(models, capsys):
    assert run("licences", "--pipeline", "base") == 0
    told = capsys.readouterr().out
    assert "Nobody may use for commercial purposes: CMU OpenPose" in told and "camouflage/pose/facenet.pth" in told
    assert run("licences", "--json") == 0
    found = json.loads(capsys.readouterr().out)["licences"]
    assert sorted(file for one in found for file in one["files"]) == sorted(w.path for w in REGISTRY if w.url)
    assert {one["commercial"] for one in found if "OpenPose" in one["licence"]} == {False}


def test_two_at_once_are_one_too_many(models, mirror, tmp_path, capsys):
    with weights.only_one(tmp_path / "cache"):
        assert run("get", "--pipeline", "base", "--models", models) == 2
    assert "Weights are being fetched already" in capsys.readouterr().err and mirror.asked == 0


def test_the_meter_says_rate_and_time_left():
    tasks = [Task(weight, Path("x")) for weight in BASE[:3]]
    meter = weights.Meter(Pace(Downloads(tuple(tasks), {tasks[0]: 10_000_000}, dict.fromkeys(tasks, 0))))
    meter.pace.report(tasks[0], 2_000_000, None)
    assert meter.line(meter.pace.began + 2) == "0 of 3 files, 2.0 MB of 10.0 MB, 1.0 MB/s, 0:08 min left"
    assert weights.clock(3725) == "1:02 h"


def test_it_needs_no_environment(models, tmp_path):
    """The standard library alone, and a ComfyUI whose models lie elsewhere."""
    host = tmp_path / "comfyui"
    (host / "comfy").mkdir(parents=True)
    for name in ("main.py", "requirements.txt"):
        (host / name).write_text("")
    bare = partial(subprocess.run, capture_output=True, text=True, check=False)
    command = [sys.executable, "-I", "-S", str(ROOT / "run.py"), "weights", "list", "--comfyui", str(host)]
    done = bare([*command, "--pipeline", "light"])
    assert done.returncode == 0, done.stderr
    assert "7 files: 5 missing, 2 to be trained." in done.stdout
    assert not list((tmp_path / "cache").glob("venv-*"))
    (host / "extra_model_paths.yaml").write_text("mine:\n  vae: far\n")
    done = bare(command)
    assert done.returncode == 2 and "has no PyYAML to read it" in done.stderr


@pytest.mark.parametrize("number", sampled(range(20), 5))
def test_killed_at_any_moment_it_goes_on(models, mirror, published, number):
    mirror.pause, moment = 0.02, float(np.random.default_rng(number).uniform(0, 1.3))
    arguments = ["weights", "get", "--pipeline", "base", "--models", str(models), "--mirror",
                 f"http://127.0.0.1:{mirror.server_port}", "--jobs", "4"]
    child = subprocess.Popen([sys.executable, "-S", str(ROOT / "run.py"), *arguments], stdout=subprocess.DEVNULL,
                             env={**os.environ})
    while not mirror.asked and child.poll() is None:
        time.sleep(0.01)
    time.sleep(moment)
    child.kill()
    child.wait()
    first, mirror.pause = right(models, published), 0.0
    parts = [weight for weight in BASE if part_of(models / weight.path).exists()]
    assert len(parts) <= 4 + 4, "what runs at once"
    assert launch.main(arguments) == 0
    assert right(models, published) == list(BASE) and len(first) <= len(BASE)
    assert [path.name for path in models.rglob("*") if ".part" in path.name] == []


@pytest.mark.skipif(os.name == "nt", reason="a signal that only POSIX has")
def test_ctrl_c_keeps_the_parts_and_says_how_to_go_on(models, mirror, published):
    import signal

    mirror.pause = 0.02
    arguments = ["weights", "get", "--pipeline", "base", "--models", str(models), "--mirror",
                 f"http://127.0.0.1:{mirror.server_port}"]
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); import runpy; " \
            f"sys.argv = ['run.py', *sys.argv[1:]]; runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')"
    child = subprocess.Popen([sys.executable, "-c", start, *arguments], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
    while not list(models.rglob("*.part")) and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    told, _ = child.communicate(timeout=20)
    assert child.returncode == 130, told
    assert "What came is kept: the same command goes on from there." in told and "Traceback" not in told
    assert list(models.rglob("*.part")) and len(right(models, published)) < len(BASE)


def test_a_fresh_comfyui_paints_after_two_commands(command, comfyui, miniature_models, tmp_path, monkeypatch):
    """Base with what `weights get` fetched from a mirror of miniature weights, and nothing else."""
    monkeypatch.setenv("CAMOUFLAGE_CACHE", str(tmp_path / "cache"))
    fresh = tmp_path / "comfyui"
    fresh.mkdir()
    for entry in comfyui.iterdir():
        if entry.name not in ("models", "extra_model_paths.yaml"):
            (fresh / entry.name).symlink_to(entry)
    files = {weight: miniature_models / weight.path for weight in BASE}
    write_sums(fresh / "models", files)
    (tmp_path / "photo.png").write_bytes(mixed_photos.encoded(mixed_photos.portrait(160, "astronaut")))
    small = [f"{name} Map.resolution=64" for name in ("Depth", "Normal", "Segmentation", "Pose", "Lineart")]
    chosen = [part for setting in (*small, "Prepare Image.size=128", "Steps.steps=2") for part in ("--set", setting)]
    anonymize = ("anonymize", tmp_path / "photo.png", "--output", tmp_path / "out", "--pipeline", "base", *chosen,
                 "--comfyui", fresh)
    assert command(*anonymize) == 2, "nothing is there yet"
    for mirror in serve(files):
        assert command("weights", "get", "--pipeline", "base", "--comfyui", fresh, "--mirror",
                       f"http://127.0.0.1:{mirror.server_port}") == 0
    assert command(*anonymize) == 0
    assert (tmp_path / "out" / "photo.png").stat().st_size > 1000
    record = json.loads((tmp_path / "out" / "photo.json").read_text(encoding="utf-8"))
    assert record["models"] and record["sampling"]["anonymization_scale"] == 1.25
