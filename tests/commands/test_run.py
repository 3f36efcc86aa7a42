"""run.py: finding the host, the environment's key, the lock, the command line."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import run


def fake_comfyui(folder: Path) -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("")
    (folder / "requirements.txt").write_text("torch\ntorchaudio\nTorchaudio>=2\naiohttp>=3\n")
    return folder


def test_the_named_host_goes_before_the_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = fake_comfyui(tmp_path / "first"), fake_comfyui(tmp_path / "second")
    monkeypatch.setenv("COMFYUI_PATH", str(second))
    assert run.find_host(str(first)) == first
    assert run.find_host(None) == second


@pytest.mark.parametrize(("chosen", "variable"), [("{}", ""), (None, "{}")])
def test_a_folder_without_comfyui_is_refused_by_name(chosen: str | None, variable: str, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", variable.format(tmp_path))
    with pytest.raises(run.Problem, match=r"has to name a ComfyUI folder, one with main\.py") as caught:
        run.find_host(chosen and chosen.format(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert ("--comfyui" if chosen else "COMFYUI_PATH") in str(caught.value)


def test_the_comfyui_that_the_pack_lies_in_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    host = fake_comfyui(tmp_path / "ComfyUI")
    monkeypatch.setattr(run, "ROOT", host / "custom_nodes" / "any name")
    assert run.find_host(None) == host
    monkeypatch.setattr(run, "ROOT", tmp_path / "elsewhere" / "pack")
    assert run.find_host(None) is None


def test_the_environment_is_built_once_and_again_after_an_interruption(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    host, installs = fake_comfyui(tmp_path / "host"), []

    def make_venv(folder: Path) -> None:
        run.venv_python(folder).parent.mkdir(parents=True)
        run.venv_python(folder).touch()

    def pip(venv: Path, *arguments: str) -> None:
        installs.append((venv, arguments))
        if len(installs) == 1:
            raise run.Problem("no network")

    monkeypatch.setattr(run, "make_venv", make_venv)
    monkeypatch.setattr(run, "pip", pip)
    with pytest.raises(run.Problem, match="no network"):
        run.environment(tmp_path, host)
    python = run.environment(tmp_path, host)
    assert len(installs) == 2, "half-built: rebuilt"
    assert run.environment(tmp_path, host) == python
    assert len(installs) == 2, "complete: used as it is"
    venv, arguments = installs[1]
    assert arguments[0] == "install"
    assert arguments.count("-r") == 4
    assert (venv / "requirements-0.txt").read_text() == "torch\naiohttp>=3\n"
    assert "\npyarrow" in (venv / "requirements-3.txt").read_text(), "the one environment can train, too"

    capsys.readouterr()
    (host / "requirements.txt").write_text("torch\nnew\n")
    assert run.environment(tmp_path, host) != python, "other requirements, other environment"
    assert "several minutes" in capsys.readouterr().out


def test_the_lock_lets_one_in_at_a_time_and_dies_with_its_holder(tmp_path: Path) -> None:
    path, order = tmp_path / "deep" / "x.lock", []
    hold = f"import sys; sys.path.insert(0, {str(run.ROOT)!r}); import run, pathlib, time\n" \
           f"with run.lock(pathlib.Path({str(path)!r})): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    def enter() -> None:
        with run.lock(path):
            order.append("entered")

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(0.3)
    assert order == []
    holder.kill()
    holder.wait()
    thread.join(10)
    assert order == ["entered"]


@pytest.mark.parametrize(("name", "value"), [("--size", "63"), ("--steps", "0"), ("--seed", "-1"), ("--seed", "1.5")])
def test_numbers_outside_their_range_are_refused(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run.main(["demo", name, value])
    assert caught.value.code == 2
    assert name in capsys.readouterr().err


def test_a_missing_photo_stops_before_anything_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "environment", lambda *_: pytest.fail("installed something"))
    assert run.main(["demo", str(tmp_path / "none.jpg")]) == 2
    assert f"There is no photo {tmp_path / 'none.jpg'}" in capsys.readouterr().err


def test_a_calibration_without_folder_or_with_odd_files_stops_before_anything_is_installed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "environment", lambda *_: pytest.fail("installed something"))
    assert run.main(["calibrate", str(tmp_path / "none")]) == 2
    assert f"There is no folder {tmp_path / 'none'}" in capsys.readouterr().err
    for option, value in (("--output", "x.txt"), ("--plot", "x.jpg"), ("--recogniser", "x")):
        with pytest.raises(SystemExit) as caught:
            run.main(["calibrate", str(tmp_path), option, value])
        assert caught.value.code == 2
        assert option in capsys.readouterr().err


def test_commands_are_handed_over_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, handed = fake_comfyui(tmp_path / "host"), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAMOUFLAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "environment", lambda *_: Path("python"))
    monkeypatch.setattr(run, "hand_over", lambda python, arguments, *_: handed.append(arguments) or 7)
    (tmp_path / "-me.jpg").touch()
    assert run.main(["demo", "--comfyui", str(host), "--steps", "3", "--", "-me.jpg"]) == 7
    assert handed[0][:2] == ["-m", "camouflage.commands.demo"]
    options = run.make_parser().parse_args(["demo", *handed[0][2:]])
    assert (options.photo, options.output) == (tmp_path / "-me.jpg", tmp_path / "camouflage-demo")
    assert (options.steps, options.size, options.seed, options.weights) == (3, None, 0, "miniature")
    assert run.main(["test", "--comfyui", str(host), "-k", "guider", "-x", "tests/tools"]) == 7
    assert handed[1] == ["-m", "camouflage.commands.test", "-k", "guider", "-x", "tests/tools"]
    (tmp_path / "-people").mkdir()
    assert run.main(["calibrate", "--comfyui", str(host), "--plot", "det.png", "--", "-people"]) == 7
    assert handed[2][:2] == ["-m", "camouflage.commands.calibrate"]
    options = run.make_parser().parse_args(["calibrate", *handed[2][2:]])
    assert (options.folder, options.recogniser) == (tmp_path / "-people", "dlib ResNet")
    assert (options.output, options.plot) == (tmp_path / "calibration.json", tmp_path / "det.png")


def test_train_is_handed_over_as_it_was_typed_in_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                 ) -> None:
    host, handed = fake_comfyui(tmp_path / "host"), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAMOUFLAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "environment", lambda cache, host: Path("python of", host.name))
    monkeypatch.setattr(run, "hand_over", lambda *given: handed.append(given) or 7)
    (tmp_path / "-photos").mkdir()
    typed = ["prepare", "--comfyui", "host", "--dataset", "data", "--", "-photos"]
    assert run.main(["train", *typed]) == 7
    there = [str(run.ROOT / "training"), *typed]
    assert handed == [(Path("python of/host"), there, tmp_path / "cache", host, tmp_path)]


@pytest.mark.skipif(run.os.name == "nt", reason="no exec")
def test_what_is_handed_over_runs_in_the_folder_it_is_meant_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                ) -> None:
    def execv(program: str, command: list[str]) -> None:
        raise SystemExit(f"{command} in {Path.cwd()}")

    monkeypatch.setattr(run.os, "execv", execv)
    monkeypatch.chdir(tmp_path)
    for name in ("CAMOUFLAGE_CACHE", "CAMOUFLAGE_COMFYUI"):
        monkeypatch.setenv(name, "put back in the end")
    for folder, given in ((tmp_path, (tmp_path,)), (run.ROOT, ())):
        with pytest.raises(SystemExit, match=re.escape(f"['python', 'x'] in {folder}") + "$"):
            run.hand_over(Path("python"), ["x"], tmp_path, tmp_path, *given)


@pytest.mark.parametrize(("arguments", "said"), [
    (["light", "--dataset", "none", "--output", "o"], "There is no dataset"),
    (["prepare", ".", "--dataset", "d", "--num-shards", "2", "--shard", "2"], "--shard counts from 0"),
    (["export", "none", "--output", "x.safetensors"], "There is no run"),
])
def test_a_training_that_cannot_start_stops_before_anything_is_installed(
        arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "environment", lambda *_: pytest.fail("installed something"))
    monkeypatch.chdir(tmp_path)
    assert run.main(["train", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["--help"], 0, "prepare|light|identity|export|cost"),
    (["light", "--help"], 0, "run.py train light --dataset"),
    (["light"], 2, "--dataset"),
    (["cost", "--resolution", "500"], 2, "a multiple of 64 from 64 to 1024"),
    (["cost", "--odd"], 2, "run.py train cost --help"),
])
def test_the_training_explains_itself_without_an_environment(arguments: list[str], code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(run.ROOT / "run.py"), "train", *arguments],
                          capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
