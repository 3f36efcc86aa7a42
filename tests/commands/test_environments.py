"""The environments of the commands: finding the host, what is installed, the lock. No network."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from camouflage.commands import environments
from camouflage.errors import CamouflageError
from camouflage.files import ROOT


def test_the_named_host_goes_before_the_environment_variable(fake_comfyui, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = fake_comfyui("first"), fake_comfyui("second")
    monkeypatch.setenv("COMFYUI_PATH", str(second))
    assert environments.find_host(first) == first
    assert environments.find_host(None) == second


@pytest.mark.parametrize(("chosen", "variable"), [("{}", ""), (None, "{}")])
def test_a_folder_without_comfyui_is_refused_by_name(chosen: str | None, variable: str, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", variable.format(tmp_path))
    with pytest.raises(CamouflageError, match=r"must name a ComfyUI folder, one with main\.py") as caught:
        environments.find_host(Path(chosen.format(tmp_path)) if chosen else None)
    assert str(tmp_path) in str(caught.value)
    assert ("--comfyui" if chosen else "COMFYUI_PATH") in str(caught.value)


def test_the_comfyui_that_the_pack_lies_in_is_found(tmp_path: Path, fake_comfyui,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "run.py")])
    host = fake_comfyui("ComfyUI")
    monkeypatch.setattr(environments, "ROOT", host / "custom_nodes" / "any name")
    assert environments.find_host(None) == host
    monkeypatch.setattr(environments, "ROOT", tmp_path / "elsewhere" / "pack")
    assert environments.find_host(None) is None
    monkeypatch.setattr(sys, "argv", [str(host / "custom_nodes" / "a link" / "run.py")])
    assert environments.find_host(None) == host, "where it was called, for the pack may be a link"


class Pip:
    """In the place of pip: notes what it was asked for, and fails as often as there are messages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *failures: str) -> None:
        self.installs: list[list[str]] = []
        self.failures = list(failures)
        monkeypatch.setattr(environments, "make_venv", self.make_venv)
        monkeypatch.setattr(environments, "pip", self.pip)

    def make_venv(self, folder: Path) -> None:
        environments.venv_python(folder).parent.mkdir(parents=True)
        environments.venv_python(folder).touch()

    def pip(self, venv: Path, *arguments: str) -> None:
        assert arguments[0] == "install" and set(arguments[1::2]) == {"-r"}
        self.installs.append([Path(file).read_text(encoding="utf-8") for file in arguments[2::2]])
        if self.failures:
            raise environments.PipFailed(self.failures.pop(0))


def test_the_environment_is_built_once_and_again_after_an_interruption(
        tmp_path: Path, fake_comfyui, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    host, pip = fake_comfyui("host"), Pip(monkeypatch, "no network")
    with pytest.raises(environments.PipFailed, match="no network"):
        environments.environment(tmp_path, host, "base")
    venv = environments.environment(tmp_path, host, "base")
    assert len(pip.installs) == 2, "half-built: rebuilt"
    assert environments.environment(tmp_path, host, "base") == venv
    assert len(pip.installs) == 2, "complete: used as it is"

    capsys.readouterr()
    (host / "requirements.txt").write_text("torch\nnew\n")
    assert environments.environment(tmp_path, host, "base") != venv, "other requirements, other environment"
    assert "several minutes" in capsys.readouterr().out


@pytest.mark.parametrize(("group", "ours"), [
    ("base", ["requirements.txt", "camouflage/commands/requirements.txt"]),
    ("batch", ["requirements.txt", "camouflage/commands/requirements.txt", "camouflage/batch/requirements.txt"]),
    ("train", ["requirements.txt", "camouflage/commands/requirements.txt", "camouflage/training/requirements.txt"]),
    ("evaluate", ["requirements.txt", "camouflage/commands/requirements.txt",
                  "camouflage/evaluation/requirements.txt"]),
    ("test", ["requirements.txt", "camouflage/commands/requirements.txt", "camouflage/batch/requirements.txt",
              "camouflage/evaluation/requirements.txt", "camouflage/training/requirements.txt",
              "tests/requirements.txt"]),
])
def test_each_group_gets_what_the_host_asks_for_and_its_own_files_alone(
        group: str, ours: list[str], tmp_path: Path, fake_comfyui, monkeypatch: pytest.MonkeyPatch) -> None:
    host, pip = fake_comfyui("host"), Pip(monkeypatch)
    venv = environments.environment(tmp_path, host, group)
    assert pip.installs == [[file.read_text(encoding="utf-8")
                             for file in (host / "requirements.txt", *(ROOT / name for name in ours))]]
    assert venv.name.startswith(f"venv-{group}-")
    others = {environments.environment(tmp_path, host, other) for other in environments.REQUIREMENTS}
    assert len(others) == len(environments.REQUIREMENTS) == 5 and venv in others


def test_where_the_index_has_no_torchaudio_the_rest_is_installed_without_it(
        tmp_path: Path, fake_comfyui, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    host = fake_comfyui("host")
    pip = Pip(monkeypatch, "ERROR: No matching distribution found for torchaudio")
    venv = environments.environment(tmp_path, host, "train")
    full, without = pip.installs
    assert full[0] == "torch\ntorchaudio\nTorchaudio>=2\ntorchaudio-foo\naiohttp>=3\n"
    assert without == ["torch\ntorchaudio-foo\naiohttp>=3\n", *full[1:]], "that package and only that"
    assert "no torchaudio that fits" in capsys.readouterr().out
    assert environments.environment(tmp_path, host, "train") == venv
    assert len(pip.installs) == 2


@pytest.mark.parametrize("failures", [
    ["ERROR: No matching distribution found for aiohttp>=3"],
    ["ERROR: No matching distribution found for torchaudio-foo"],
    ["torchaudio conflicts", "ERROR: no matching distribution found for torch"],
])
def test_other_failures_of_pip_are_told(failures: list[str], tmp_path: Path, fake_comfyui,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    host, pip = fake_comfyui("host"), Pip(monkeypatch, *failures)
    with pytest.raises(environments.PipFailed, match=failures[-1]):
        environments.environment(tmp_path, host, "base")
    assert len(pip.installs) == len(failures)


def test_the_lock_lets_one_in_at_a_time_and_dies_with_its_holder(tmp_path: Path) -> None:
    path, order = tmp_path / "deep" / "x.lock", []
    hold = (f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pathlib, time\n"
            "from camouflage.commands.environments import lock\n"
            f"with lock(pathlib.Path({str(path)!r})): print('held', flush=True); time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    def enter() -> None:
        with environments.lock(path):
            order.append("entered")

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(0.3)
    assert order == []
    holder.kill()
    holder.wait()
    thread.join(10)
    assert order == ["entered"]
