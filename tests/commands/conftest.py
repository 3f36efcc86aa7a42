"""Commands in this process and as programs of their own, with this very environment in the place of the cache's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from camouflage.batch.host import Host, ServerOptions
from camouflage.commands import anonymize, demo, environments, experiment, launch
from camouflage.files import ROOT
from kept import kept

NAMES = ("CAMOUFLAGE_CACHE", "CAMOUFLAGE_COMFYUI", "COMFYUI_PATH", launch.HANDED_OVER, "WORLD_SIZE", "LOCAL_RANK")


@pytest.fixture
def fake_comfyui(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder that looks like a ComfyUI."""
    def make(name: str) -> Path:
        folder = tmp_path / name
        (folder / "comfy").mkdir(parents=True)
        (folder / "main.py").write_text("")
        (folder / "requirements.txt").write_text("torch\ntorchaudio\nTorchaudio>=2\ntorchaudio-foo\naiohttp>=3\n")
        return folder
    return make


class KeptHost(Host):
    """A worker's ComfyUI that goes on to the next test: starting it takes longer than most of them."""

    def close(self) -> None:
        """The server stays; one that has died makes room for a new one."""
        if self._server is not None and (self._server.process is None or self._server.process.poll() is not None):
            super().close()


class KeptHosts:
    """In the place of ``Host``: the same one for the same options; another ends the one before."""

    def __init__(self) -> None:
        self.host: Host | None = None

    def __call__(self, options: ServerOptions) -> Host:
        if self.host is None or self.host.options != options:
            self.close()
            self.host = KeptHost(options)
        return self.host

    def close(self) -> None:
        if self.host is not None:
            Host.close(self.host)


@pytest.fixture(scope="module")
def kept_host() -> Callable[[ServerOptions], Host]:
    return kept("host", lambda: contextlib.closing(KeptHosts()))


@pytest.fixture
def command(comfyui: Path, kept_host: Callable[[ServerOptions], Host], monkeypatch: pytest.MonkeyPatch
            ) -> Callable[..., int]:
    """``run.py`` with the given arguments, in this process; its exit code. COMFYUI_PATH names the real host."""
    host = str(comfyui)
    cache = os.environ.get("CAMOUFLAGE_CACHE")
    for name in NAMES:
        monkeypatch.setenv(name, "")  # whatever a command sets is undone in the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("COMFYUI_PATH", host)
    if cache:
        monkeypatch.setenv("CAMOUFLAGE_CACHE", cache)
    monkeypatch.setattr(environments, "environment", lambda *_: Path(sys.prefix))
    for module in (anonymize, experiment):
        monkeypatch.setattr(module, "Host", kept_host)
    monkeypatch.setattr(demo, "ComfyServer", lambda comfyui, models, cpu: contextlib.nullcontext(
        kept_host(ServerOptions(comfyui, models=tuple(models), cpu=cpu)).server()))
    return lambda *arguments: launch.main(list(map(str, arguments)))


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run.py`` with the given arguments as a process of its own, on a host; options as of ``subprocess.run``."""
    def run(host: Path, *arguments: object, python: str = sys.executable, script: Path = ROOT / "run.py",
            environment: dict[str, str] | None = None, **options: object) -> subprocess.CompletedProcess[str]:
        cache = tmp_path / "cache"
        for group in environments.REQUIREMENTS:
            texts = environments.requirement_texts(host, group)
            place = environments.environment_folder(cache, group, texts)
            place.parent.mkdir(exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(sys.prefix)
        clean = {name: value for name, value in os.environ.items() if name not in NAMES}
        return subprocess.run([python, str(script), *map(str, arguments)], text=True, capture_output=True, check=False,
                              env={**clean, "CAMOUFLAGE_CACHE": str(cache), **(environment or {})}, **options)
    return run
