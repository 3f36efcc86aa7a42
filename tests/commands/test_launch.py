"""run.py: the command line, the way into a command's environment, and how a command ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from camouflage.commands import calibrate, environments, launch
from camouflage.errors import CamouflageError
from camouflage.files import ROOT

BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)


@pytest.mark.parametrize(("name", "value"), [("--size", "63"), ("--steps", "0"), ("--seed", "-1"), ("--seed", "1.5")])
def test_numbers_outside_their_range_are_refused(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        launch.main(["demo", name, value])
    assert caught.value.code == 2
    assert name in capsys.readouterr().err


def test_a_missing_photo_stops_before_anything_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(environments, "prepare", lambda *_: pytest.fail("installed something"))
    assert launch.main(["demo", str(tmp_path / "none.jpg")]) == 2
    assert f"There is no photo {tmp_path / 'none.jpg'}" in capsys.readouterr().err


def test_a_calibration_without_folder_or_with_odd_files_stops_before_anything_is_installed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(environments, "prepare", lambda *_: pytest.fail("installed something"))
    assert launch.main(["calibrate", str(tmp_path / "none")]) == 2
    assert f"There is no folder {tmp_path / 'none'}" in capsys.readouterr().err
    for option, value in (("--output", "x.txt"), ("--plot", "x.jpg"), ("--recogniser", "x")):
        with pytest.raises(SystemExit) as caught:
            launch.main(["calibrate", str(tmp_path), option, value])
        assert caught.value.code == 2
        assert option in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (["light", "--dataset", "none", "--output", "o"], "There is no dataset"),
    (["prepare", ".", "--dataset", "d", "--num-shards", "2", "--shard", "2"], "--shard counts from 0"),
    (["export", "none", "--output", "x.safetensors"], "There is no run"),
])
def test_a_training_that_cannot_start_stops_before_anything_is_installed(
        arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(environments, "prepare", lambda *_: pytest.fail("installed something"))
    monkeypatch.chdir(tmp_path)
    assert launch.main(["train", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["--help"], 0, "prepare|light|identity|export|import|cost"),
    (["light", "--help"], 0, "run.py train light --dataset"),
    (["light"], 2, "--dataset"),
    (["cost", "--resolution", "500"], 2, "a multiple of 64 from 64 to 1024"),
    (["cost", "--odd"], 2, "run.py train cost --help"),
])
def test_the_training_explains_itself_without_an_environment(arguments: list[str], code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(ROOT / "run.py"), "train", *arguments],
                          capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize(("group", "typed", "expected"), [
    ("base", ["demo", "--steps", "3", "--", "-me.jpg"],
     {"photo": "-me.jpg", "output": "camouflage-demo", "steps": 3, "size": None, "seed": 0}),
    ("base", ["calibrate", "--plot", "det.png", "--", "-people"],
     {"folder": "-people", "output": "calibration.json", "plot": "det.png", "recogniser": "dlib ResNet"}),
    ("train", ["train", "prepare", "--dataset", "data", "--", "-people"], {"dataset": "data", "resolution": None}),
    ("test", ["test", "-k", "guider", "-x", "tests/tools"], {}),
])
def test_a_command_is_handed_over_as_it_was_typed(
        group: str, typed: list[str], expected: dict, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    handed, asked = [], []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-me.jpg").touch()
    (tmp_path / "-people").mkdir()
    monkeypatch.setattr(environments, "environment", lambda *given: asked.append(given[2]) or tmp_path / "venv")
    monkeypatch.setattr(environments, "hand_over", lambda *given: handed.append(given) or 7)
    assert command(*typed) == 7
    assert handed == [(tmp_path / "venv", typed)] and asked == [group]
    options = vars(launch.make_parser().parse_known_args(typed)[0])
    for name, value in expected.items():
        kept = isinstance(value, str) and name != "recogniser"
        assert options[name] == (tmp_path / value if kept else value), "paths are absolute"


@pytest.mark.skipif(os.name == "nt", reason="no exec")
def test_what_is_handed_over_runs_with_the_environments_python_in_the_same_folder(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execv(program: str, command: list[str]) -> None:
        raise SystemExit(f"{program} {command} in {Path.cwd()}")

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.chdir(tmp_path)
    python = tmp_path / "bin" / "python"
    with pytest.raises(SystemExit, match=re.escape(f"{python} {[str(python), str(ROOT / 'run.py'), 'x']} in {tmp_path}")
                       + "$"):
        environments.hand_over(tmp_path, ["x"])


@pytest.mark.skipif(os.name == "nt", reason="links")
@pytest.mark.parametrize("way", ["outside", "inside", "safe path", "linked"])
def test_an_environment_is_entered_once_from_wherever_run_is_called(
        way: str, tmp_path: Path, fake_comfyui, program) -> None:
    host, elsewhere = fake_comfyui("ComfyUI"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "nobody").mkdir()
    environment = {"COMFYUI_PATH": str(host)}
    script, python = ROOT / "run.py", BASE_PYTHON
    if way == "inside":
        python = sys.executable
    if way == "safe path":
        environment["PYTHONSAFEPATH"] = "1"
    if way == "linked":
        (host / "custom_nodes").mkdir()
        (host / "custom_nodes" / "pack").symlink_to(ROOT)
        script, environment = host / "custom_nodes" / "pack" / "run.py", {}
    done = program(host, "calibrate", "nobody", python=python, script=script, environment=environment, cwd=elsewhere,
                   timeout=120)
    told = f"{elsewhere / 'nobody'} has photos in 0 sub-folders"
    assert done.returncode == 2 and done.stderr.startswith(told), done.stderr
    assert "Building" not in done.stdout and len(done.stderr.splitlines()) == 1


def test_an_environment_that_is_never_entered_is_told_instead_of_started_for_ever(
        tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    handed = []
    monkeypatch.setattr(environments, "environment", lambda *_: tmp_path / "venv")
    monkeypatch.setattr(environments, "hand_over", lambda *given: handed.append(given) or 7)
    assert command("calibrate", tmp_path) == 7
    assert command("calibrate", tmp_path) == 2
    assert len(handed) == 1 and "PYTHONHOME" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, command, capsys: pytest.CaptureFixture[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(environments, "environment", fail)
    assert command("calibrate", tmp_path) == 2
    told = capsys.readouterr().err
    assert f"No space left on device: {tmp_path}" in told and "CAMOUFLAGE_CACHE" in told and "Traceback" not in told


class Later(CamouflageError):
    """ComfyUI failed."""

    exit_code = 1


@pytest.mark.parametrize(("ends", "code", "told"), [
    (CamouflageError("too bad"), 2, "too bad\n"), (Later("died"), 1, "died\n"),
    (KeyboardInterrupt(), 130, "\nStopped.\n"), (5, 5, ""), (None, 0, ""),
])
def test_every_command_ends_in_one_place(ends: object, code: int, told: str, tmp_path: Path, command,
                                         monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def main(options: object) -> object:
        if isinstance(ends, BaseException):
            raise ends
        return ends

    monkeypatch.setattr(calibrate, "main", main)
    assert command("calibrate", tmp_path) == code
    assert capsys.readouterr().err == told


@pytest.mark.skipif(os.name == "nt", reason="needs SIGTERM")
def test_a_polite_kill_runs_the_cleanup_and_the_handlers_before_come_back(
        tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = []

    def main(options: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    monkeypatch.setattr(calibrate, "main", main)
    watched = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    mine, before = (lambda *_: None), signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, mine)
    try:
        handlers = [signal.getsignal(number) for number in watched]
        with pytest.raises(SystemExit) as caught:
            command("calibrate", tmp_path)
        assert caught.value.code == 128 + signal.SIGTERM and cleaned == [True]
        assert [signal.getsignal(number) for number in watched] == handlers and handlers[1] is mine
    finally:
        signal.signal(signal.SIGHUP, before)
